//! Is this initiation newer than the last one of that peer? (Paper, section 5.1: a replayed one must cost nothing.)

use std::time::Duration;

/// TAI64N: seconds since 1970 in TAI plus 2^62, then nanoseconds, big-endian, so that bytes compare as times do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp([u8; 12]);

/// TAI was ten seconds ahead of UTC in 1970; leap seconds since then are left out, as in other implementations.
const TAI64_EPOCH: u64 = (1 << 62) + 10;
/// The last 24 bits of the nanoseconds (about 17 ms) are cut off, so that the clock cannot be read from outside in detail.
const WHITENED: u32 = !0x00FF_FFFF;

impl Timestamp {
    /// From the time since 1970-01-01T00:00:00Z.
    pub fn from_unix(since_epoch: Duration) -> Self {
        let seconds = TAI64_EPOCH.saturating_add(since_epoch.as_secs());
        let nanos = since_epoch.subsec_nanos() & WHITENED;
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }

    /// As it came from a peer.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// This one if it is later than `last`, else the next after `last`: what is sent always grows, whatever the clock
    /// does.
    pub fn after(self, last: Self) -> Self {
        if self > last {
            return self;
        }
        let bytes = u128::from_be_bytes({
            let mut wide = [0; 16];
            wide[4..].copy_from_slice(&last.0);
            wide
        });
        let mut next = [0; 12];
        next.copy_from_slice(&bytes.saturating_add(1).to_be_bytes()[4..]);
        Self(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_times_compare_greater() {
        let at = |millis| Timestamp::from_unix(Duration::from_millis(millis));
        assert!(at(1_000) < at(1_020) && at(1_999) < at(2_000));
        assert_eq!(at(1_000), at(1_001), "the clock is not shown in detail");
        assert!(Timestamp::default() < at(0));
        assert_eq!(
            Timestamp::from_unix(Duration::ZERO).as_bytes()[..8],
            [0x40, 0, 0, 0, 0, 0, 0, 10]
        );
    }

    #[test]
    fn what_is_sent_grows_even_when_the_clock_stands_or_goes_back() {
        let at = |secs| Timestamp::from_unix(Duration::from_secs(secs));
        assert!(at(5).after(at(5)) > at(5));
        assert!(at(4).after(at(5)) > at(5));
        assert_eq!(at(6).after(at(5)), at(6));
    }
}
