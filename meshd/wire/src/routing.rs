//! What do routers tell their neighbours about the ways to other members? Inside the session of two neighbours, so every word is
//! the neighbour's own; `docs/ROUTING.md` has the protocol, in the words of RFC 8966.
//!
//! `version | epochs | number | acknowledgement | items`, each item a type byte and its fields. All numbers are big-endian.

use crate::{
    DecodeError,
    relay::{MAX_PATH, Path},
};

const WHAT: &str = "routing message";
const VERSION: u8 = 1;
/// Version, two epochs, number and acknowledgement.
const HEADER: usize = 1 + 4 + 4 + 4 + 8;

/// The longest message, in bytes: with everything around it, it passes where a packet of 1280 bytes does.
pub const MAX_MESSAGE: usize = 1120;

/// The metric of a destination that cannot be reached (RFC 8966 section 4).
pub const INFINITY: u16 = u16::MAX;

/// One message to a neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Names the sender's memory of this adjacency: it is another one after a restart.
    pub epoch: u32,
    /// The receiver's, as the sender knows it; 0 if it does not.
    pub your_epoch: u32,
    /// Counts the sender's messages in its epoch, from 1; 0 if it holds nothing to acknowledge.
    pub number: u32,
    /// Which of the receiver's messages have come.
    pub ack: Ack,
    /// What it says.
    pub items: Vec<Item>,
}

/// Which messages have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ack {
    /// The greatest number; 0 if none has come.
    pub newest: u32,
    /// Bit `i` is set if the message numbered `newest - 1 - i` has come too.
    pub before: u32,
}

/// One thing that a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// How the sender reaches a member, or that it does not any more.
    Update(Update),
    /// Asks for a route with at least this sequence number (RFC 8966 section 4.6.10).
    SeqnoRequest(SeqnoRequest),
    /// What the sender has said so far and holds to.
    Refresh {
        /// A digest of all finite updates.
        digest: u64,
    },
    /// Asks for all updates anew.
    DumpRequest,
    /// A frame that followed an explicit path did not get past this link.
    PathError(PathError),
}

/// How the sender reaches a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// The member.
    pub destination: u32,
    /// Its own sequence number when it announced itself.
    pub seqno: u16,
    /// Of the sender's route; [`INFINITY`] if it has none.
    pub metric: u16,
    /// The members between the sender and the destination, nearest first.
    pub path: Path,
}

/// A request that goes along the routes towards a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqnoRequest {
    /// The member.
    pub destination: u32,
    /// The least sequence number that helps.
    pub seqno: u16,
    /// Links that it may still cross, this one included.
    pub hop_limit: u8,
}

/// Where a frame did not get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathError {
    /// Who sent it, and is to hear of this.
    pub source: u32,
    /// Where it was to go.
    pub destination: u32,
    /// The member that could not send it on,
    pub from: u32,
    /// and to whom.
    pub to: u32,
}

impl Item {
    /// The longest item, in bytes: an update with a whole path.
    pub const MAX_LEN: usize = 1 + 4 + 2 + 2 + 1 + 4 * MAX_PATH;

    /// Bytes that it takes in a message.
    pub fn size(&self) -> usize {
        1 + match self {
            Self::Update(update) => 4 + 2 + 2 + 1 + 4 * update.path.members().len(),
            Self::SeqnoRequest(_) => 4 + 2 + 1,
            Self::Refresh { .. } => 8,
            Self::DumpRequest => 0,
            Self::PathError(_) => 16,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Update(update) => {
                out.push(1);
                out.extend(update.destination.to_be_bytes());
                out.extend(update.seqno.to_be_bytes());
                out.extend(update.metric.to_be_bytes());
                let members = update.path.members();
                out.push(u8::try_from(members.len()).unwrap_or(0));
                out.extend(members.iter().flat_map(|member| member.to_be_bytes()));
            }
            Self::SeqnoRequest(request) => {
                out.push(2);
                out.extend(request.destination.to_be_bytes());
                out.extend(request.seqno.to_be_bytes());
                out.push(request.hop_limit);
            }
            Self::Refresh { digest } => {
                out.push(3);
                out.extend(digest.to_be_bytes());
            }
            Self::DumpRequest => out.push(4),
            Self::PathError(error) => {
                out.push(5);
                for member in [error.source, error.destination, error.from, error.to] {
                    out.extend(member.to_be_bytes());
                }
            }
        }
    }
}

