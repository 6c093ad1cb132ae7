//! Who is a node, and which network is meant?

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::DecodeError;

/// A node's identity: its Ed25519 public key (32 bytes), written as 52 characters of lower-case base32
/// (RFC 4648, no padding).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Wraps the 32 bytes of an Ed25519 public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The identity that belongs to a signing key.
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// The 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 characters: enough for people to tell two nodes of one network apart.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }

    /// Whether `signature` (64 bytes) over `message` was made by this node.
    ///
    /// Uses strict verification, which refuses small-order keys and malleable signatures.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) = (
            VerifyingKey::from_bytes(&self.0),
            Signature::from_slice(signature),
        ) else {
            return false;
        };
        key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        decode_base32_key("node id", text).map(Self)
    }
}

impl TryFrom<String> for NodeId {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

/// A node's Curve25519 public key for WireGuard sessions (32 bytes), written in base64 as `wg` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WireGuardKey([u8; 32]);

impl WireGuardKey {
    /// Wraps the 32 bytes of a Curve25519 public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireGuardKey({self})")
    }
}

impl TryFrom<String> for WireGuardKey {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|_| DecodeError::new("wireguard key", "is not base64"))?;
        let bytes: [u8; 32] = bytes
            .try_into()
            .map_err(|_| DecodeError::new("wireguard key", "is not 32 bytes long"))?;
        Ok(Self(bytes))
    }
}

impl From<WireGuardKey> for String {
    fn from(key: WireGuardKey) -> Self {
        key.to_string()
    }
}

/// The readable name of a network on one discovery server: 1 to 63 of `a-z`, `0-9` and `-`, as a DNS label
/// (RFC 1123), because it becomes one in `<network>.mesh.internal`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkId(String);

impl NetworkId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NetworkId {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        check_dns_label("network name", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NetworkId {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        text.parse()
    }
}

impl From<NetworkId> for String {
    fn from(id: NetworkId) -> Self {
        id.0
    }
}

/// Whether `text` is a lower-case DNS label (RFC 1123 section 2.1): 1 to 63 letters, digits and inner hyphens.
pub fn check_dns_label(what: &'static str, text: &str) -> Result<(), DecodeError> {
    if text.is_empty() || text.len() > 63 {
        return Err(DecodeError::new(what, "must have 1 to 63 characters"));
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(DecodeError::new(what, "may contain only a-z, 0-9 and '-'"));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(DecodeError::new(what, "must not begin or end with '-'"));
    }
    Ok(())
}

/// Whether `text` may be a host name: a DNS label that nobody can mistake for a node id.
pub fn check_host_name(text: &str) -> Result<(), DecodeError> {
    const WHAT: &str = "host name";
    check_dns_label(WHAT, text)?;
    match text.parse::<NodeId>() {
        Ok(_) => Err(DecodeError::new(
            WHAT,
            "must not have the form of a node id",
        )),
        Err(_) => Ok(()),
    }
}

/// Signs `message`; the 64 bytes are checked by [`NodeId::verify`].
pub fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    key.sign(message).to_bytes().to_vec()
}

fn decode_base32_key(what: &'static str, text: &str) -> Result<[u8; 32], DecodeError> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(DecodeError::new(what, "must be lower-case"));
    }
    BASE32_NOPAD
        .decode(text.to_ascii_uppercase().as_bytes())
        .map_err(|_| DecodeError::new(what, "is not base32"))?
        .try_into()
        .map_err(|_| DecodeError::new(what, "is not 32 bytes long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_survives_its_text_form() {
        let id = NodeId::from_bytes([7; 32]);
        assert_eq!(id.to_string().len(), 52);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().starts_with(&id.short()));
    }

    #[test]
    fn a_truncated_node_id_is_refused() {
        let text = NodeId::from_bytes([7; 32]).to_string();
        assert!(text[..51].parse::<NodeId>().is_err());
        assert!(text.to_uppercase().parse::<NodeId>().is_err());
    }

    #[test]
    fn a_signature_is_bound_to_key_and_message() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let signature = sign(&key, b"hello");
        assert!(NodeId::of(&key).verify(b"hello", &signature));
        assert!(!NodeId::of(&key).verify(b"hullo", &signature));
        assert!(!NodeId::from_bytes([9; 32]).verify(b"hello", &signature));
        assert!(!NodeId::of(&key).verify(b"hello", &signature[..63]));
    }

    #[test]
    fn a_network_name_is_a_dns_label() {
        assert!("my-network".parse::<NetworkId>().is_ok());
        for bad in ["", "My", "a_b", "-a", "a-", "a.b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<NetworkId>().is_err(), "{bad}");
        }
    }
}
