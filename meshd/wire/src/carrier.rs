//! How do our own messages ride in a session that only lets IP packets through?
//!
//! In an IPv6 header that no real packet can have: both addresses unspecified, next header 255 (reserved, RFC 5237's
//! registry). Payload: one type byte, then the message.

use crate::{DecodeError, routing::MAX_MESSAGE};

const WHAT: &str = "carrier";
const HEADER: usize = 40;
/// Reserved in the protocol-number registry, so no host sends it.
const NEXT_HEADER: u8 = 255;

/// The longest gossip, in bytes: with everything around it, it passes where a packet of 1280 bytes does, which is every
/// IPv6 path (RFC 8200, section 5).
pub const MAX_GOSSIP: usize = 1120;

/// A message between two daemons inside their session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// Asks for a [`Carrier::Pong`] with the same numbers. Zeros behind it make it as long as a packet whose way is to be
    /// measured.
    Ping {
        /// Chosen by the sender; tells two askers on one node apart. Those with the highest bit set measure the path MTU.
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
        /// A sum of [`FEATURE_AES_256_GCM`], [`FEATURE_OPEN_CHECKSUMS`], [`FEATURE_HEARD`] and bits that later versions may
        /// add.
        bits: u64,
    },
    /// What the sender knows of the network, see [`crate::trust::Gossip`].
    Gossip {
        /// At most [`MAX_GOSSIP`] bytes.
        message: Box<[u8]>,
    },
    /// What the sender tells its neighbour of the ways to other members, see [`crate::routing`].
    Routing {
        /// At most [`MAX_MESSAGE`] bytes.
        message: Box<[u8]>,
    },
    /// What the sender thinks of the direct paths between both.
    Direct {
        /// That.
        finding: DirectPath,
    },
    /// Birthday probing, from the side whose NAT maps each destination to another port and back.
    Birthday {
        /// What is said.
        step: BirthdayStep,
        /// Which attempt it belongs to; chosen by the side that asks.
        attempt: u64,
    },
}

/// What two peers say to each other so that both do their part of birthday probing at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirthdayStep {
    /// Whether the receiver would probe the sender's ports.
    Ask,
    /// It would.
    Consent,
    /// The sender has opened its ports.
    Open,
}

/// Whether the direct path between two peers carries what it is given, as one of them has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectPath {
    /// It does.
    Good,
    /// It does not, but neither does any other.
    NoWorse,
}

/// The sender opens data messages that are sealed with AES-256-GCM.
pub const FEATURE_AES_256_GCM: u64 = 1;
/// The sender completes TCP and UDP checksums that hold the sum of the pseudo-header only.
pub const FEATURE_OPEN_CHECKSUMS: u64 = 2;

/// The sender knows already what the receiver can do; whoever reads this bit need not say it again.
pub const FEATURE_HEARD: u64 = 4;

/// Whether an inner packet wears the carrier's header.
pub fn is_carrier(packet: &[u8]) -> bool {
    matches!(packet, [first, _, _, _, _, _, NEXT_HEADER, _, rest @ ..]
        if first >> 4 == 6 && rest.len() >= 32 && rest.iter().take(32).all(|b| *b == 0))
}

impl Carrier {
    /// The whole packet, header included.
    pub fn encode(&self) -> Vec<u8> {
        let mut packet = HEADER_BYTES.to_vec();
        match self {
            Self::Ping { id, sent } => put_numbers(&mut packet, 1, [*id, *sent]),
            Self::Pong { id, sent } => put_numbers(&mut packet, 2, [*id, *sent]),
            Self::Features { bits } => put_numbers(&mut packet, 3, [*bits, 0]),
            Self::Gossip { message } => put_message(&mut packet, 4, (message, MAX_GOSSIP)),
            Self::Routing { message } => put_message(&mut packet, 7, (message, MAX_MESSAGE)),
            Self::Direct { finding } => packet.extend([
                5,
                match finding {
                    DirectPath::Good => 0,
                    DirectPath::NoWorse => 1,
                },
            ]),
            Self::Birthday { step, attempt } => {
                let step = match step {
                    BirthdayStep::Ask => 0,
                    BirthdayStep::Consent => 1,
                    BirthdayStep::Open => 2,
                };
                packet.extend([6, step]);
                packet.extend(attempt.to_be_bytes());
            }
        }
        let payload = u16::try_from(packet.len() - HEADER).unwrap_or(0);
        if let Some(length) = packet.get_mut(4..6) {
            length.copy_from_slice(&payload.to_be_bytes());
        }
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
        match kind {
            1 => numbers(rest).map(|(id, sent)| Self::Ping { id, sent }),
            2 => numbers(rest).map(|(id, sent)| Self::Pong { id, sent }),
            3 => numbers(rest).map(|(bits, _)| Self::Features { bits }),
            4 => message(rest, MAX_GOSSIP).map(|message| Self::Gossip { message }),
            5 => direct(rest),
            6 => birthday(rest),
            7 => message(rest, MAX_MESSAGE).map(|message| Self::Routing { message }),
            _ => Err(DecodeError::new(
                WHAT,
                "has a type that this version does not know",
            )),
        }
    }
}

