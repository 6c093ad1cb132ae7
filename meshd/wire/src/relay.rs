//! What stands around a message that a member carries for two others?
//!
//! `header | explicit path | sealed message | tag`. The message is the end-to-end WireGuard message of source and
//! destination, opaque to whoever carries it. All numbers are big-endian. The first byte is none of STUN (0 to 3),
//! TURN's ChannelData (64 to 79) or WireGuard (1 to 4).

/// Length of the header.
pub const HEADER: usize = 16;
/// Length of the tag behind the message.
pub const TAG: usize = 16;
/// Most members that an explicit path names: eight links have seven members between their ends.
pub const MAX_PATH: usize = 7;
/// How much of what follows header and path the tag covers: the header and first cipher block of the message. The rest
/// is the business of its own authenticator.
pub const COVERED: usize = 32;
/// The first byte.
pub const FIRST: u8 = 0x85;
/// Set in the flags: the frame follows its explicit path to the end and nobody's routing table.
const EXPLICIT: u8 = 0x80;

/// The header and path of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayHeader {
    /// Links that it may still cross, this one included.
    pub hop_limit: u8,
    /// The member that sealed the message.
    pub source: u32,
    /// The member that can open it.
    pub destination: u32,
    /// Names the frame in complaints about its path.
    pub frame: u32,
    /// The members that are still to be visited before the destination; absent where routing tables decide.
    pub path: Option<Path>,
}

/// Members in the order in which they are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    members: [u32; MAX_PATH],
    len: usize,
}

impl Path {
    /// A path of at most [`MAX_PATH`] members; `None` if there are more.
    pub fn new(members: &[u32]) -> Option<Self> {
        let mut path = Self::default();
        for member in members {
            *path.members.get_mut(path.len)? = *member;
            path.len += 1;
        }
        Some(path)
    }

    /// The members.
    pub fn members(&self) -> &[u32] {
        self.members.get(..self.len).unwrap_or_default()
    }

    /// Who is next on the way to `destination`, which is itself at the path's end, and the path behind that.
    pub fn next(&self, destination: u32) -> (u32, Self) {
        self.split_first().unwrap_or((destination, *self))
    }

    /// The first member and the path behind it.
    pub fn split_first(&self) -> Option<(u32, Self)> {
        let (first, rest) = self.members().split_first()?;
        Some((*first, Self::new(rest)?))
    }
}

/// A frame as it came: what it says and where its parts stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayFrame<'a> {
    /// What it says.
    pub header: RelayHeader,
    /// Header, path and the covered beginning of the message.
    pub covered: &'a [u8],
    /// The sealed message.
    pub message: &'a [u8],
    /// The link that it came over.
    pub tag: RelayTag,
}

/// Shows that a frame came from a neighbour, and that it came once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayTag {
    /// The receiver's index of its session with the sender.
    pub receiver: u32,
    /// The frame's number on this link, under these keys.
    pub counter: u32,
    /// The authenticator.
    pub mac: [u8; 8],
}

impl<'a> RelayFrame<'a> {
    /// Reads a frame; `None` if it is none.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (frame, tag) = datagram.split_last_chunk::<TAG>()?;
        let (header, _) = frame.split_first_chunk::<HEADER>()?;
        let [FIRST, hop_limit, flags, 0, rest @ ..] = header else {
            return None;
        };
        let count = usize::from(flags & !EXPLICIT);
        let path = frame.get(HEADER..HEADER.checked_add(4 * count)?)?;
        let message = frame.get(HEADER + path.len()..)?;
        let covered = frame.get(..HEADER + path.len() + COVERED)?;
        if count > 0 && flags & EXPLICIT == 0 {
            return None;
        }
        let mut members = [0; MAX_PATH];
        let (words, _) = path.as_chunks::<4>();
        for (to, from) in members.get_mut(..count)?.iter_mut().zip(words) {
            *to = u32::from_be_bytes(*from);
        }
        let [source, destination, frame] = words_of(rest);
        Some(Self {
            header: RelayHeader {
                hop_limit: *hop_limit,
                source,
                destination,
                frame,
                path: (flags & EXPLICIT != 0).then_some(Path {
                    members,
                    len: count,
                }),
            },
            covered,
            message,
            tag: RelayTag::parse(tag),
        })
    }
}

impl RelayHeader {
    /// Length of a frame with this header around a message of `message` bytes.
    pub fn frame_len(&self, message: usize) -> usize {
        self.head_len() + message + TAG
    }

    /// Writes all but the tag into `out`, which is [`Self::frame_len`] bytes long, and returns how many bytes at its start the tag
    /// covers. `None` if `out` or the message is too short.
    pub fn write(&self, message: &[u8], out: &mut [u8]) -> Option<usize> {
        let covered = self.write_head(message.len(), out)?;
        let place = out.get_mut(self.head_len()..)?.get_mut(..message.len())?;
        place.copy_from_slice(message);
        Some(covered)
    }

    /// Whether its explicit path names nobody twice, and neither of its ends.
    pub fn is_simple(&self) -> bool {
        let path = self.path.unwrap_or_default();
        let members = path.members();
        let is_new = |(at, member): (usize, &u32)| {
            let before = members.iter().take(at);
            !before
                .chain([&self.source, &self.destination])
                .any(|other| other == member)
        };
        members.iter().enumerate().all(is_new)
    }

