//! Which of two sequence numbers is the newer one? (RFC 8966 section 3.2.1)

/// A sequence number of a member's announcements of itself. Only that member makes new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seqno(pub(super) u16);

impl Seqno {
    /// Whether it is newer than `other`: at most half of all numbers ahead, counted round the end.
    pub(super) fn is_newer_than(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0);
        ahead != 0 && ahead < 1 << 15
    }

    /// The next one.
    #[must_use]
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_newer_round_the_end() {
        assert!(Seqno(1).is_newer_than(Seqno(0)) && !Seqno(0).is_newer_than(Seqno(1)));
        assert!(Seqno(0).is_newer_than(Seqno(u16::MAX)) && Seqno(u16::MAX).next() == Seqno(0));
        assert!(!Seqno(5).is_newer_than(Seqno(5)));
    }
}
