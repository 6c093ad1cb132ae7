//! Who is asking: the administrator, a member of a network, or a node about itself?

mod admin;

pub(crate) use admin::AdminTokens;
pub use admin::{AdminTokenError, AdminTokenSource};
use data_encoding::BASE64;
use mesh_wire::{NetworkId, NodeId};

/// The request header that carries the time of a [`deregister_bytes`] signature, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "mesh-timestamp";

/// The request header that carries the base64 of the signature over [`deregister_bytes`].
pub const SIGNATURE_HEADER: &str = "mesh-signature";

/// How far the time of a signature may be from the server's clock, in seconds: wide enough for hosts without a
/// time service, short enough that a recorded request soon is worthless.
pub const MAX_CLOCK_SKEW: u64 = 300;

/// The bytes that a node signs to deregister itself. Bound to the record's `seq`, so that the request is worthless
/// once the node has registered again, and to a time within [`MAX_CLOCK_SKEW`].
pub fn deregister_bytes(network: &NetworkId, node: &NodeId, seq: u64, timestamp: u64) -> Vec<u8> {
    format!("meshd deregister v1\0{network}\0{node}\0{seq}\0{timestamp}").into_bytes()
}

/// A node's proof that a request comes from itself, as its headers carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeProof {
    pub(crate) timestamp: u64,
    pub(crate) signature: Vec<u8>,
}

impl NodeProof {
    /// Reads the two headers' values; `None` if either is malformed.
    pub(crate) fn parse(timestamp: &str, signature: &str) -> Option<Self> {
        Some(Self {
            timestamp: timestamp.parse().ok()?,
            signature: BASE64.decode(signature.as_bytes()).ok()?,
        })
    }

    /// Whether `node` itself asks, now, to deregister the record with this `seq`.
    pub(crate) fn proves(&self, network: &NetworkId, node: &NodeId, seq: u64, now: u64) -> bool {
        let bytes = deregister_bytes(network, node, seq, self.timestamp);
        self.timestamp.abs_diff(now) <= MAX_CLOCK_SKEW && node.verify(&bytes, &self.signature)
    }
}

/// All that the server keeps of a bearer token. Comparing two of them takes constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Tokens are random, so a fast hash is as good as a slow one.
    pub(crate) fn of(token: &str) -> Self {
        let key = blake3::derive_key("meshd 2026-11 stored bearer token v1", token.as_bytes());
        Self(key.into())
    }

    /// From the 32 bytes that [`Self::as_bytes`] gave.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes.into())
    }

    /// To be stored.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_proof_is_bound_to_network_node_seq_and_time() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let (node, network) = (NodeId::of(&key), "net".parse::<NetworkId>().unwrap());
        let signature = mesh_wire::id::sign(&key, &deregister_bytes(&network, &node, 5, 1_000));
        let proof = NodeProof::parse("1000", &BASE64.encode(&signature)).unwrap();
        assert!(proof.proves(&network, &node, 5, 1_000 + MAX_CLOCK_SKEW));
        assert!(proof.proves(&network, &node, 5, 1_000 - MAX_CLOCK_SKEW));
        assert!(!proof.proves(&network, &node, 5, 1_001 + MAX_CLOCK_SKEW));
        assert!(!proof.proves(&network, &node, 6, 1_000));
        assert!(!proof.proves(&"other".parse().unwrap(), &node, 5, 1_000));
        assert!(!proof.proves(&network, &NodeId::from_bytes([3; 32]), 5, 1_000));
        assert_eq!(NodeProof::parse("-1", ""), None);
        assert_eq!(NodeProof::parse("1", "*"), None);
    }

    #[test]
    fn token_hashes_print_nothing() {
        assert_eq!(format!("{:?}", TokenHash::of("x")), "TokenHash(..)");
    }
}