fn put_numbers(packet: &mut Vec<u8>, kind: u8, numbers: [u64; 2]) {
    packet.push(kind);
    for number in numbers {
        packet.extend_from_slice(&number.to_be_bytes());
    }
}

fn numbers(body: &[u8]) -> Result<(u64, u64), DecodeError> {
    let cut = || DecodeError::new(WHAT, "is cut short");
    let (first, rest) = body.split_first_chunk::<8>().ok_or_else(cut)?;
    let (second, _) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    Ok((u64::from_be_bytes(*first), u64::from_be_bytes(*second)))
}

/// The length tells the message from the padding behind it.
fn put_message(packet: &mut Vec<u8>, kind: u8, (message, longest): (&[u8], usize)) {
    let message = message.get(..longest).unwrap_or(message);
    packet.push(kind);
    packet.extend_from_slice(&u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
    packet.extend_from_slice(message);
}

fn message(body: &[u8], longest: usize) -> Result<Box<[u8]>, DecodeError> {
    let cut = || DecodeError::new(WHAT, "is cut short");
    let (len, rest) = body.split_first_chunk::<2>().ok_or_else(cut)?;
    let len = usize::from(u16::from_be_bytes(*len));
    if len > longest {
        return Err(DecodeError::new(WHAT, "is too long"));
    }
    Ok(rest.get(..len).ok_or_else(cut)?.into())
}

fn direct(body: &[u8]) -> Result<Carrier, DecodeError> {
    let finding = match body.first() {
        Some(0) => DirectPath::Good,
        Some(1) => DirectPath::NoWorse,
        Some(_) => {
            return Err(DecodeError::new(
                WHAT,
                "tells what this version does not know",
            ));
        }
        None => return Err(DecodeError::new(WHAT, "is cut short")),
    };
    Ok(Carrier::Direct { finding })
}

fn birthday(body: &[u8]) -> Result<Carrier, DecodeError> {
    let cut = || DecodeError::new(WHAT, "is cut short");
    let (step, rest) = body.split_first().ok_or_else(cut)?;
    let (attempt, _) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    let step = match step {
        0 => BirthdayStep::Ask,
        1 => BirthdayStep::Consent,
        2 => BirthdayStep::Open,
        _ => {
            return Err(DecodeError::new(
                WHAT,
                "asks for what this version does not know",
            ));
        }
    };
    let attempt = u64::from_be_bytes(*attempt);
    Ok(Carrier::Birthday { step, attempt })
}

const HEADER_BYTES: [u8; HEADER] = {
    let mut header = [0; HEADER];
    header[0] = 0x60;
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
            Carrier::Gossip {
                message: [7; MAX_GOSSIP].into(),
            },
            Carrier::Gossip {
                message: Box::default(),
            },
            Carrier::Routing {
                message: [8; MAX_MESSAGE].into(),
            },
            Carrier::Direct {
                finding: DirectPath::Good,
            },
            Carrier::Direct {
                finding: DirectPath::NoWorse,
            },
            Carrier::Birthday {
                step: BirthdayStep::Ask,
                attempt: u64::MAX,
            },
            Carrier::Birthday {
                step: BirthdayStep::Consent,
                attempt: 0,
            },
            Carrier::Birthday {
                step: BirthdayStep::Open,
                attempt: 1 << 40,
            },
        ] {
            let mut packet = message.encode();
            packet.extend([0; 15]);
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
        let message = Box::new([1, 2, 3]);
        for message in [
            Carrier::Ping { id: 1, sent: 2 },
            Carrier::Gossip { message },
            Carrier::Direct {
                finding: DirectPath::Good,
            },
            Carrier::Birthday {
                step: BirthdayStep::Open,
                attempt: 3,
            },
        ] {
            let packet = message.encode();
            for cut in 0..packet.len() {
                assert!(Carrier::decode(&packet[..cut]).is_err(), "{cut}");
            }
        }
    }
}
