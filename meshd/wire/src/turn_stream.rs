//! Where does a message end in a TCP stream? (RFC 8489 section 6.2.2, RFC 8656 section 12.5)
//!
//! STUN messages and ChannelData say their length; ChannelData is padded to four bytes on TCP. The TURN server and its
//! clients read and write such streams. In a WebSocket (RFC 6455) the stream is cut between messages.

/// The longest message that there can be, with its padding: no length field says more.
pub const LONGEST: usize = 4 + 65_536;
/// The path of the WebSocket on a discovery server, relative to its URL.
pub const WEBSOCKET_PATH: &str = "api/v1/turn";
/// The subprotocol of the WebSocket (RFC 6455 section 1.9).
pub const SUBPROTOCOL: &str = "turn";
/// The longest message of the WebSocket, in bytes: one or more whole messages of TURN, each as on TCP.
pub const MAX_PIECE: usize = 16 << 10;
/// Bytes that may follow a message.
const PADDING: [u8; 3] = [0; 3];

/// What a stream begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// A message of this length; with its padding it takes up `total` bytes.
    Message {
        /// Without padding.
        length: usize,
        /// With padding, so at most 3 more.
        total: usize,
    },
    /// The rest has not arrived yet.
    Incomplete,
    /// Neither, or too long: the stream cannot be read any further.
    Garbage,
}

/// Looks at the beginning of what arrived. No message may take up more than `longest` bytes.
pub fn next(stream: &[u8], longest: usize) -> Framed {
    let Some((&[a, _, c, d], _)) = stream.split_first_chunk::<4>() else {
        return match stream.first() {
            Some(first) if *first >= 0x80 => Framed::Garbage,
            Some(_) | None => Framed::Incomplete,
        };
    };
    let said = usize::from(u16::from_be_bytes([c, d]));
    let (length, total) = match a {
        0x00..=0x3F => (20 + said, 20 + said),
        0x40..=0x7F => (4 + said, 4 + said.next_multiple_of(4)),
        0x80..=0xFF => return Framed::Garbage,
    };
    let stun = a < 0x40;
    let cookie = [0x21, 0x12, 0xA4, 0x42];
    let mut seen = stream.iter().skip(4).zip(cookie);
    if total > longest || (stun && (said % 4 != 0 || seen.any(|(seen, cookie)| *seen != cookie))) {
        return Framed::Garbage;
    }
    if stream.len() < total {
        return Framed::Incomplete;
    }
    Framed::Message { length, total }
}

/// Cuts a stream of whole messages into pieces of at most [`MAX_PIECE`]; a longer message is a piece of its own. What is
/// behind the last whole message is left out.
pub fn pieces(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let (mut end, mut tail) = (0, rest);
        while let Framed::Message { total, .. } = next(tail, LONGEST) {
            if end > 0 && end + total > MAX_PIECE {
                break;
            }
            end += total;
            tail = tail.get(total..)?;
        }
        let (piece, left) = rest.split_at_checked(end)?;
        rest = left;
        (end > 0).then_some(piece)
    })
}

/// Appends a message with its padding.
pub fn push(stream: &mut Vec<u8>, message: &[u8]) {
    stream.extend_from_slice(message);
    let padding = message.len().next_multiple_of(4) - message.len();
    stream.extend(PADDING.iter().take(padding));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    #[test]
    fn messages_are_found_however_the_stream_is_cut() {
        let channel = [0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0];
        for cut in 0..BINDING.len() {
            assert_eq!(next(&BINDING[..cut], LONGEST), Framed::Incomplete, "{cut}");
        }
        for cut in 0..channel.len() {
            assert_eq!(next(&channel[..cut], LONGEST), Framed::Incomplete, "{cut}");
        }
        let stream = [&channel[..], &BINDING].concat();
        let found = Framed::Message {
            length: 9,
            total: 12,
        };
        assert_eq!(next(&stream, LONGEST), found);
        let found = Framed::Message {
            length: 20,
            total: 20,
        };
        assert_eq!(next(&stream[12..], LONGEST), found);
    }

    #[test]
    fn a_stream_is_cut_between_messages_and_nothing_of_it_is_lost() {
        let message = |length: u16| {
            let mut bytes = vec![0x40, 1];
            bytes.extend(length.to_be_bytes());
            bytes.resize(4 + usize::from(length), 7);
            let mut stream = Vec::new();
            push(&mut stream, &bytes);
            stream
        };
        let long: Vec<u8> = (0..40).flat_map(|_| message(1_401)).collect();
        let stream = [&long[..], &message(20_000), &message(3)].concat();
        let cut: Vec<_> = pieces(&stream).collect();
        assert_eq!(cut.concat(), stream);
        let lengths: Vec<_> = cut.iter().map(|piece| piece.len()).collect();
        assert_eq!(
            lengths,
            [11 * 1_408, 11 * 1_408, 11 * 1_408, 7 * 1_408, 20_004, 8]
        );
        let torn = [&long[..], &message(100)[..50]].concat();
        assert_eq!(pieces(&torn).collect::<Vec<_>>().concat(), long);
        assert_eq!(pieces(&[]).count(), 0);
    }

    #[test]
    fn what_is_neither_is_known_at_once() {
        for garbage in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[0x80],
            &[0x16, 3, 1, 0, 5],
            &[0x80, 0, 0, 0],
            &[0x40, 0, 0xFF, 0xFF],
            // Not the cookie, and not a multiple of four.
            &[0, 1, 0, 0, 0x21, 0x13],
            &[0, 1, 0, 1, 0x21, 0x12],
            &[0, 1, 0xFF, 0xFC, 0x21, 0x12, 0xA4, 0x42],
        ] {
            assert_eq!(next(garbage, 9_512), Framed::Garbage, "{garbage:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut stream = Vec::new();
        for length in 0..9_u8 {
            push(
                &mut stream,
                &[&[0x40, 1, 0, length], &[7; 9][..length.into()]].concat(),
            );
        }
        push(&mut stream, &BINDING);
        let (mut rest, mut lengths) = (&stream[..], Vec::new());
        while let Framed::Message { length, total } = next(rest, LONGEST) {
            lengths.push(length);
            rest = &rest[total..];
        }
        assert_eq!(lengths, [4, 5, 6, 7, 8, 9, 10, 11, 12, 20]);
        assert!(rest.is_empty());
        assert_eq!(next(&[0x40, 0, 0xFF, 0xFF], LONGEST), Framed::Incomplete);
    }
}
