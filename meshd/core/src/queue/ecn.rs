//! Which congestion mark does an IP header carry? (RFC 3168, section 5)

/// The ECN field: the low two bits of the IPv4 type of service or of the IPv6 traffic class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Ecn {
    /// The sender's transport does not understand congestion marks.
    #[default]
    NotEct = 0,
    /// ECN-capable, as L4S uses it (RFC 9331).
    Ect1 = 1,
    /// ECN-capable.
    Ect0 = 2,
    /// A router on the way experienced congestion.
    Ce = 3,
}

impl Ecn {
    /// Reads the low two bits of `byte`; the others (DSCP) are ignored.
    pub fn from_bits(byte: u8) -> Self {
        match byte & 0b11 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The field's value, 0 to 3.
    pub fn bits(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_code_points_are_those_of_rfc_3168_and_dscp_is_ignored() {
        for (bits, ecn) in [
            (0b00, Ecn::NotEct),
            (0b01, Ecn::Ect1),
            (0b10, Ecn::Ect0),
            (0b11, Ecn::Ce),
        ] {
            assert_eq!(Ecn::from_bits(0xb8 | bits), ecn);
            assert_eq!(ecn.bits(), bits);
        }
    }
}
