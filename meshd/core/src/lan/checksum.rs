//! The Internet checksum (RFC 1071), over whole packets and with the pseudo headers of TCP and UDP.

use std::net::IpAddr;

/// A one's complement sum in progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes; every call but the last must bring an even number of them.
    #[must_use]
    pub fn plus(self, bytes: &[u8]) -> Self {
        let mut sum = u128::from(self.0);
        // 32-bit words into lanes that do not wait for each other: vector instructions add them. A lane has room for the
        // sums of 16 GiB.
        let mut lanes = [0u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        // The sum of native words, folded to one of them, is the network's with its bytes swapped (RFC 1071, 2(B)).
        let native = fold(lanes.iter().sum());
        sum += u128::from(u16::from_be_bytes(native.to_ne_bytes()));
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            sum += u128::from(u64::from_be_bytes(*word));
        }
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        sum += u128::from(u64::from_be_bytes(tail));
        // 2^64 is 1 modulo 65,535, so the upper half may be added to the lower one.
        let folded = (sum & u128::from(u64::MAX)) + (sum >> 64);
        let folded = (folded & u128::from(u64::MAX)) + (folded >> 64);
        Self(u64::try_from(folded).unwrap_or(u64::MAX))
    }

    /// Adds the pseudo header of TCP or UDP (RFC 9293 section 3.1, RFC 8200 section 8.1).
    #[must_use]
    pub fn add_pseudo_header(
        self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        len: usize,
    ) -> Self {
        let sum = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.plus(&source.octets()).plus(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.plus(&source.octets()).plus(&destination.octets())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => self,
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        sum.plus(&len.to_be_bytes()).plus(&[0, protocol])
    }

    /// The sum as it stands in a header that the network card shall finish: folded, not inverted.
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the inverted sum.
    pub fn finish(self) -> u16 {
        !self.folded()
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn it_agrees_with_the_definition_for_every_length() {
        let bytes: Vec<u8> = (0..1500_u32)
            .map(|i| (i * 197 + 31).to_le_bytes()[0])
            .collect();
        for len in (0..64).chain([1379, 1380, 1500]) {
            assert_eq!(
                Sum::default().plus(&bytes[..len]).finish(),
                slow(&bytes[..len]),
                "{len}"
            );
        }
        assert_eq!(
            Sum::default().plus(&[0xFF; 1500]).finish(),
            slow(&[0xFF; 1500])
        );
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let bytes = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
        assert_eq!(Sum::default().plus(&bytes).folded(), 0xDDF2);
    }
}
