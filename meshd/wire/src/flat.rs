//! How is JSON of a hostile sender read without being taken apart first?
//!
//! serde reads enums with a tag, and fields that are flattened, by way of a tree of all that is there, known or not: 8 MB of
//! `0,0,0` become 130 MB. These forms have one level, so what nobody knows is passed over while it is read.

use std::{fmt, marker::PhantomData, net::IpAddr};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
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
#[derive(Deserialize)]
pub(crate) struct FlatMessage {
    #[serde(rename = "type")]
    kind: String,
    nonce: Option<String>,
    revision: Option<u64>,
    complete: Option<bool>,
    peers: Option<Vec<PeerInfo>>,
    #[serde(default, deserialize_with = "bounded")]
    revocations: Vec<String>,
    peer: Option<Box<PeerInfo>>,
    node_id: Option<NodeId>,
    revocation: Option<String>,
    from: Option<NodeId>,
    payload: Option<String>,
    to: Option<NodeId>,
    problem: Option<Problem>,
    username: Option<String>,
    password: Option<TurnPassword>,
    realm: Option<String>,
    expires_at: Option<u64>,
    udp_port: Option<u16>,
    tcp_port: Option<u16>,
}

impl TryFrom<FlatMessage> for ServerMessage {
    type Error = DecodeError;

    fn try_from(flat: FlatMessage) -> Result<Self, DecodeError> {
        const WHAT: &str = "message of the server";
        const LACKS: DecodeError = DecodeError::new(WHAT, "lacks a field of its kind");
        let revision = flat.revision.ok_or(LACKS);
        Ok(match flat.kind.as_str() {
            "challenge" => Self::Challenge {
                nonce: flat.nonce.ok_or(LACKS)?,
            },
            "snapshot" => Self::Snapshot {
                revision: revision?,
                complete: flat.complete.unwrap_or(true),
                peers: flat.peers.ok_or(LACKS)?,
                revocations: flat.revocations,
            },
            "peer_joined" => Self::PeerJoined {
                revision: revision?,
                peer: flat.peer.ok_or(LACKS)?,
            },
            "peer_updated" => Self::PeerUpdated {
                revision: revision?,
                peer: flat.peer.ok_or(LACKS)?,
            },
            "peer_left" => Self::PeerLeft {
                revision: revision?,
                node_id: flat.node_id.ok_or(LACKS)?,
            },
            "revoked" => Self::Revoked {
                revision: revision?,
                revocation: flat.revocation.ok_or(LACKS)?,
            },
            "signal" => Self::Signal {
                from: flat.from.ok_or(LACKS)?,
                payload: flat.payload.ok_or(LACKS)?,
            },
            "undeliverable" => Self::Undeliverable {
                to: flat.to.ok_or(LACKS)?,
            },
            "turn" => Self::Turn(TurnAccess {
                username: flat.username.ok_or(LACKS)?,
                password: flat.password.ok_or(LACKS)?,
                realm: flat.realm.ok_or(LACKS)?,
                expires_at: flat.expires_at.ok_or(LACKS)?,
                udp_port: flat.udp_port,
                tcp_port: flat.tcp_port,
            }),
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

/// A list that ends the reading when it has too many entries.
pub(crate) fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
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

    deserializer.deserialize_seq(Bounded(PhantomData))
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
                .contains("duplicate")
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
