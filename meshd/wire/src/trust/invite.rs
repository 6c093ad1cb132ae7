//! Whom does a join link let in?

use ed25519_dalek::SigningKey;

use super::{
    Certificate, Roles, Root, SIGNATURE, Span, certificate::MAX_LIFE, reader::Reader, signer,
};
use crate::{DecodeError, NodeId};

const KIND: &str = "invite";
const VERSION: u8 = 1;

/// What an invite allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteTerms {
    /// Signs the certificates of those who join; its secret half is in the join link.
    pub key: NodeId,
    /// How many nodes may join with it; any number if absent.
    pub uses: Option<u32>,
    /// The most that they may do.
    pub roles: Roles,
    /// When they may join.
    pub span: Span,
}

/// Terms with who offers them and their signature, read but not necessarily verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// What it allows.
    pub terms: InviteTerms,
    /// The admin who offers it; the network key if absent.
    pub admin: Option<Box<Certificate>>,
    bytes: Vec<u8>,
}

impl Invite {
    /// Signs `terms` with `key`, which is the admin's or the network's.
    ///
    /// # Errors
    /// If no reader would take it.
    pub fn sign(
        root: &Root,
        key: &SigningKey,
        admin: Option<&Certificate>,
        terms: &InviteTerms,
    ) -> Result<Self, DecodeError> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(terms.key.as_bytes());
        // No invite is for nobody, so zero is free to mean any number.
        bytes.extend_from_slice(&terms.uses.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&terms.roles.bits().to_be_bytes());
        bytes.extend_from_slice(&terms.span.from.to_be_bytes());
        bytes.extend_from_slice(&terms.span.until.to_be_bytes());
        signer::put(&mut bytes, admin);
        Self::read(&root.sign(key, KIND, bytes))
    }

    /// Reads the bytes of [`Self::as_bytes`].
    ///
    /// # Errors
    /// If they have another form.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(KIND, bytes);
        let invite = Self::read_from(&mut reader, signer::DEPTH)?;
        reader.end()?;
        Ok(invite)
    }

    /// Reads one with at most `depth` certificates inside it.
    pub(super) fn read_from(reader: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let begin = reader.rest();
        if reader.byte()? != VERSION {
            return Err(reader.error("has an invite of a version that this one does not know"));
        }
        let key = NodeId::from_bytes(reader.array()?);
        let uses = Some(u32::from_be_bytes(reader.array()?)).filter(|uses| *uses > 0);
        let roles = Roles::from_bits(reader.array().map(u16::from_be_bytes)?);
        let (from, until) = (reader.u64()?, reader.u64()?);
        let admin = signer::read(reader, depth)?;
        reader.bytes(SIGNATURE)?;
        Ok(Self {
            terms: InviteTerms {
                key,
                uses,
                roles,
                span: Span { from, until },
            },
            admin,
            bytes: reader.since(begin).to_vec(),
        })
    }

    /// All of it, signature included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks that whoever offers it may do so.
    ///
    /// # Errors
    /// With the first rule that is broken.
    pub fn verify(&self, root: &Root) -> Result<(), DecodeError> {
        let Span { from, until } = self.terms.span;
        if until < from || until - from > MAX_LIFE {
            return Err(DecodeError::new(KIND, "holds for too long"));
        }
        let statement = (KIND, &self.bytes[..]);
        signer::verify(root, &self.admin, statement, (self.terms.roles, from))
    }

    /// The keys that it rests on, the network key aside.
    pub fn keys(&self) -> Vec<NodeId> {
        let mut keys = vec![self.terms.key];
        if let Some(admin) = &self.admin {
            keys.extend(admin.keys());
        }
        keys
    }
}
