//! A real API server on a temporary Unix socket and on 127.0.0.1, with a daemon behind it that answers by the book.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses another part of the fixture, and a test that cannot go on shall say where"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use mesh_wire::{
    NetworkId, NodeId, WireGuardKey,
    discovery::Network,
    join_link::JoinLink,
    peer_info::{Directory, PeerInfo, PeerRecord},
    problem::Problem,
    psk::NetworkPsk,
};
use meshd::{
    api::{ApiContext, ApiListeners, serve},
    control::{CONTROL_QUEUE, Control, PingFailure, Pong},
    state::{ApiToken, StateDir},
    status::{
        NatStatus, NodeStatus, PathKind, PeerStatus, Relays, ServerStatus, Status, Traffic, Trust,
    },
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Members by name; the number makes their keys and addresses. alice is the node itself.
const MEMBERS: [(&str, u8); 5] = [
    ("alice", 1),
    ("bob", 2),
    ("carol", 3),
    ("dave", 4),
    ("erin", 5),
];

/// The server, its daemon and what they were given.
pub(crate) struct TestApi {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) token: ApiToken,
    pub(crate) status: watch::Sender<Arc<Status>>,
    pub(crate) directory: watch::Sender<Arc<Directory>>,
    pub(crate) shutdown: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

/// How a request reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Socket,
    Tcp,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem document, checked for its form.
    pub(crate) fn problem(&self) -> Problem {
        let media_type = self.headers[http::header::CONTENT_TYPE].to_str().unwrap();
        assert_eq!(media_type, "application/problem+json", "{}", self.text());
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert!(!problem.title.is_empty());
        assert!(!problem.fix.is_empty(), "what helps? {problem}");
        problem
    }
}

impl TestApi {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let token = state.api_token().unwrap();
        let (status, status_receiver) = watch::channel(Arc::new(example_status()));
        let directory = watch::Sender::new(Arc::new(example_directory()));
        let (_, network) = watch::channel(Arc::new(example_network()));
        let (control, requests) = mpsc::channel(CONTROL_QUEUE);
        let shutdown = CancellationToken::new();
        let context = ApiContext {
            status: status_receiver,
            directory: directory.subscribe(),
            network,
            shares: sharing::ShareStore::open(&dir.path().join("shares.db"))
                .await
                .unwrap(),
            control,
            token: token.clone(),
        };
        let listeners = ApiListeners::bind(&socket_of(dir.path()), any_port())
            .await
            .unwrap();
        let address = listeners.tcp_address().unwrap();
        tokio::spawn(daemon(requests, shutdown.clone(), state));
        let server = tokio::spawn(serve(context, listeners, shutdown.clone()));
        Self {
            dir,
            address,
            token,
            status,
            directory,
            shutdown,
            server,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket_of(self.dir.path())
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn bearer(&self) -> String {
        let token = std::fs::read_to_string(self.dir.path().join("api-token")).unwrap();
        format!("Bearer {}", token.trim())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Via::Tcp, "GET", path, &[], "").await
    }

