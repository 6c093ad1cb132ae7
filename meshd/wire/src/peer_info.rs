//! What does one member know of another, and who vouches for it?

use std::net::IpAddr;

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::{
    DecodeError, NetworkId, NodeId, WireGuardKey,
    flat::{FlatPeer, bounded},
    id::{check_host_name, sign},
    trust::{Certificate, MAX_CERTIFICATE, Root},
};

/// The longest text of a certificate, in bytes.
const LONGEST_CERTIFICATE: usize = MAX_CERTIFICATE.div_ceil(3) * 4;

/// What a node says of itself, signed with its identity key. The discovery server can neither alter it nor
/// make one up for another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// The identity that signs.
    pub node_id: NodeId,
    /// The key of its WireGuard sessions.
    pub wireguard_key: WireGuardKey,
    /// The host name it would like to have in the network: a DNS label that is no node id.
    pub hostname: String,
    /// Rises with every record that the node signs, across restarts. A receiver keeps the greatest.
    pub seq: u64,
    /// Random per start of the daemon: a change tells peers that all its sessions are gone.
    pub instance: u64,
    /// Base64 of the Ed25519 signature (64 bytes) over [`PeerRecord::signed_bytes`].
    pub signature: String,
    /// What makes the node a member, in networks with a key: a [`crate::trust::Certificate`] in its text form. Under the
    /// signature, so that nobody else can put one that it never took in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl PeerRecord {
    /// Makes and signs a record for `network`.
    pub fn sign(
        key: &SigningKey,
        network: &NetworkId,
        wireguard_key: WireGuardKey,
        hostname: &str,
        (seq, instance): (u64, u64),
    ) -> Result<Self, DecodeError> {
        Self::sign_with(
            key,
            network,
            wireguard_key,
            (hostname, None),
            (seq, instance),
        )
    }

    /// As [`Self::sign`], with the certificate of a network that has a key.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn sign_with(
        key: &SigningKey,
        network: &NetworkId,
        wireguard_key: WireGuardKey,
        (hostname, certificate): (&str, Option<&Certificate>),
        (seq, instance): (u64, u64),
    ) -> Result<Self, DecodeError> {
        check_host_name(hostname)?;
        let mut record = Self {
            node_id: NodeId::of(key),
            wireguard_key,
            hostname: hostname.to_owned(),
            seq,
            instance,
            signature: String::new(),
            certificate: certificate.map(Certificate::to_text),
        };
        record.signature = BASE64.encode(&sign(key, &record.signed_bytes(network)));
        Ok(record)
    }

    /// Checks that the record is well-formed and was signed by its node for `network`.
    pub fn verify(&self, network: &NetworkId) -> Result<(), DecodeError> {
        const WHAT: &str = "peer record";
        check_host_name(&self.hostname)?;
        if self
            .certificate
            .as_ref()
            .is_some_and(|text| text.len() > LONGEST_CERTIFICATE)
        {
            return Err(DecodeError::new(WHAT, "has a certificate that is too long"));
        }
        let signature = BASE64
            .decode(self.signature.as_bytes())
            .map_err(|_| DecodeError::new(WHAT, "has a signature that is not base64"))?;
        if !self.node_id.verify(&self.signed_bytes(network), &signature) {
            return Err(DecodeError::new(
                WHAT,
                "was not signed by its node for this network",
            ));
        }
        Ok(())
    }

    /// The certificate that it states, verified or not; `None` if it states none that can be read.
    pub fn stated_certificate(&self) -> Option<Certificate> {
        Certificate::from_text(self.certificate.as_deref()?).ok()
    }

    /// The certificate that makes its node a member of the network that `root` stands for: signed by who may, and for
    /// exactly this node and session key. Whether it holds today, and whether a key is revoked, is for the caller.
    ///
    /// # Errors
    /// If there is none, or it is not that.
    pub fn certified(&self, root: &Root) -> Result<Certificate, DecodeError> {
        const WHAT: &str = "peer record";
        let text = self
            .certificate
            .as_deref()
            .ok_or(DecodeError::new(WHAT, "has no certificate"))?;
        let certificate = Certificate::from_text(text)?;
        let binding = &certificate.binding;
        if (binding.node_id, binding.wireguard_key) != (self.node_id, self.wireguard_key) {
            return Err(DecodeError::new(WHAT, "has the certificate of other keys"));
        }
        certificate.verify(root)?;
        Ok(certificate)
    }

    /// The bytes under the signature: a domain tag, then each field with its length (u32, big-endian) in front,
    /// so that no two records share an encoding.
    pub fn signed_bytes(&self, network: &NetworkId) -> Vec<u8> {
        let mut bytes = b"meshd peer record v2".to_vec();
        for field in [
            network.as_str().as_bytes(),
            self.node_id.as_bytes(),
            self.wireguard_key.as_bytes(),
            self.hostname.as_bytes(),
            &self.seq.to_be_bytes(),
            &self.instance.to_be_bytes(),
            self.certificate.as_deref().unwrap_or_default().as_bytes(),
        ] {
            bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }
}