impl Message {
    /// How many bytes of items fit a message.
    pub const ROOM: usize = MAX_MESSAGE - HEADER;

    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.items.iter().map(Item::size).sum::<usize>());
        out.push(VERSION);
        for number in [
            self.epoch,
            self.your_epoch,
            self.number,
            self.ack.newest,
            self.ack.before,
        ] {
            out.extend(number.to_be_bytes());
        }
        for item in &self.items {
            item.write(&mut out);
        }
        out
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(DecodeError::new(WHAT, "is too long"));
        }
        let mut rest = Reader(bytes);
        if rest.byte()? != VERSION {
            return Err(DecodeError::new(
                WHAT,
                "has a version that is not known here",
            ));
        }
        let mut message = Self {
            epoch: rest.u32()?,
            your_epoch: rest.u32()?,
            number: rest.u32()?,
            ack: Ack {
                newest: rest.u32()?,
                before: rest.u32()?,
            },
            items: Vec::new(),
        };
        while !rest.0.is_empty() {
            message.items.push(rest.item()?);
        }
        Ok(message)
    }
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self
            .0
            .split_first_chunk()
            .ok_or(DecodeError::new(WHAT, "is cut short"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    fn item(&mut self) -> Result<Item, DecodeError> {
        Ok(match self.byte()? {
            1 => Item::Update(Update {
                destination: self.u32()?,
                seqno: self.u16()?,
                metric: self.u16()?,
                path: self.path()?,
            }),
            2 => Item::SeqnoRequest(SeqnoRequest {
                destination: self.u32()?,
                seqno: self.u16()?,
                hop_limit: self.byte()?,
            }),
            3 => Item::Refresh {
                digest: self.take().map(u64::from_be_bytes)?,
            },
            4 => Item::DumpRequest,
            5 => Item::PathError(PathError {
                source: self.u32()?,
                destination: self.u32()?,
                from: self.u32()?,
                to: self.u32()?,
            }),
            _ => return Err(DecodeError::new(WHAT, "has an item that is not known here")),
        })
    }

    fn path(&mut self) -> Result<Path, DecodeError> {
        let count = self.byte()?;
        let mut members = Vec::new();
        for _ in 0..count.min(u8::try_from(MAX_PATH + 1).unwrap_or(u8::MAX)) {
            members.push(self.u32()?);
        }
        Path::new(&members).ok_or(DecodeError::new(
            WHAT,
            "has a path of more members than a frame crosses",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            epoch: 1,
            your_epoch: u32::MAX,
            number: 3,
            ack: Ack {
                newest: 4,
                before: 5,
            },
            items: vec![
                Item::Update(Update {
                    destination: 6,
                    seqno: 7,
                    metric: INFINITY,
                    path: Path::new(&[8, 9, 10, 11, 12, 13, 14]).unwrap(),
                }),
                Item::SeqnoRequest(SeqnoRequest {
                    destination: 1,
                    seqno: 2,
                    hop_limit: 8,
                }),
                Item::Refresh { digest: u64::MAX },
                Item::DumpRequest,
                Item::PathError(PathError {
                    source: 4,
                    destination: 1,
                    from: 2,
                    to: 3,
                }),
            ],
        }
    }

    #[test]
    fn messages_survive_and_are_as_long_as_they_say() {
        let message = message();
        let bytes = message.encode();
        assert_eq!(
            bytes.len(),
            HEADER + message.items.iter().map(Item::size).sum::<usize>()
        );
        assert_eq!(Message::decode(&bytes), Ok(message));
        let empty = Message::default();
        assert_eq!(Message::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn a_cut_message_is_an_error_or_ends_between_items() {
        let (message, bytes) = (message(), message().encode());
        for cut in 0..bytes.len() {
            if let Ok(read) = Message::decode(&bytes[..cut]) {
                assert!(
                    message.items.starts_with(&read.items)
                        && read.items.len() < message.items.len()
                );
            }
        }
    }

    #[test]
    fn what_is_longer_than_a_way_or_a_message_is_refused() {
        let mut bytes = Message::default().encode();
        bytes.extend([1, 0, 0, 0, 1, 0, 1, 0, 1, 8]);
        bytes.extend([0; 32]);
        assert!(Message::decode(&bytes).is_err());
        assert!(Message::decode(&[VERSION; MAX_MESSAGE + 1]).is_err());
        let full = Message {
            items: vec![Item::DumpRequest; Message::ROOM],
            ..Message::default()
        };
        assert_eq!(full.encode().len(), MAX_MESSAGE);
    }
}
