//! What do members tell each other about the network, inside their sessions?

use super::Revocation;
use crate::{DecodeError, NodeId, carrier::MAX_GOSSIP};

const KIND: &str = "gossip";
const REVOCATION: u8 = 1;
const LETTER: u8 = 2;
/// Kind, hops, sender and receiver.
const LETTER_HEADER: usize = 2 + 32 + 32;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossip {
    /// A key is out for good.
    Revocation(Revocation),
    /// A letter to be passed on while the discovery server is away.
    Letter(Forwarded),
}

/// A sealed [`crate::letter::Letter`] on its way through other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// How many members may still pass it on.
    pub hops: u8,
    /// Who is said to have written it; the seal proves it to the receiver.
    pub from: NodeId,
    /// For whom it is.
    pub to: NodeId,
    /// The seal with what is in it.
    pub sealed: Box<[u8]>,
}

impl Forwarded {
    /// The longest seal that fits.
    pub const MAX_SEALED: usize = MAX_GOSSIP - LETTER_HEADER;
}

impl Gossip {
    /// Whether these bytes are said to be a revocation, which goes before everything else.
    pub fn is_urgent(bytes: &[u8]) -> bool {
        bytes.first() == Some(&REVOCATION)
    }

    /// As [`crate::carrier::Carrier::Gossip`] carries it.
    pub fn to_bytes(&self) -> Box<[u8]> {
        match self {
            Self::Revocation(revocation) => [&[REVOCATION], revocation.as_bytes()].concat().into(),
            Self::Letter(letter) => {
                let ids = [&letter.from.as_bytes()[..], letter.to.as_bytes()].concat();
                [&[LETTER, letter.hops], &ids[..], &letter.sealed]
                    .concat()
                    .into()
            }
        }
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// If it has another form, or is of a kind that this version does not know.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [REVOCATION, revocation @ ..] => Revocation::read(revocation).map(Self::Revocation),
            [LETTER, hops, rest @ ..] => {
                let cut = || DecodeError::new(KIND, "is cut short");
                let (from, rest) = rest.split_first_chunk().ok_or_else(cut)?;
                let (to, sealed) = rest.split_first_chunk().ok_or_else(cut)?;
                Ok(Self::Letter(Forwarded {
                    hops: *hops,
                    from: NodeId::from_bytes(*from),
                    to: NodeId::from_bytes(*to),
                    sealed: sealed.into(),
                }))
            }
            [] => Err(DecodeError::new(KIND, "is empty")),
            [..] => Err(DecodeError::new(
                KIND,
                "is of a kind that this version does not know",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::trust::{MAX_REVOCATION, Root};

    #[test]
    fn a_message_survives_and_always_fits() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let root = Root {
            network: "my-network".parse().unwrap(),
            key: NodeId::of(&key),
        };
        let revoked = NodeId::from_bytes([2; 32]);
        let made = Revocation::sign(&root, &key, None, (&revoked, 7)).unwrap();
        let gossip = Gossip::Revocation(made);
        assert_eq!(Gossip::read(&gossip.to_bytes()), Ok(gossip));
        let letter = Gossip::Letter(Forwarded {
            hops: 3,
            from: NodeId::from_bytes([1; 32]),
            to: NodeId::from_bytes([2; 32]),
            sealed: vec![7; Forwarded::MAX_SEALED].into(),
        });
        let bytes = letter.to_bytes();
        assert_eq!(bytes.len(), MAX_GOSSIP);
        assert_eq!(Gossip::read(&bytes), Ok(letter));
        for cut in 0..LETTER_HEADER {
            assert!(Gossip::read(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Gossip::read(&[]).is_err());
        assert!(Gossip::read(&[9, 9]).is_err());
        const { assert!(MAX_REVOCATION < MAX_GOSSIP) };
    }
}
