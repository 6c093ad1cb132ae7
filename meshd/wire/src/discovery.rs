//! Which JSON do the discovery server and its clients exchange?
//!
//! REST bodies first, then the messages of the event WebSocket. Field names are the API's: they may be added to,
//! never renamed.

use std::{fmt, net::IpAddr, time::Duration};

use ed25519_dalek::SigningKey;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    NetworkId, NodeId,
    flat::FlatMessage,
    id::sign,
    peer_info::{PeerInfo, PeerRecord},
    problem::Problem,
};

/// The greatest WebSocket message or request body that either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Up to so many members each client has the whole list and hears of every change. Above, each hears of those that it
/// follows: what a change costs would grow with the square of the network's size.
pub const MAX_WHOLE_LIST: usize = 200;

/// Members that one answer to `GET .../peers` lists: some 1.2 MB of JSON. The next ones come with `?after=` the last name.
pub const PAGE: usize = 1_000;

/// Nodes and addresses that one [`ClientMessage::Follow`] may name: the answer to it is then at most some 100 kB.
pub const MAX_FOLLOW: usize = 64;

/// Members that one connection may follow.
pub const MAX_FOLLOWED: usize = 1_000;

/// The greatest signal payload that the server forwards, in bytes.
pub const MAX_SIGNAL: usize = 8 * 1024;

/// Signals of one connection that the server forwards at once; those beyond are lost.
pub const SIGNALS_AT_ONCE: u32 = 64;

/// After each of these times it forwards one more.
pub const SIGNAL_REFILL: Duration = Duration::from_millis(50);

/// `POST /api/v1/mesh/networks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// The name it shall have on this server.
    pub id: NetworkId,
    /// Where virtual addresses are taken from.
    pub cidr: Ipv4Net,
    /// The network's own Ed25519 public key; the private half stays on the creator's device. Without one whoever has the
    /// network's secret is a member.
    #[serde(default)]
    pub network_key: Option<NodeId>,
    /// What members will show as their bearer token ([`crate::psk::NetworkPsk::admission_token`]). The server keeps a hash of it.
    pub admission_token: String,
}

/// A network as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name on this server.
    pub id: NetworkId,
    /// Where virtual addresses are taken from.
    pub cidr: Ipv4Net,
    /// The network's Ed25519 public key, if it has one.
    pub network_key: Option<NodeId>,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Members, online or not.
    pub peer_count: u64,
    /// UDP port of the server's STUN service; absent when it has none.
    pub stun_port: Option<u16>,
    /// The address to reach STUN at, when it differs from the host of the server's URL.
    pub public_ip: Option<IpAddr>,
}

/// `GET /api/v1/mesh/networks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkList {
    /// All networks of the server, in order of name.
    pub networks: Vec<Network>,
}

/// `POST /api/v1/mesh/networks/{id}/peers`. Doing it again with a greater `seq` updates the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterPeer {
    /// What the node signed.
    pub record: PeerRecord,
    /// The address it had before, or would like; granted when it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_ip: Option<IpAddr>,
}

/// Body of `POST /networks/{id}/revocations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// A [`crate::trust::Revocation`] in its text form.
    pub revocation: String,
}

/// What a client says on the event WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Answers [`ServerMessage::Challenge`]: from here on the connection is this member's presence and mailbox.
    Hello {
        /// A registered member.
        node_id: NodeId,
        /// Base64 of the signature over [`hello_bytes`].
        signature: String,
    },
    /// Forwards `payload` to another member. Undeliverable signals come back as [`ServerMessage::Undeliverable`].
    Signal {
        /// The member to reach.
        to: NodeId,
        /// Opaque to the server: JSON of [`crate::signal::Signal`], at most [`MAX_SIGNAL`] bytes.
        payload: String,
    },
    /// Asks for members of a network whose list is not whole, and to hear of their changes from now on. Those that are
    /// found come as [`ServerMessage::PeerUpdated`]. Nodes are followed also before they are members. At most [`MAX_FOLLOW`]
    /// in all.
    Follow {
        /// Who.
        #[serde(default)]
        nodes: Vec<NodeId>,
        /// Whoever has these virtual addresses now.
        #[serde(default)]
        addresses: Vec<IpAddr>,
        /// Whoever has these names now.
        #[serde(default)]
        names: Vec<String>,
    },
}

