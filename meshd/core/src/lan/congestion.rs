//! How do congestion marks cross the tunnel? (RFC 6040: the outer header carries the inner mark, and a mark that a
//! router sets on the outer header reaches the inner packet.)

use super::checksum::Sum;
use crate::queue::ecn::Ecn;

/// What the inner packet shall say after it was opened (RFC 6040, section 4.2, figure 4). `None`: it must be dropped,
/// because its sender cannot be told of the congestion in any other way.
pub fn combine(inner: Ecn, outer: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => None,
        (Ecn::NotEct, Ecn::NotEct | Ecn::Ect0 | Ecn::Ect1) => Some(Ecn::NotEct),
        (Ecn::Ect0 | Ecn::Ect1 | Ecn::Ce, Ecn::Ce) => Some(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
        (Ecn::Ect0 | Ecn::Ect1 | Ecn::Ce, Ecn::NotEct | Ecn::Ect0 | Ecn::Ect1) => Some(inner),
    }
}

/// The mark of a whole IP packet.
pub fn mark(packet: &[u8]) -> Ecn {
    match packet {
        [first, second, ..] if first >> 4 == 4 => Ecn::from_bits(*second),
        // The traffic class lies across the first two bytes: its low bits are bits 5 and 4 of the second.
        [first, second, ..] if first >> 4 == 6 => Ecn::from_bits(second >> 4),
        _ => Ecn::NotEct,
    }
}

/// Writes the mark of a whole IP packet, and mends the IPv4 header checksum.
pub fn set_mark(packet: &mut [u8], mark: Ecn) {
    let Some(version) = packet.first().map(|first| first >> 4) else {
        return;
    };
    if version == 6 && packet.len() >= 2 {
        packet[1] = packet[1] & !0x30 | mark.bits() << 4;
    } else if version == 4 && packet.len() >= 20 {
        packet[1] = packet[1] & !0x03 | mark.bits();
        let header = usize::from(packet[0] & 0x0F) * 4;
        packet[10..12].fill(0);
        let sum = packet
            .get(..header)
            .map(|header| Sum::default().plus(header).finish());
        packet[10..12].copy_from_slice(&sum.unwrap_or(0).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    /// Figure 4 of RFC 6040, row by row; "drop" is `None`.
    #[test]
    fn marks_are_combined_as_the_table_says() {
        let (not, one, zero, ce) = (
            Some(Ecn::NotEct),
            Some(Ecn::Ect1),
            Some(Ecn::Ect0),
            Some(Ecn::Ce),
        );
        let outer = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];
        for (inner, row) in [
            (Ecn::NotEct, [not, not, not, None]),
            (Ecn::Ect0, [zero, zero, one, ce]),
            (Ecn::Ect1, [one, one, one, ce]),
            (Ecn::Ce, [ce, ce, ce, ce]),
        ] {
            assert_eq!(outer.map(|outer| combine(inner, outer)), row, "{inner:?}");
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_changes() {
        let mut v4 = [
            0x45, 0xB8, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 100, 0, 1, 10, 100, 0, 2,
        ];
        let mut v6 = [0_u8; 40];
        v6[..2].copy_from_slice(&[0x6B, 0x8F]);
        for ecn in ALL {
            set_mark(&mut v4, ecn);
            set_mark(&mut v6, ecn);
            assert_eq!((mark(&v4), mark(&v6)), (ecn, ecn));
            assert_eq!(Sum::default().plus(&v4).finish(), 0, "the checksum holds");
            assert_eq!((v4[1] & 0xFC, v6[0], v6[1] & 0xCF), (0xB8, 0x6B, 0x8F));
        }
        set_mark(&mut [], Ecn::Ce);
        set_mark(&mut [0x45], Ecn::Ce);
    }
}