    /// Bytes before the message.
    pub fn head_len(&self) -> usize {
        HEADER + 4 * self.path.map_or(0, |path| path.len)
    }

    /// Writes header and path into `out`, a frame around a message of `message` bytes, and returns how many bytes at its start the
    /// tag covers. `None` if `out` or the message is too short.
    pub fn write_head(&self, message: usize, out: &mut [u8]) -> Option<usize> {
        let members = self.path.as_ref().map_or(&[][..], Path::members);
        let count = u8::try_from(members.len()).ok()?;
        let flags = count | if self.path.is_some() { EXPLICIT } else { 0 };
        let (header, rest) = out.split_first_chunk_mut::<HEADER>()?;
        let words = [self.source, self.destination, self.frame].map(u32::to_be_bytes);
        let first = [FIRST, self.hop_limit, flags, 0];
        for (to, from) in header
            .iter_mut()
            .zip(first.iter().chain(words.iter().flatten()))
        {
            *to = *from;
        }
        let path = rest.get_mut(..4 * members.len())?;
        for (to, from) in path
            .iter_mut()
            .zip(members.iter().flat_map(|m| m.to_be_bytes()))
        {
            *to = from;
        }
        (message >= COVERED).then_some(self.head_len() + COVERED)
    }
}

impl RelayTag {
    fn parse(tag: &[u8; TAG]) -> Self {
        let [a, b, c, d, e, f, g, h, mac @ ..] = *tag;
        Self {
            receiver: u32::from_be_bytes([a, b, c, d]),
            counter: u32::from_be_bytes([e, f, g, h]),
            mac,
        }
    }

    /// As it stands at the end of a frame.
    pub fn encode(&self) -> [u8; TAG] {
        let mut tag = [0; TAG];
        let (receiver, counter) = (self.receiver.to_be_bytes(), self.counter.to_be_bytes());
        let fields = receiver.iter().chain(&counter).chain(&self.mac);
        for (to, from) in tag.iter_mut().zip(fields) {
            *to = *from;
        }
        tag
    }
}

fn words_of(bytes: &[u8; 12]) -> [u32; 3] {
    let (words, _) = bytes.as_chunks::<4>();
    let mut numbers = [0; 3];
    for (to, from) in numbers.iter_mut().zip(words) {
        *to = u32::from_be_bytes(*from);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(header: &RelayHeader, message: &[u8]) -> Vec<u8> {
        let mut out = vec![0; header.frame_len(message.len())];
        let covered = header.write(message, &mut out).unwrap();
        assert_eq!(covered, out.len() - message.len() - TAG + COVERED);
        out
    }

    fn header(path: Option<&[u32]>) -> RelayHeader {
        RelayHeader {
            hop_limit: 8,
            source: 0x0A64_0001,
            destination: 0x0A64_0002,
            frame: 77,
            path: path.map(|members| Path::new(members).unwrap()),
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for path in [
            None,
            Some(&[][..]),
            Some(&[5][..]),
            Some(&[1, 2, 3, 4, 5, 6, 7][..]),
        ] {
            let header = header(path);
            let mut bytes = written(&header, &[9; 40]);
            let tag = RelayTag {
                receiver: 1,
                counter: 2,
                mac: [3; 8],
            };
            let end = bytes.len() - TAG;
            bytes[end..].copy_from_slice(&tag.encode());
            let frame = RelayFrame::parse(&bytes).unwrap();
            assert_eq!((frame.header, frame.tag), (header, tag));
            assert_eq!(frame.message, [9; 40]);
            assert_eq!(frame.covered, &bytes[..end - 8]);
        }
    }

    #[test]
    fn a_path_names_nobody_twice() {
        let [source, destination] = [0x0A64_0001, 0x0A64_0002];
        assert!(header(None).is_simple() && header(Some(&[])).is_simple());
        assert!(header(Some(&[5, 6, 7])).is_simple());
        for path in [[5, 6, 5], [5, 5, 6], [5, source, 6], [5, 6, destination]] {
            assert!(!header(Some(&path)).is_simple(), "{path:?}");
        }
    }

    #[test]
    fn the_default_mtu_fits_an_internet_path_behind_a_relay() {
        let sealed = 1400 + crate::wireguard::DATA_HEADER + crate::wireguard::TAG;
        assert!(header(None).frame_len(sealed) + 28 <= 1500);
    }

    #[test]
    fn what_is_cut_short_or_too_long_a_path_is_refused() {
        let bytes = written(&header(Some(&[1, 2])), &[9; 32]);
        assert!(RelayFrame::parse(&bytes).is_some());
        for cut in 0..bytes.len() {
            assert!(RelayFrame::parse(&bytes[..cut]).is_none(), "{cut}");
        }
        let mut long = written(&header(Some(&[1; 7])), &[9; 200]);
        long[2] += 1;
        assert!(RelayFrame::parse(&long).is_none(), "eight members");
        long[2] = 3;
        assert!(
            RelayFrame::parse(&long).is_none(),
            "a path that is not explicit"
        );
        assert_eq!(Path::new(&[1; 8]), None);
    }
}
