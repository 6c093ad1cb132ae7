//! How is JSON of a hostile sender read without being taken apart first?
//!
//! serde reads enums with a tag, and fields that are flattened, by way of a tree of all that is there, known or not: 8 MB of
//! `0,0,0` become 130 MB. These forms have one level, so what nobody knows is passed over while it is read.

use std::{fmt, marker::PhantomData, net::IpAddr};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    DecodeError, NodeId, WireGuardKey,
    discovery::{ServerMessage, TurnAccess, TurnPassword},
    peer_info::{PeerInfo, PeerRecord},
    problem::Problem,
};

/// Entries of a list of small values: ten times as many revocations as a network of this version has.
const MAX_ENTRIES: usize = 10_000;

/// [`PeerInfo`] as it stands in JSON.
#[derive(Deserialize)]
pub(crate) struct FlatPeer {
    name: String,
    #[serde(deserialize_with = "bounded")]
    virtual_ips: Vec<IpAddr>,
    online: bool,
    last_seen: u64,
    node_id: NodeId,
    wireguard_key: WireGuardKey,
    hostname: String,
    seq: u64,
    instance: u64,
    signature: String,
    certificate: Option<String>,
}

impl From<FlatPeer> for PeerInfo {
    fn from(flat: FlatPeer) -> Self {
        Self {
            name: flat.name,
            virtual_ips: flat.virtual_ips,
            online: flat.online,
            last_seen: flat.last_seen,
            record: PeerRecord {
                node_id: flat.node_id,
                wireguard_key: flat.wireguard_key,
                hostname: flat.hostname,
                seq: flat.seq,
                instance: flat.instance,
                signature: flat.signature,
                certificate: flat.certificate,
            },
        }
    }
}

/// [`ServerMessage`] with the fields of all its kinds.
#[derive(Default)]
pub(crate) struct FlatMessage {
    kind: Option<String>,
    texts: Texts,
    nodes: Nodes,
    list: List,
    turn: Turn,
    problem: Option<Problem>,
}

#[derive(Default)]
struct Texts {
    nonce: Option<String>,
    payload: Option<String>,
    revocation: Option<String>,
}

#[derive(Default)]
struct Nodes {
    node_id: Option<NodeId>,
    from: Option<NodeId>,
    to: Option<NodeId>,
}

#[derive(Default)]
struct List {
    revision: Option<u64>,
    complete: Option<bool>,
    peers: Option<Vec<PeerInfo>>,
    peer: Option<Box<PeerInfo>>,
    revocations: Option<Bounded<String>>,
}

/// [`TurnAccess`].
#[derive(Default)]
struct Turn {
    username: Option<String>,
    password: Option<TurnPassword>,
    realm: Option<String>,
    expires_at: Option<u64>,
    udp_port: Option<Option<u16>>,
    tcp_port: Option<Option<u16>>,
    websocket: Option<bool>,
}

impl<'de> Deserialize<'de> for FlatMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FlatVisitor)
    }
}

struct FlatVisitor;

impl<'de> Visitor<'de> for FlatVisitor {
    type Value = FlatMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message of the server")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FlatMessage, A::Error> {
        let mut flat = FlatMessage::default();
        while let Some(key) = map.next_key::<String>()? {
            let map = &mut map;
            match key.as_str() {
                "type" => fill(&mut flat.kind, map)?,
                "nonce" => fill(&mut flat.texts.nonce, map)?,
                "payload" => fill(&mut flat.texts.payload, map)?,
                "revocation" => fill(&mut flat.texts.revocation, map)?,
                "node_id" => fill(&mut flat.nodes.node_id, map)?,
                "from" => fill(&mut flat.nodes.from, map)?,
                "to" => fill(&mut flat.nodes.to, map)?,
                "revision" => fill(&mut flat.list.revision, map)?,
                "complete" => fill(&mut flat.list.complete, map)?,
                "peers" => fill(&mut flat.list.peers, map)?,
                "peer" => fill(&mut flat.list.peer, map)?,
                "revocations" => fill(&mut flat.list.revocations, map)?,
                "username" => fill(&mut flat.turn.username, map)?,
                "password" => fill(&mut flat.turn.password, map)?,
                "realm" => fill(&mut flat.turn.realm, map)?,
                "expires_at" => fill(&mut flat.turn.expires_at, map)?,
                "udp_port" => fill(&mut flat.turn.udp_port, map)?,
                "tcp_port" => fill(&mut flat.turn.tcp_port, map)?,
                "websocket" => fill(&mut flat.turn.websocket, map)?,
                "problem" => fill(&mut flat.problem, map)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(flat)
    }
}

/// Reads the value of a field that was not there before.
fn fill<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    field: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    match field.replace(map.next_value()?) {
        Some(_) => Err(A::Error::custom("a field comes twice")),
        None => Ok(()),
    }
}

impl TryFrom<FlatMessage> for ServerMessage {
    type Error = DecodeError;

