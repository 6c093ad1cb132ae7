//! Who is a member, and who says so?
//!
//! The network key, made on its creator's device, vouches for everything; its public half is in each join link. It signs
//! [`Certificate`]s, which bind a node's keys to its addresses, name and rights, or lets an [`Invite`] or a member with
//! [`Role::Admin`] sign them. A [`Revocation`] takes a key out for good. All are bytes that verify by themselves: it does not
//! matter who hands them over.

mod capability;
mod certificate;
mod gossip;
mod invite;
pub(crate) mod reader;
mod revocation;
mod role;
mod signer;

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;

pub use capability::Capability;
pub use certificate::{Binding, Certificate, Issuer, MAX_CERTIFICATE, MAX_LIFE, default_mac};
pub use gossip::{Forwarded, Gossip, ListView};
pub use invite::{Invite, InviteTerms};
pub use revocation::{MAX_REVOCATION, Revocation};
pub use role::{Role, Roles};

use crate::{DecodeError, NetworkId, NodeId, id::sign};

/// Bytes of an Ed25519 signature.
const SIGNATURE: usize = 64;

/// Seconds since the Unix epoch from which and until which something holds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first second.
    pub from: u64,
    /// The last one.
    pub until: u64,
}

impl Span {
    /// Whether the second is in it.
    pub fn contains(&self, second: u64) -> bool {
        (self.from..=self.until).contains(&second)
    }
}

/// What everything in one network is verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The network's name.
    pub network: NetworkId,
    /// Its key.
    pub key: NodeId,
}

impl Root {
    /// What a signature covers: the kind of the statement, the network, the statement. So none can be taken for one of
    /// another kind or another network.
    fn signed_bytes(&self, kind: &str, statement: &[u8]) -> Vec<u8> {
        let mut bytes = format!("meshd {kind} v1\0{}\0", self.network).into_bytes();
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(statement);
        bytes
    }

    fn sign(&self, key: &SigningKey, kind: &str, mut statement: Vec<u8>) -> Vec<u8> {
        let signature = sign(key, &self.signed_bytes(kind, &statement));
        statement.extend_from_slice(&signature);
        statement
    }

    /// Whether `signer` signed `bytes`, a statement with its signature behind it.
    fn verify(&self, signer: &NodeId, kind: &'static str, bytes: &[u8]) -> Result<(), DecodeError> {
        bytes
            .split_last_chunk::<SIGNATURE>()
            .filter(|(statement, signature)| {
                signer.verify(&self.signed_bytes(kind, statement), *signature)
            })
            .map(drop)
            .ok_or_else(|| DecodeError::new(kind, "was not signed by its issuer for this network"))
    }
}

/// As it stands in JSON: base64.
fn to_text(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

fn from_text(kind: &'static str, text: &str, longest: usize) -> Result<Vec<u8>, DecodeError> {
    if text.len() > longest.div_ceil(3) * 4 {
        return Err(DecodeError::new(kind, "is too long"));
    }
    BASE64
        .decode(text.as_bytes())
        .map_err(|_| DecodeError::new(kind, "is not base64"))
}