    /// Sends JSON over the Unix socket.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.request(Via::Socket, method, path, &[], body).await
    }

    /// Sends one request on a new connection. Headers replace the right ones that are sent otherwise; one with
    /// an empty value is left out.
    pub(crate) async fn request(
        &self,
        via: Via,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        let host = self.host();
        for (name, value) in [
            ("host", host.as_str()),
            ("content-type", "application/json"),
        ] {
            if !headers.iter().any(|(given, _)| *given == name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        match via {
            Via::Socket => {
                exchange(UnixStream::connect(self.socket()).await.unwrap(), request).await
            }
            Via::Tcp => exchange(TcpStream::connect(self.address).await.unwrap(), request).await,
        }
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.server)
            .await
            .expect("the server ends in time")
            .unwrap()
            .unwrap();
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// bob answers directly, carol through bob, dave not at all; erin is offline.
async fn daemon(
    mut requests: mpsc::Receiver<Control>,
    shutdown: CancellationToken,
    _state: StateDir,
) {
    while let Some(request) = requests.recv().await {
        match request {
            Control::Ping { node, reply } => {
                let _ = reply.send(pong(node));
            }
            Control::Down { reply } => {
                let _ = reply.send(());
                shutdown.cancel();
            }
            Control::Revoke { reply, .. } => {
                let _unheard = reply.send(Ok(()));
            }
            Control::Servers { reply, .. } => {
                let _unheard = reply.send(Ok(false));
            }
            Control::Invite { reply, .. } => {
                let _ = reply.send(Ok(example_link()));
            }
        }
    }
}

fn pong(node: NodeId) -> Result<Pong, PingFailure> {
    let answered = |path, endpoint: &str| {
        Ok(Pong {
            rtt: Duration::from_micros(12_345),
            path,
            endpoint: Some(endpoint.parse().unwrap()),
        })
    };
    let (name, _) = MEMBERS
        .iter()
        .find(|(_, number)| node_id(*number) == node)
        .unwrap();
    match *name {
        "bob" => answered(PathKind::Direct, "198.51.100.7:7081"),
        "carol" => answered(PathKind::Relay, "198.51.100.7:7081"),
        "dave" => Err(PingFailure::Timeout),
        "erin" => Err(PingFailure::Offline),
        _ => Err(PingFailure::NoSuchPeer),
    }
}

fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn node_id(number: u8) -> NodeId {
    NodeId::of(&signing_key(number))
}

fn network_id() -> NetworkId {
    "my-network".parse().unwrap()
}

pub(crate) fn example_directory() -> Directory {
    let peer = |(name, number): (&str, u8)| PeerInfo {
        name: name.to_owned(),
        virtual_ips: vec![[10, 100, 0, number].into()],
        online: name != "erin",
        last_seen: 1_800_000_000,
        record: PeerRecord::sign(
            &signing_key(number),
            &network_id(),
            WireGuardKey::from_bytes([number; 32]),
            name,
            (1, 7),
        )
        .unwrap(),
    };
    Directory {
        revocations: Vec::new(),
        revision: 9,
        peers: MEMBERS.map(peer).to_vec(),
    }
}

fn example_network() -> Network {
    Network {
        id: network_id(),
        cidr: "10.100.0.0/16".parse().unwrap(),
        network_key: Some(node_id(99)),
        created_at: 1_800_000_000,
        peer_count: 1,
        stun_port: Some(3478),
        public_ip: None,
    }
}

pub(crate) fn example_link() -> JoinLink {
    JoinLink {
        server: "http://198.51.100.2:7080/".parse().unwrap(),
        others: Vec::new(),
        network: network_id(),
        admission: None,
        psk: NetworkPsk::from_bytes([42; 32]),
    }
}

pub(crate) fn example_status() -> Status {
    let peer = |name: &str, number, path, via: &[&str]| PeerStatus {
        name: name.to_owned(),
        node_id: node_id(number),
        virtual_ips: vec![[10, 100, 0, number].into()],
        online: true,
        path,
        relays: Relays {
            transport: None,
            via: via.iter().map(|&hop| hop.to_owned()).collect(),
            direct_avoided: false,
        },
        endpoint: Some("198.51.100.7:7081".parse().unwrap()),
        rtt_ms: Some(12.5),
        traffic: Traffic {
            tx_bytes: 1000,
            rx_bytes: 2000,
            last_handshake_s: Some(3),
            last_heard_s: Some(1),
        },
        mtu: Some(1400),
    };
    Status {
        node: NodeStatus {
            version: "0.1.0".into(),
            node_id: node_id(1),
            name: "alice".into(),
            network: network_id(),
            interface: "mesh0".into(),
            virtual_ips: vec![[10, 100, 0, 1].into()],
            trust: Trust::Psk,
            listen_port: 7081,
            uptime_s: 61,
        },
        server: ServerStatus {
            url: "http://198.51.100.2:7080/".into(),
            connected: true,
            error: None,
            code: None,
            untrusted: false,
            retry_in_s: None,
        },
        servers: ["http://198.51.100.2:7080/", "https://b.example/"]
            .map(|url| ServerStatus {
                url: url.into(),
                connected: true,
                error: None,
                code: None,
                untrusted: false,
                retry_in_s: None,
            })
            .to_vec(),
        nat: NatStatus {
            mapped_addresses: vec!["203.0.113.5:40001".parse().unwrap()],
            behind_nat: Some(true),
            ..NatStatus::default()
        },
        peers: vec![
            peer("bob", 2, PathKind::Direct, &[]),
            peer("carol", 3, PathKind::Relay, &["bob"]),
        ],
        health: vec![
            Problem::new(0, "port-in-use", "tcp port 80 is in use")
                .detail("another program has it")
                .fix("stop it"),
        ],
        notes: Vec::new(),
        routes: Vec::new(),
        counters: BTreeMap::from([("replay".to_owned(), 3)]),
    }
}

pub(crate) fn socket_of(state_dir: &Path) -> PathBuf {
    state_dir.join("meshd.sock")
}

pub(crate) fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