    fn try_from(flat: FlatMessage) -> Result<Self, DecodeError> {
        const WHAT: &str = "message of the server";
        const LACKS: DecodeError = DecodeError::new(WHAT, "lacks a field of its kind");
        let (list, texts, nodes) = (flat.list, flat.texts, flat.nodes);
        let revision = list.revision.ok_or(LACKS);
        Ok(match flat.kind.ok_or(LACKS)?.as_str() {
            "challenge" => Self::Challenge {
                nonce: texts.nonce.ok_or(LACKS)?,
            },
            "snapshot" => Self::Snapshot {
                revision: revision?,
                complete: list.complete.unwrap_or(true),
                peers: list.peers.ok_or(LACKS)?,
                revocations: list.revocations.unwrap_or_default().0,
            },
            "peer_joined" => Self::PeerJoined {
                revision: revision?,
                peer: list.peer.ok_or(LACKS)?,
            },
            "peer_updated" => Self::PeerUpdated {
                revision: revision?,
                peer: list.peer.ok_or(LACKS)?,
            },
            "peer_left" => Self::PeerLeft {
                revision: revision?,
                node_id: nodes.node_id.ok_or(LACKS)?,
            },
            "revoked" => Self::Revoked {
                revision: revision?,
                revocation: texts.revocation.ok_or(LACKS)?,
            },
            "signal" => Self::Signal {
                from: nodes.from.ok_or(LACKS)?,
                payload: texts.payload.ok_or(LACKS)?,
            },
            "undeliverable" => Self::Undeliverable {
                to: nodes.to.ok_or(LACKS)?,
            },
            "turn" => Self::Turn(flat.turn.access().ok_or(LACKS)?),
            "error" => Self::Error {
                problem: flat.problem.ok_or(LACKS)?,
            },
            _ => {
                return Err(DecodeError::new(
                    WHAT,
                    "is of a kind that this version does not know",
                ));
            }
        })
    }
}

impl Turn {
    fn access(self) -> Option<TurnAccess> {
        Some(TurnAccess {
            username: self.username?,
            password: self.password?,
            realm: self.realm?,
            expires_at: self.expires_at?,
            udp_port: self.udp_port.flatten(),
            tcp_port: self.tcp_port.flatten(),
            websocket: self.websocket.unwrap_or_default(),
        })
    }
}

/// A list that ends the reading when it has too many entries.
struct Bounded<T>(Vec<T>);

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bounded(deserializer).map(Self)
    }
}

/// Reads such a list.
pub(crate) fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Reader<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_ENTRIES}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() == MAX_ENTRIES {
                    return Err(A::Error::invalid_length(MAX_ENTRIES + 1, &self));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_seq(Reader(PhantomData))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn peer() -> PeerInfo {
        let key = SigningKey::from_bytes(&[1; 32]);
        let network = "my-network".parse().unwrap();
        let session_key = WireGuardKey::from_bytes([2; 32]);
        PeerInfo {
            name: "bob".into(),
            virtual_ips: vec![[10, 100, 0, 2].into()],
            online: true,
            last_seen: 7,
            record: PeerRecord::sign(&key, &network, session_key, "bob", (3, 4)).unwrap(),
        }
    }

    fn read(text: &str) -> Result<ServerMessage, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let node = NodeId::from_bytes([5; 32]);
        let text = String::from("x");
        for message in [
            ServerMessage::Challenge {
                nonce: text.clone(),
            },
            ServerMessage::Turn(TurnAccess {
                username: text.clone(),
                password: TurnPassword::new(text.clone()),
                realm: text.clone(),
                expires_at: 5,
                udp_port: Some(3478),
                tcp_port: None,
                websocket: true,
            }),
            ServerMessage::Snapshot {
                revision: 1,
                complete: false,
                peers: vec![peer()],
                revocations: vec![text.clone()],
            },
            ServerMessage::PeerJoined {
                revision: 1,
                peer: Box::new(peer()),
            },
            ServerMessage::PeerUpdated {
                revision: 1,
                peer: Box::new(peer()),
            },
            ServerMessage::PeerLeft {
                revision: 1,
                node_id: node,
            },
            ServerMessage::Revoked {
                revision: 1,
                revocation: text.clone(),
            },
            ServerMessage::Signal {
                from: node,
                payload: text,
            },
            ServerMessage::Undeliverable { to: node },
            ServerMessage::Error {
                problem: Problem::new(400, "no", "no"),
            },
        ] {
            let json = serde_json::to_string(&message).unwrap();
            assert_eq!(read(&json), Ok(message));
            let kind = json.find("\"type\":").unwrap();
            let bare = json[kind..].split([',', '}']).next().unwrap();
            assert!(
                read(&format!("{{{bare}}}")).unwrap_err().contains("lacks"),
                "{bare}"
            );
        }
    }

    #[test]
    fn a_field_that_nobody_knows_is_passed_over_and_one_that_comes_twice_is_refused() {
        let to = NodeId::from_bytes([5; 32]);
        let json = serde_json::to_string(&ServerMessage::Undeliverable { to }).unwrap();
        let with = |more: &str| read(&json.replacen('{', &format!("{{{more},"), 1));
        assert!(with(r#""more":[[1],{"a":2}]"#).is_ok());
        assert!(
            with(r#""type":"undeliverable""#)
                .unwrap_err()
                .contains("comes twice")
        );
        let peer = serde_json::to_string(&peer()).unwrap();
        let twice = peer.replacen('{', r#"{"seq":9,"#, 1);
        assert!(serde_json::from_str::<PeerInfo>(&twice).is_err());
    }

    #[test]
    fn long_lists_of_nothing_and_deep_ones_take_neither_memory_nor_stack() {
        let list = vec![r#""""#; MAX_ENTRIES + 1].join(",");
        let long =
            format!(r#"{{"type":"snapshot","revision":1,"peers":[],"revocations":[{list}]}}"#);
        assert!(read(&long).unwrap_err().contains("at most"));
        let nested = |name: &str| {
            let (open, close) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
            read(&format!(
                r#"{{"type":"challenge","nonce":"x","{name}":{open}{close}}}"#
            ))
        };
        assert!(nested("more").is_ok(), "what nobody knows needs no stack");
        assert!(nested("peers").is_err());
    }
}
