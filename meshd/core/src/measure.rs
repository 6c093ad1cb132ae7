//! How much is left of something that fills up again with time? A token bucket, kept as one instant: the generic cell rate
//! algorithm of ITU-T I.371.

use std::time::{Duration, Instant};

/// What may be done at once, and the time after which one more may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) most: u32,
    pub(crate) refill: Duration,
}

impl Measure {
    /// As it is, but `kept` of it are for others.
    pub(crate) const fn sparing(self, kept: u32) -> Self {
        Self {
            most: self.most.saturating_sub(kept),
            ..self
        }
    }
}

/// What is left of a measure, as the time from which on all of it is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Left(Instant);

impl Left {
    /// All of it.
    pub(crate) fn all(now: Instant) -> Self {
        Self(now)
    }

    pub(crate) fn has_one(self, measure: Measure, now: Instant) -> bool {
        self.next(measure).is_some_and(|at| at <= now)
    }

    pub(crate) fn take(&mut self, measure: Measure, now: Instant) {
        self.0 = self.0.max(now) + measure.refill;
    }

    pub(crate) fn is_all(self, now: Instant) -> bool {
        self.0 <= now
    }

    /// From when on there is one; never of an empty measure.
    pub(crate) fn next(self, measure: Measure) -> Option<Instant> {
        let others = measure.most.checked_sub(1)?;
        self.0.checked_sub(measure.refill * others).or(Some(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn all_of_it_is_there_at_once_and_then_one_after_each_refill() {
        let now = Instant::now() + 60 * SECOND;
        let measure = Measure {
            most: 3,
            refill: SECOND,
        };
        let mut left = Left::all(now);
        let mut taken = Vec::new();
        for tenth in 0..50 {
            let at = now + SECOND / 10 * tenth;
            while left.has_one(measure, at) {
                left.take(measure, at);
                taken.push(tenth);
            }
        }
        assert_eq!(taken, [0, 0, 0, 10, 20, 30, 40]);
        assert_eq!(left.next(measure), Some(now + 5 * SECOND));
        assert_eq!(left.next(measure.sparing(1)), Some(now + 6 * SECOND));
        assert_eq!(left.next(measure.sparing(3)), None);
        assert!(!left.is_all(now + 6 * SECOND) && left.is_all(now + 7 * SECOND));
    }
}