/// Shorter beginnings of a node id could be those of two members too easily: 8 characters are 40 bits.
const SHORTEST_PREFIX: usize = 8;

/// A member as the discovery server lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatPeer")]
pub struct PeerInfo {
    /// The name in this network: the wished host name, with `-2`, `-3`, ... behind it where it was taken.
    pub name: String,
    /// Addresses on the virtual LAN, IPv4 first.
    pub virtual_ips: Vec<IpAddr>,
    /// Whether the server has a live event connection from it.
    pub online: bool,
    /// Seconds since the Unix epoch of the last sign of life that the server saw.
    pub last_seen: u64,
    /// What the node signed.
    #[serde(flatten)]
    pub record: PeerRecord,
}

/// All members of the joined network, as last heard. Never emptied because of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The server's revision of the list; rises with every change.
    pub revision: u64,
    /// The members, ourselves included, in order of name.
    pub peers: Vec<PeerInfo>,
    /// The keys that are out for good, each a [`crate::trust::Revocation`] in its text form.
    #[serde(default, deserialize_with = "bounded")]
    pub revocations: Vec<String>,
}

impl Directory {
    /// The member with this identity.
    pub fn by_node(&self, node: &NodeId) -> Option<&PeerInfo> {
        self.peers.iter().find(|peer| peer.record.node_id == *node)
    }

    /// The member that owns this virtual address.
    pub fn by_address(&self, address: IpAddr) -> Option<&PeerInfo> {
        self.peers
            .iter()
            .find(|peer| peer.virtual_ips.contains(&address))
    }

