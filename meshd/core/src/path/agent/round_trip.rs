//! How long does an answer take on the path in use?

use std::time::Duration;

use crate::wireguard::timers::REKEY_TIMEOUT;

/// What the checks on one pair have measured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    last: Duration,
    /// As RFC 6298 section 2 has it.
    smoothed: Duration,
    samples: u64,
}

impl RoundTrip {
    /// Of a pair that is new: its last sample, and the sum and number of all.
    pub(super) fn begin(last: Duration, (sum, samples): (Duration, u64)) -> Self {
        let divisor = u32::try_from(samples.max(1)).unwrap_or(u32::MAX);
        Self {
            last,
            smoothed: sum / divisor,
            samples,
        }
    }

    /// One more.
    pub(super) fn measured(&mut self, sample: Duration) {
        self.smoothed = match self.samples {
            0 => sample,
            _ => (self.smoothed * 7 + sample) / 8,
        };
        self.last = sample;
        self.samples += 1;
    }

    /// How long a question needs to go unanswered before it is worth repeating, but for some margin: the last round trip. A
    /// single one may have been held up by something that is over, so what would have a handshake wait, with half as much
    /// beside it, longer than WireGuard does must be what they mostly take.
    pub(super) fn patience(self) -> Duration {
        let ordinary = REKEY_TIMEOUT * 2 / 3;
        let proven = match self.samples {
            0 | 1 => ordinary,
            _ => ordinary.max(self.smoothed),
        };
        self.last.min(proven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_answer_that_was_held_up_is_not_what_answers_take() {
        let mut round_trip = RoundTrip::begin(40 * MS, (40 * MS, 1));
        assert_eq!(round_trip.patience(), 40 * MS);
        round_trip.measured(8_000 * MS);
        assert!(round_trip.patience() * 3 / 2 <= REKEY_TIMEOUT);
        round_trip.measured(40 * MS);
        assert_eq!(round_trip.patience(), 40 * MS);
        let only = RoundTrip::begin(8_000 * MS, (8_000 * MS, 1));
        let repeated = only.patience() * 3 / 2;
        assert!(repeated <= REKEY_TIMEOUT && repeated > REKEY_TIMEOUT - MS);
    }

    #[test]
    fn a_way_that_takes_nine_seconds_is_believed_when_two_answers_have_taken_it() {
        let mut round_trip = RoundTrip::default();
        round_trip.measured(9_000 * MS);
        round_trip.measured(9_000 * MS);
        assert_eq!(round_trip.patience(), 9_000 * MS);
        let new = RoundTrip::begin(9_000 * MS, (18_000 * MS, 2));
        assert_eq!(new.patience(), 9_000 * MS);
    }
}
