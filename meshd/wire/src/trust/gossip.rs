//! What do members tell each other about the network, inside their sessions?

use super::Revocation;
use crate::DecodeError;

const KIND: &str = "gossip";
const REVOCATION: u8 = 1;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gossip {
    /// A key is out for good.
    Revocation(Revocation),
}

impl Gossip {
    /// As [`crate::carrier::Carrier::Gossip`] carries it.
    pub fn to_bytes(&self) -> Box<[u8]> {
        match self {
            Self::Revocation(revocation) => [&[REVOCATION], revocation.as_bytes()].concat().into(),
        }
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// If it has another form, or is of a kind that this version does not know.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [REVOCATION, revocation @ ..] => Revocation::read(revocation).map(Self::Revocation),
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
    use crate::{
        NodeId,
        carrier::MAX_GOSSIP,
        trust::{MAX_REVOCATION, Root},
    };

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
        assert!(Gossip::read(&[]).is_err());
        assert!(Gossip::read(&[9, 9]).is_err());
        const { assert!(MAX_REVOCATION < MAX_GOSSIP) };
    }
}
