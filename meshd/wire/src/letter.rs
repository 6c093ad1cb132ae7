//! What does one member's daemon write to another's by way of the discovery server?
//!
//! It travels sealed, see `docs/PROTOCOL.md`: the server forwards it and can neither read nor alter it.

use serde::{Deserialize, Serialize};

use crate::{DecodeError, discovery::MAX_SIGNAL, signal::Signal, trust::Certificate};

const WHAT: &str = "letter";

/// What is inside the seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// The sequence number of the sender's record when it wrote, and how many letters to this receiver came before under
    /// that: together they rise, so that none is read twice.
    pub number: (u64, u32),
    /// What it says.
    pub content: Content,
}

/// What a letter says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// How the sender can be reached.
    Signal(Signal),
    /// A certificate for the receiver, in place of the one that it has. In its text form.
    Certificate(String),
}

impl Letter {
    /// The bytes to be sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what a seal held.
    ///
    /// # Errors
    /// If it is no letter, or what it holds is beyond the limits for that.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_SIGNAL {
            return Err(DecodeError::new(WHAT, "is too long"));
        }
        let letter: Self = serde_json::from_slice(bytes)
            .map_err(|_| DecodeError::new(WHAT, "is not the JSON expected"))?;
        match &letter.content {
            Content::Signal(signal) => signal.check()?,
            Content::Certificate(text) => drop(Certificate::from_text(text)?),
        }
        Ok(letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_survives_and_its_content_is_judged() {
        let signal = Signal {
            ufrag: "abcd".into(),
            pwd: "0123456789abcdefghijkl".into(),
            remote_ufrag: None,
            candidates: Vec::new(),
        };
        let letter = |content| Letter {
            number: (7, 1),
            content,
        };
        let good = letter(Content::Signal(signal.clone()));
        assert_eq!(Letter::read(&good.to_bytes()), Ok(good));
        let odd = Signal {
            ufrag: "a b".into(),
            ..signal
        };
        for bad in [Content::Signal(odd), Content::Certificate("AA==".into())] {
            assert!(Letter::read(&letter(bad).to_bytes()).is_err());
        }
        assert!(Letter::read(b"").is_err());
        assert!(Letter::read(&[b'['; MAX_SIGNAL + 1]).is_err());
    }
}
