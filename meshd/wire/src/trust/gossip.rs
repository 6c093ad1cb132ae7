//! What do members tell each other about the network, inside their sessions?

use super::Revocation;
use crate::{DecodeError, NodeId, carrier::MAX_GOSSIP};

const KIND: &str = "gossip";
const REVOCATION: u8 = 1;
const LETTER: u8 = 2;
const LIST: u8 = 3;
const WHOLE: u8 = 1;
const PART: u8 = 2;
const UNKNOWN: u8 = 3;
/// Kind, hops, sender and receiver.
const LETTER_HEADER: usize = 2 + 32 + 32;
const LIST_CONTEXT: &str = "meshd 2026-11 list of members v1";

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossip {
    /// A key is out for good.
    Revocation(Revocation),
    /// A letter to be passed on while the discovery server is away.
    Letter(Forwarded),
    /// Whom the sender's servers list.
    List(ListView),
}

/// What a member hears of the others, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListView {
    /// The servers list all members: how many, and the first 16 bytes of BLAKE3 over their node ids in order.
    Whole {
        /// How many.
        members: u16,
        /// Who.
        hash: [u8; 16],
    },
    /// Some server lists only those whom the sender follows.
    Part,
    /// The sender does not reach all of its servers; what it said before counts no more.
    Unknown,
}

impl ListView {
    /// A list of these members, which come in order.
    pub fn whole<'a>(members: impl Iterator<Item = &'a NodeId>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(LIST_CONTEXT);
        let mut count = 0_u16;
        for node in members {
            hasher.update(node.as_bytes());
            count = count.saturating_add(1);
        }
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        Self::Whole {
            members: count,
            hash,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Whole { members, hash } => [&[WHOLE][..], &members.to_be_bytes(), &hash].concat(),
            Self::Part => vec![PART],
            Self::Unknown => vec![UNKNOWN],
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [WHOLE, high, low, hash @ ..] => Ok(Self::Whole {
                members: u16::from_be_bytes([*high, *low]),
                hash: hash
                    .try_into()
                    .map_err(|_| DecodeError::new(KIND, "has a digest of another length"))?,
            }),
            [PART] => Ok(Self::Part),
            [UNKNOWN] => Ok(Self::Unknown),
            [..] => Err(DecodeError::new(KIND, "tells of a list in another form")),
        }
    }
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
            Self::List(list) => [&[LIST], &list.to_bytes()[..]].concat().into(),
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
            [LIST, list @ ..] => ListView::read(list).map(Self::List),
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
        let (one, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let whole = ListView::whole([one, other].iter());
        assert_ne!(whole, ListView::whole([one].iter()));
        for list in [whole, ListView::Part, ListView::Unknown] {
            let bytes = Gossip::List(list).to_bytes();
            assert_eq!(Gossip::read(&bytes), Ok(Gossip::List(list)));
            assert!(Gossip::read(&bytes[..bytes.len() - 1]).is_err());
        }
        assert!(Gossip::read(&[]).is_err());
        assert!(Gossip::read(&[9, 9]).is_err());
        const { assert!(MAX_REVOCATION < MAX_GOSSIP) };
    }
}
