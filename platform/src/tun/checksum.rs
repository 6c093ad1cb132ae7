//! The Internet checksum (RFC 1071) over packets and the pseudo-headers of IPv4 and IPv6.

/// Ones'-complement sum of `bytes` as 16-bit words in *native* byte order, an odd last byte padded
/// with zero; not folded to its complement. RFC 1071 section 2(B): the sum may be taken in any
/// byte order as long as the result is stored in the same one.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    // 32-bit words into 64-bit lanes cannot overflow for less than 16 GiB, and lanes that do not
    // wait for each other are added by vector instructions.
    let mut lanes = [0u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut halves = rest.chunks_exact(2);
    for half in &mut halves {
        total += u64::from(u16::from_ne_bytes([half[0], half[1]]));
    }
    if let [odd] = halves.remainder() {
        total += u64::from(u16::from_ne_bytes([*odd, 0]));
    }
    total
}

/// Sum of the pseudo-header: both addresses, protocol and the length of the transport segment.
pub(super) fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    // The protocol and the length are 16-bit words or pairs of them in network order.
    let length = (length as u32).to_be_bytes();
    sum(addresses) + sum(&length) + sum(&[0, protocol])
}

/// Folds a sum to 16 bits, in native byte order.
pub(super) fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// True if data that contains its own checksum is intact.
pub(super) fn is_valid(total: u64) -> bool {
    fold(total) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_gives_its_sum() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_half_of_a_word() {
        assert_eq!(
            fold(sum(&[0x12, 0x34, 0x56])),
            fold(sum(&[0x12, 0x34, 0x56, 0]))
        );
    }

    #[test]
    fn a_known_ipv4_header_is_valid_and_a_changed_one_is_not() {
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert!(is_valid(sum(&header)));
        header[8] ^= 1;
        assert!(!is_valid(sum(&header)));
    }
}
