//! One member: what it signs, and what it does on its event connection.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use futures::{SinkExt as _, StreamExt as _};
use mesh_wire::{
    NetworkId, NodeId, WireGuardKey,
    discovery::{ClientMessage, MAX_FOLLOW, RegisterPeer, ServerMessage, hello},
    peer_info::PeerRecord,
    trust::{Binding, Certificate, Issuer, Roles, Root, Span, default_mac},
};
use tokio::{
    net::TcpSocket,
    sync::mpsc,
    time::{interval_at, timeout},
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

/// As a daemon's.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network, with the secret half of its key.
pub(crate) struct Realm {
    pub(crate) id: NetworkId,
    pub(crate) key: SigningKey,
    pub(crate) token: String,
}

/// A member heard that another joined.
pub(crate) struct Seen {
    pub(crate) node: NodeId,
    pub(crate) at: Instant,
    pub(crate) bytes: usize,
}

/// A member, by its number.
pub(crate) struct Member {
    number: u32,
    key: SigningKey,
}

impl Member {
    pub(crate) fn new(number: u32) -> Self {
        let mut secret = [9; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let key = SigningKey::from_bytes(&secret);
        Self { number, key }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId::of(&self.key)
    }

    /// Its record, with a certificate by the network itself.
    pub(crate) fn register(&self, realm: &Realm) -> Result<RegisterPeer> {
        let root = Root {
            network: realm.id.clone(),
            key: NodeId::of(&realm.key),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let name = format!("member-{}", self.number);
        let wireguard_key = WireGuardKey::from_bytes(*self.id().as_bytes());
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + self.number);
        let binding = Binding {
            node_id: self.id(),
            wireguard_key,
            virtual_ips: vec![address.into()],
            mac: default_mac(&self.id()),
            name: name.clone(),
            roles: Roles::default(),
            subnets: Vec::new(),
            span: Span {
                from: now,
                until: now + 7 * 24 * 3600,
            },
            serial: 1,
        };
        let certificate = Certificate::sign(&root, &realm.key, &Issuer::Network, &binding)?;
        let record = PeerRecord::sign_with(
            &self.key,
            &realm.id,
            wireguard_key,
            (&name, Some(&certificate)),
            (1, 1),
        )?;
        Ok(RegisterPeer {
            record,
            requested_ip: None,
        })
    }

    /// Connects from an address of its own, shows who it is and follows others. Then heartbeats, for ever.
    pub(crate) async fn live(
        self,
        (server, realm): (SocketAddr, &Realm),
        follows: Vec<NodeId>,
        (connected, seen): (mpsc::Sender<()>, mpsc::Sender<Seen>),
    ) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        let [_, b, c, d] = (self.number + 256).to_be_bytes();
        socket.bind((IpAddr::from([127, b + 1, c, d]), 0).into())?;
        let stream = timeout(PATIENCE, socket.connect(server)).await??;
        let url = format!("ws://{server}/api/v1/mesh/networks/{}/events", realm.id);
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {}", realm.token).parse()?;
        request.headers_mut().insert("authorization", bearer);
        let small = WebSocketConfig::default().read_buffer_size(4096);
        let opening = client_async_with_config(request, stream, Some(small));
        let (mut socket, _) = timeout(PATIENCE, opening).await??;
        let answer = loop {
            let message = socket.next().await.context("closed at once")??;
            if let Message::Text(text) = message
                && let ServerMessage::Challenge { nonce } = serde_json::from_str(&text)?
            {
                break hello(&self.key, &realm.id, &nonce);
            }
        };
        socket.send(said(&answer)?).await?;
        for nodes in follows.chunks(MAX_FOLLOW) {
            let follow = ClientMessage::Follow {
                nodes: nodes.to_vec(),
                addresses: Vec::new(),
                names: Vec::new(),
            };
            socket.send(said(&follow)?).await?;
        }
        connected.send(()).await?;
        let mut heartbeat = interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            let message = tokio::select! {
                message = socket.next() => message.context("closed")??,
                _ = heartbeat.tick() => {
                    socket.send(Message::Ping(Vec::new().into())).await?;
                    continue;
                }
            };
            let Message::Text(text) = message else {
                continue;
            };
            let (at, bytes) = (Instant::now(), text.len());
            if let ServerMessage::PeerJoined { peer, .. } = serde_json::from_str(&text)? {
                let node = peer.record.node_id;
                seen.send(Seen { node, at, bytes }).await?;
            }
        }
    }
}

fn said(message: &ClientMessage) -> Result<Message> {
    Ok(Message::text(serde_json::to_string(message)?))
}
