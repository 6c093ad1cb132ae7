//! Whose key is not to be believed any more?

use ed25519_dalek::SigningKey;

use super::{Certificate, Roles, Root, SIGNATURE, from_text, reader::Reader, signer, to_text};
use crate::{DecodeError, NodeId};

const KIND: &str = "revocation";
const VERSION: u8 = 1;
/// The longest, in bytes: shorter than [`crate::carrier::MAX_GOSSIP`].
pub const MAX_REVOCATION: usize = 1100;

/// One key that is taken out for good: a node's, or an invite's. Read but not necessarily verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The key.
    pub key: NodeId,
    /// When it was signed, in seconds since the Unix epoch.
    pub at: u64,
    /// The admin who signed it; the network key if absent.
    pub admin: Option<Box<Certificate>>,
    bytes: Vec<u8>,
}

impl Revocation {
    /// Signs with `key`, which is the admin's or the network's, that `revoked` is out.
    ///
    /// # Errors
    /// If no reader would take it.
    pub fn sign(
        root: &Root,
        key: &SigningKey,
        admin: Option<&Certificate>,
        (revoked, at): (&NodeId, u64),
    ) -> Result<Self, DecodeError> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(revoked.as_bytes());
        bytes.extend_from_slice(&at.to_be_bytes());
        signer::put(&mut bytes, admin);
        Self::read(&root.sign(key, KIND, bytes))
    }

    /// Reads the bytes of [`Self::as_bytes`].
    ///
    /// # Errors
    /// If they have another form.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_REVOCATION {
            return Err(DecodeError::new(KIND, "is too long"));
        }
        let mut reader = Reader::new(KIND, bytes);
        if reader.byte()? != VERSION {
            return Err(reader.error("is of a version that this one does not know"));
        }
        let key = NodeId::from_bytes(reader.array()?);
        let at = reader.u64()?;
        let admin = signer::read(&mut reader, signer::DEPTH)?;
        reader.bytes(SIGNATURE)?;
        reader.end()?;
        Ok(Self {
            key,
            at,
            admin,
            bytes: bytes.to_vec(),
        })
    }

    /// All of it, signature included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Base64 of [`Self::as_bytes`].
    pub fn to_text(&self) -> String {
        to_text(&self.bytes)
    }

    /// The inverse of [`Self::to_text`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        Self::read(&from_text(KIND, text, MAX_REVOCATION)?)
    }

    /// Checks that whoever signed it may do so. An admin may revoke everybody, other admins included; the network key is
    /// beyond all of them.
    ///
    /// # Errors
    /// With the first rule that is broken.
    pub fn verify(&self, root: &Root) -> Result<(), DecodeError> {
        let statement = (KIND, &self.bytes[..]);
        signer::verify(root, &self.admin, statement, (Roles::default(), self.at))
    }
}
