//! How do our own messages ride in a session that only lets IP packets through?
//!
//! In an IPv6 header that no real packet can have: both addresses unspecified, next header 255 (reserved, RFC 5237's
//! registry). Payload: one type byte, then the message.

use crate::DecodeError;

const WHAT: &str = "carrier";
const HEADER: usize = 40;
/// Reserved in the protocol-number registry, so no host sends it.
const NEXT_HEADER: u8 = 255;

/// The longest carrier packet, in bytes.
pub const MAX_CARRIER: usize = HEADER + 17;

/// A message between two daemons inside their session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Asks for a [`Carrier::Pong`] with the same numbers.
    Ping {
        /// Chosen by the sender; tells two askers on one node apart.
        id: u64,
        /// The sender's own clock, echoed; its unit is the sender's business.
        sent: u64,
    },
    /// Answers a [`Carrier::Ping`].
    Pong {
        /// As asked.
        id: u64,
        /// As asked.
        sent: u64,
    },
    /// What the sender can do in this session beyond plain WireGuard; repeated under each new key.
    Features {
        /// A sum of [`FEATURE_AES_256_GCM`], [`FEATURE_OPEN_CHECKSUMS`] and bits that later versions may add.
        bits: u64,
    },
}

/// The sender opens data messages that are sealed with AES-256-GCM.
pub const FEATURE_AES_256_GCM: u64 = 1;
/// The sender completes TCP and UDP checksums that hold the sum of the pseudo-header only.
pub const FEATURE_OPEN_CHECKSUMS: u64 = 2;

/// Whether an inner packet wears the carrier's header.
pub fn is_carrier(packet: &[u8]) -> bool {
    matches!(packet, [first, _, _, _, _, _, NEXT_HEADER, _, rest @ ..]
        if first >> 4 == 6 && rest.len() >= 32 && rest.iter().take(32).all(|b| *b == 0))
}

impl Carrier {
    /// The whole packet, header included.
    pub fn encode(&self) -> [u8; MAX_CARRIER] {
        let (kind, id, sent) = match *self {
            Self::Ping { id, sent } => (1, id, sent),
            Self::Pong { id, sent } => (2, id, sent),
            Self::Features { bits } => (3, bits, 0),
        };
        let mut packet = [0; MAX_CARRIER];
        let (header, body) = packet.split_at_mut(HEADER);
        header.copy_from_slice(&HEADER_BYTES);
        let mut fields = [kind]
            .into_iter()
            .chain(id.to_be_bytes())
            .chain(sent.to_be_bytes());
        body.fill_with(|| fields.next().unwrap_or(0));
        packet
    }

    /// Reads a packet for which [`is_carrier`] holds.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let body = packet
            .get(HEADER..)
            .ok_or(DecodeError::new(WHAT, "is cut short"))?;
        let [kind, rest @ ..] = body else {
            return Err(DecodeError::new(WHAT, "is empty"));
        };
        let (id, rest) = rest
            .split_first_chunk::<8>()
            .ok_or(DecodeError::new(WHAT, "is cut short"))?;
        let (sent, _) = rest
            .split_first_chunk::<8>()
            .ok_or(DecodeError::new(WHAT, "is cut short"))?;
        let (id, sent) = (u64::from_be_bytes(*id), u64::from_be_bytes(*sent));
        match kind {
            1 => Ok(Self::Ping { id, sent }),
            2 => Ok(Self::Pong { id, sent }),
            3 => Ok(Self::Features { bits: id }),
            _ => Err(DecodeError::new(
                WHAT,
                "has a type that this version does not know",
            )),
        }
    }
}

const HEADER_BYTES: [u8; HEADER] = {
    let mut header = [0; HEADER];
    header[0] = 0x60;
    header[5] = 17;
    header[6] = NEXT_HEADER;
    header
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_and_are_recognised() {
        for message in [
            Carrier::Ping {
                id: 1,
                sent: u64::MAX,
            },
            Carrier::Pong { id: 7, sent: 0 },
            Carrier::Features {
                bits: FEATURE_AES_256_GCM | 1 << 63,
            },
        ] {
            let packet = message.encode();
            assert!(is_carrier(&packet));
            assert_eq!(Carrier::decode(&packet), Ok(message));
        }
    }

    #[test]
    fn no_ordinary_packet_is_taken_for_a_carrier() {
        let mut v4 = [0; 60];
        v4[0] = 0x45;
        assert!(!is_carrier(&v4));
        let mut v6 = [0; 60];
        v6[0] = 0x60;
        v6[6] = 58;
        assert!(!is_carrier(&v6));
        v6[6] = 255;
        v6[39] = 1;
        assert!(!is_carrier(&v6));
    }

    #[test]
    fn every_cut_is_an_error() {
        let packet = Carrier::Ping { id: 1, sent: 2 }.encode();
        for cut in 0..packet.len() {
            assert!(Carrier::decode(&packet[..cut]).is_err(), "{cut}");
        }
    }
}
