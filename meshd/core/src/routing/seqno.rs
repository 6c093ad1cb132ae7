//! Which of two sequence numbers is the newer one? (RFC 8966 section 3.2.1)

use std::time::{Duration, Instant};

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

/// How often a member's number may rise at the request of others. Numbers at a start are by the clock, which has them rise as fast:
/// so a start is newer than whatever was counted up. It is also what makes requests for ever newer numbers harmless.
const RISE: Duration = Duration::from_millis(250);
/// So often at once: a network that comes together asks several times.
const AT_ONCE: u32 = 8;

/// How often our number has risen lately.
#[derive(Debug)]
pub(super) struct Rises {
    /// When all rises so far would have come, one at a time.
    until: Instant,
}

impl Rises {
    /// None yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { until: now }
    }

    /// Whether it may rise once more now; if so, that is counted.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let next = self.until.max(now) + RISE;
        let may = next <= now + RISE * AT_ONCE;
        if may {
            self.until = next;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rises_eight_times_at_once_and_then_four_times_a_second() {
        let start = Instant::now();
        let mut rises = Rises::new(start);
        let mut count = |ms| {
            (0..100)
                .filter(|_| rises.allow(start + Duration::from_millis(ms)))
                .count()
        };
        assert_eq!(
            [count(0), count(249), count(250), count(1_000)],
            [8, 0, 1, 3]
        );
        assert_eq!(count(60_000), 8);
    }

    #[test]
    fn numbers_are_newer_round_the_end() {
        assert!(Seqno(1).is_newer_than(Seqno(0)) && !Seqno(0).is_newer_than(Seqno(1)));
        assert!(Seqno(0).is_newer_than(Seqno(u16::MAX)) && Seqno(u16::MAX).next() == Seqno(0));
        assert!(!Seqno(5).is_newer_than(Seqno(5)));
    }
}
