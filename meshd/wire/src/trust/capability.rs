//! What does whoever holds a join link hold?

use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::{Binding, Certificate, Invite, Issuer, Root};
use crate::{DecodeError, NodeId};

const WHAT: &str = "invite";
const CHECKSUM: usize = 4;

/// An invite with the secret half of its key: with it a node signs its own certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Capability {
    secret: SigningKey,
    /// What it allows.
    pub invite: Invite,
}

impl Capability {
    /// Puts both halves together.
    ///
    /// # Errors
    /// If they do not belong together.
    pub fn new(secret: SigningKey, invite: Invite) -> Result<Self, DecodeError> {
        if NodeId::of(&secret) != invite.terms.key {
            return Err(DecodeError::new(WHAT, "has the secret of another one"));
        }
        Ok(Self { secret, invite })
    }

    /// Signs what a node that joins with it is.
    ///
    /// # Errors
    /// If no reader would take it.
    pub fn certify(&self, root: &Root, binding: &Binding) -> Result<Certificate, DecodeError> {
        let issuer = Issuer::Invite(Box::new(self.invite.clone()));
        Certificate::sign(root, &self.secret, &issuer, binding)
    }

    /// Lower-case base32 of secret, invite and a checksum, so that a cut or mistyped link is noticed before it is used.
    /// It is a secret.
    pub fn to_text(&self) -> String {
        let mut bytes = Zeroizing::new(self.secret.to_bytes().to_vec());
        bytes.extend_from_slice(self.invite.as_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
    }

    /// The inverse of [`Self::to_text`].
    ///
    /// # Errors
    /// If it is cut, mistyped or of another form.
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        let cut = || DecodeError::new(WHAT, "is cut short or mistyped");
        let upper = Zeroizing::new(text.to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| cut())?;
        let bytes = Zeroizing::new(bytes);
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(cut)?;
        if *sum != checksum(content) {
            return Err(cut());
        }
        let (secret, invite) = content.split_first_chunk::<32>().ok_or_else(cut)?;
        Self::new(SigningKey::from_bytes(secret), Invite::read(invite)?)
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Capability")
            .field(&self.invite.terms)
            .finish()
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, ..] = blake3::derive_key("meshd 2026-11 invite checksum v1", bytes);
    [a, b, c, d]
}
