//! Which protocol does a datagram on the shared UDP socket belong to?
//!
//! ChannelData has a first byte of its own (RFC 8656 section 12). STUN is told apart first by its magic cookie, because its first byte overlaps WireGuard's message types
//! (RFC 7983 section 7 and RFC 8489 section 5).

use crate::relay;

/// The protocols that share the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// RFC 8489: two zero bits, then the magic cookie at bytes 4 to 7.
    Stun,
    /// A WireGuard message: type 1 to 4, then three reserved bytes (see [`crate::wireguard`]).
    WireGuard,
    /// RFC 8656 section 12.4, from a TURN server: a channel number from 0x4000 to 0x4FFF, the length of the data, the data.
    ChannelData,
    /// A message that a neighbour asks us to carry, or has carried to us (see [`crate::relay`]).
    Relay,
    /// None of ours.
    Unknown,
}

/// Looks at the first bytes only; never fails.
pub fn classify(datagram: &[u8]) -> Frame {
    match datagram {
        [first, _, _, _, 0x21, 0x12, 0xA4, 0x42, rest @ ..]
            if *first < 0x40 && rest.len() >= 12 =>
        {
            Frame::Stun
        }
        [0x40..=0x4F, _, _, _, ..] => Frame::ChannelData,
        [1..=4, _, 0, 0, rest @ ..] if rest.len() >= 28 => Frame::WireGuard,
        [relay::FIRST, ..] => Frame::Relay,
        _ => Frame::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_is_told_from_wireguard_by_its_cookie() {
        let mut binding = [0_u8; 32];
        binding[1] = 1;
        binding[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
        assert_eq!(classify(&binding), Frame::Stun);
        let mut data = [0_u8; 32];
        data[0] = 4;
        assert_eq!(classify(&data), Frame::WireGuard);
    }

    #[test]
    fn channel_data_is_told_by_its_first_byte() {
        assert_eq!(classify(&[0x40, 0, 0, 0]), Frame::ChannelData);
        assert_eq!(classify(&[0x4F, 0xFF, 0, 1, 7]), Frame::ChannelData);
        assert_eq!(classify(&[0x40, 0, 0]), Frame::Unknown);
        assert_eq!(classify(&[0x50, 0, 0, 0]), Frame::Unknown);
    }

    #[test]
    fn short_and_foreign_datagrams_are_unknown() {
        assert_eq!(classify(&[]), Frame::Unknown);
        assert_eq!(classify(&[4, 0, 0, 0]), Frame::Unknown);
        assert_eq!(classify(&[0; 64]), Frame::Unknown);
        assert_eq!(classify(&[0xFF; 64]), Frame::Unknown);
        assert_eq!(classify(&[5, 0, 0, 0, 0, 0, 0, 0]), Frame::Unknown);
    }
}