    /// The member that a person means: by node id, virtual address, name, or the beginning of a node id (8 characters
    /// at least). `None` if there is none, and if the text could mean two members: nobody can take over what others
    /// type by giving a host a name that looks like an id.
    pub fn find(&self, text: &str) -> Option<&PeerInfo> {
        if let Ok(node) = text.parse() {
            return self.by_node(&node);
        }
        if let Ok(address) = text.parse() {
            return self.by_address(address);
        }
        let mut meant = self.peers.iter().filter(|peer| {
            peer.name.eq_ignore_ascii_case(text)
                || (text.len() >= SHORTEST_PREFIX
                    && peer.record.node_id.to_string().starts_with(text))
        });
        match (meant.next(), meant.next()) {
            (Some(peer), None) => Some(peer),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NetworkId {
        "my-network".parse().unwrap()
    }

    fn record() -> PeerRecord {
        let key = SigningKey::from_bytes(&[3; 32]);
        PeerRecord::sign(
            &key,
            &network(),
            WireGuardKey::from_bytes([4; 32]),
            "alice",
            (1, 2),
        )
        .unwrap()
    }

    #[test]
    fn a_signed_record_verifies_for_its_network_only() {
        assert_eq!(record().verify(&network()), Ok(()));
        assert!(record().verify(&"other".parse().unwrap()).is_err());
    }

    #[test]
    fn every_field_is_under_the_signature() {
        let changes: [fn(&mut PeerRecord); 6] = [
            |r| r.certificate = Some("x".into()),
            |r| r.node_id = NodeId::from_bytes([9; 32]),
            |r| r.wireguard_key = WireGuardKey::from_bytes([9; 32]),
            |r| r.hostname = "mallory".into(),
            |r| r.seq += 1,
            |r| r.instance += 1,
        ];
        for change in changes {
            let mut record = record();
            change(&mut record);
            assert!(record.verify(&network()).is_err(), "{record:?}");
        }
    }

    fn peer(key: u8, name: &str, address: &str) -> PeerInfo {
        let key = SigningKey::from_bytes(&[key; 32]);
        let wireguard = WireGuardKey::from_bytes([4; 32]);
        PeerInfo {
            name: name.into(),
            virtual_ips: vec![address.parse().unwrap()],
            online: true,
            last_seen: 0,
            record: PeerRecord::sign(&key, &network(), wireguard, "host", (1, 2)).unwrap(),
        }
    }

    #[test]
    fn a_node_id_is_no_host_name() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let victim = NodeId::from_bytes([7; 32]).to_string();
        let wireguard = WireGuardKey::from_bytes([4; 32]);
        assert!(PeerRecord::sign(&key, &network(), wireguard, &victim, (1, 2)).is_err());
        // Signed nevertheless, by a member that does not keep to this.
        let mut record = record();
        record.hostname = victim;
        record.signature = BASE64.encode(&sign(&key, &record.signed_bytes(&network())));
        let error = record.verify(&network()).unwrap_err().to_string();
        assert!(error.contains("node id"), "{error}");
    }

    #[test]
    fn a_name_that_looks_like_another_members_id_leads_nowhere_and_an_id_to_its_owner() {
        let victim = peer(3, "alice", "10.100.0.2");
        let id = victim.record.node_id;
        let found = |name: &str, text: &str| {
            let directory = Directory {
                revision: 1,
                revocations: Vec::new(),
                peers: vec![peer(9, name, "10.100.0.3"), victim.clone()],
            };
            directory.find(text).map(|peer| peer.record.node_id)
        };
        let full = id.to_string();
        assert_eq!(found(&full, &full), Some(id), "whoever gave out that name");
        assert_eq!(found("10.100.0.2", "10.100.0.2"), Some(id));
        for prefix in [id.short(), full[..20].to_owned()] {
            assert_eq!(found(&prefix, &prefix), None, "{prefix}");
            assert_eq!(found("bob", &prefix), Some(id), "{prefix}");
        }
        // A name that is the beginning of its own member's id means one member only.
        let own = peer(9, "", "10.100.0.3").record.node_id;
        assert_eq!(found(&own.short(), &own.short()), Some(own));
        // An id that nobody has is nobody's, even as a name.
        let nobody = NodeId::from_bytes([7; 32]).to_string();
        assert_eq!(found(&nobody, &nobody), None);
    }

    #[test]
    fn a_peer_is_found_by_what_people_type() {
        let peer = peer(3, "alice", "10.100.0.2");
        let record = peer.record.clone();
        let directory = Directory {
            revision: 1,
            revocations: Vec::new(),
            peers: vec![peer],
        };
        for text in [
            "alice",
            "Alice",
            "10.100.0.2",
            &record.node_id.short(),
            &record.node_id.to_string(),
        ] {
            assert!(directory.find(text).is_some(), "{text}");
        }
        for text in ["", "bob", "10.100.0.3", "a"] {
            assert!(directory.find(text).is_none(), "{text}");
        }
    }
}