/// What the server says on the event WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", try_from = "FlatMessage")]
pub enum ServerMessage {
    /// The first message: random text to be signed by whoever wants to be a member on this connection.
    Challenge {
        /// 32 random bytes in base64.
        nonce: String,
    },
    /// The whole list; sent after the challenge, and again whenever the client may have missed something.
    Snapshot {
        /// The revision that the list is at.
        revision: u64,
        /// Whether `peers` are all members, and whoever is not among them is none. If not, ask with [`ClientMessage::Follow`].
        complete: bool,
        /// All members, or none.
        peers: Vec<PeerInfo>,
        /// As [`crate::peer_info::Directory::revocations`].
        #[serde(default)]
        revocations: Vec<String>,
    },
    /// A new member registered.
    PeerJoined {
        /// The revision after the change.
        revision: u64,
        /// The member.
        peer: Box<PeerInfo>,
    },
    /// A member's record or presence changed.
    PeerUpdated {
        /// The revision after the change.
        revision: u64,
        /// The member as it is now.
        peer: Box<PeerInfo>,
    },
    /// A member deregistered.
    PeerLeft {
        /// The revision after the change.
        revision: u64,
        /// Who is gone.
        node_id: NodeId,
    },
    /// A key is out for good. Members that rest on it are told of separately.
    Revoked {
        /// The revision after the change.
        revision: u64,
        /// A [`crate::trust::Revocation`] in its text form.
        revocation: String,
    },
    /// Another member's signal.
    Signal {
        /// The sender, proven to the server by its hello.
        from: NodeId,
        /// As it was given.
        payload: String,
    },
    /// The member that a signal was meant for has no live connection.
    Undeliverable {
        /// Who could not be reached.
        to: NodeId,
    },
    /// How this member, and nobody else, may use the server's TURN; sent after its hello and again before that expires.
    Turn(TurnAccess),
    /// The server refuses something, or is about to close.
    Error {
        /// Why, and what helps.
        problem: Problem,
    },
}

/// What a member needs to be relayed by the server's TURN (RFC 8656).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnAccess {
    /// Names the member and when it expires; to be taken as it is.
    pub username: String,
    /// Belongs to this user name only.
    pub password: TurnPassword,
    /// The realm that the server will name.
    pub realm: String,
    /// Seconds since the Unix epoch, by the server's clock.
    pub expires_at: u64,
    /// Where TURN is served over UDP, on the host that STUN is reached at.
    pub udp_port: Option<u16>,
    /// Where TURN is served over TCP, on the same host.
    pub tcp_port: Option<u16>,
    /// Whether TURN is served in a WebSocket at `/api/v1/turn` of the discovery server too.
    #[serde(default)]
    pub websocket: bool,
}

/// A password for TURN. It is not shown, and wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct TurnPassword(String);

impl TurnPassword {
    /// Wraps the text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TurnPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnPassword")
    }
}

/// The bytes that a [`ClientMessage::Hello`] signs: bound to network and challenge, so that neither another network
/// nor a later connection can use the signature again.
pub fn hello_bytes(network: &NetworkId, nonce: &str) -> Vec<u8> {
    format!("meshd hello v1\0{network}\0{nonce}").into_bytes()
}

/// Answers a challenge.
pub fn hello(key: &SigningKey, network: &NetworkId, nonce: &str) -> ClientMessage {
    let signature = sign(key, &hello_bytes(network, nonce));
    ClientMessage::Hello {
        node_id: NodeId::of(key),
        signature: data_encoding::BASE64.encode(&signature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_tagged_by_type() {
        let json = serde_json::to_value(ServerMessage::Undeliverable {
            to: NodeId::from_bytes([0; 32]),
        })
        .unwrap();
        assert_eq!(json["type"], "undeliverable");
    }

    #[test]
    fn turn_access_is_one_flat_message_and_its_password_is_not_shown() {
        let message = ServerMessage::Turn(TurnAccess {
            username: "1800000000:node".to_owned(),
            password: TurnPassword::new("hunter2".to_owned()),
            realm: "mesh".to_owned(),
            expires_at: 1_800_000_000,
            udp_port: Some(3478),
            tcp_port: None,
            websocket: true,
        });
        let json = serde_json::to_value(&message).unwrap();
        assert_eq!(
            (&json["type"], &json["password"]),
            (&"turn".into(), &"hunter2".into())
        );
        assert_eq!(
            serde_json::from_value::<ServerMessage>(json).unwrap(),
            message
        );
        assert!(!format!("{message:?}").contains("hunter2"));
    }

    #[test]
    fn a_hello_is_bound_to_network_and_nonce() {
        let network = "my-network".parse().unwrap();
        assert_ne!(hello_bytes(&network, "a"), hello_bytes(&network, "b"));
        assert_ne!(
            hello_bytes(&network, "a"),
            hello_bytes(&"other".parse().unwrap(), "a")
        );
    }

    #[test]
    fn unknown_fields_of_a_request_are_refused() {
        let json =
            r#"{"id":"n","cidr":"10.0.0.0/8","network_key":"","admission_token":"x","extra":1}"#;
        assert!(serde_json::from_str::<CreateNetwork>(json).is_err());
    }
}
