//! How are several ranges sent in one response? As `multipart/byteranges` (RFC 9110 section 14.6).

use std::collections::VecDeque;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::HeaderValue;

use super::{download::Piece, range::ByteRange};

/// A separator that no file contains but by chance: 128 random bits per response.
pub(crate) fn boundary() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .expect("the system's random source works once the daemon has made its keys");
    HEXLOWER.encode(&random)
}

/// The value of `Content-Type`.
pub(crate) fn content_type(boundary: &str) -> HeaderValue {
    HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"))
        .expect("a hexadecimal boundary is a legal header value")
}

/// The parts with what stands before, between and behind them.
pub(crate) fn pieces(
    parts: &[ByteRange],
    size: u64,
    kind: &str,
    boundary: &str,
) -> VecDeque<Piece> {
    let mut pieces = VecDeque::new();
    for (index, part) in parts.iter().enumerate() {
        let line = if index == 0 { "" } else { "\r\n" };
        let range = part.content_range(size);
        let head =
            format!("{line}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n");
        pieces.push_back(Piece::Text(Bytes::from(head)));
        pieces.push_back(Piece::Part(*part));
    }
    pieces.push_back(Piece::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_response_has_its_own_boundary() {
        assert_ne!(boundary(), boundary());
    }

    #[test]
    fn parts_are_framed_as_rfc_9110_shows() {
        let parts = [
            ByteRange { first: 1, last: 2 },
            ByteRange { first: 5, last: 6 },
        ];
        let mut text = String::new();
        for piece in pieces(&parts, 10, "text/plain", "b") {
            match piece {
                Piece::Part(range) => text.push_str(&"x".repeat(range.len() as usize)),
                Piece::Text(between) => text.push_str(std::str::from_utf8(&between).unwrap()),
            }
        }
        assert_eq!(
            text,
            "--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 1-2/10\r\n\r\nxx\r\n\
             --b\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-6/10\r\n\r\nxx\r\n--b--\r\n"
        );
    }
}
