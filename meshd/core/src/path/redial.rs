//! How soon is a path looked for again that has fallen silent again? The first time at once. Where it stands and loses much,
//! it is found each time and lost soon after, and each search costs letters, checks and a measurement of the path.

use std::time::{Duration, Instant};

/// The pause after a search, which doubles up to the longest one: a path that comes back is found within some six seconds,
/// as after an attempt that failed.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(4);
/// Pauses differ by up to a quarter, so that peers whose paths were lost at once are not searched for at once for ever.
const SPREAD: f64 = 0.25;
/// Who was not searched for in this time is as one that never was.
const MEMORY: Duration = Duration::from_secs(30);

/// Counts the searches for one peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Redial {
    /// When it was last searched for, how often, and from when on it may be again.
    last: Option<(Instant, u32, Instant)>,
    /// A search that had to wait.
    due: Option<Instant>,
}

impl Redial {
    /// The path has fallen silent. Returns whether it is looked for now; if not, [`Self::poll_timeout`] says when. `chance` is
    /// drawn from 0 to 1.
    pub fn lost(&mut self, chance: f64, now: Instant) -> bool {
        let before = self.last.filter(|(at, _, _)| now < *at + MEMORY);
        let (times, free) = before.map_or((0, now), |(_, times, free)| (times, free));
        if now < free {
            self.due = Some(free);
            return false;
        }
        let pause = (FIRST * (1 << times.min(8))).min(LONGEST);
        let pause = pause.mul_f64(1.0 + SPREAD * (2.0 * chance - 1.0));
        self.last = Some((now, times + 1, now + pause));
        self.due = None;
        true
    }

    /// When a search is due that had to wait.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether one is due now.
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When a path is looked for, in milliseconds, that is lost every 600 ms for so long.
    fn searches(chance: f64, time: Duration, start: Instant) -> Vec<u128> {
        let (mut redial, mut found) = (Redial::default(), Vec::new());
        let mut now = start;
        while now < start + time {
            let waited = redial.take_due(now);
            let is_lost = (now - start).as_millis().is_multiple_of(600);
            if (is_lost || waited) && redial.lost(chance, now) {
                found.push((now - start).as_millis());
            }
            now += 50 * MS;
        }
        found
    }

    #[test]
    fn the_first_search_is_at_once_and_the_next_ones_wait_ever_longer_but_never_long() {
        let start = Instant::now();
        let found = searches(0.5, 20_000 * MS, start);
        assert_eq!(found, [0, 1_000, 3_000, 7_000, 11_000, 15_000, 19_000]);
        let late = searches(1.0, 60_000 * MS, start);
        assert!(
            late.windows(2).all(|two| two[1] - two[0] <= 5_000),
            "{late:?}"
        );
        assert_ne!(late, searches(0.0, 60_000 * MS, start));
    }

    #[test]
    fn a_path_that_was_good_for_long_is_looked_for_at_once() {
        let (mut redial, now) = (Redial::default(), Instant::now());
        for _ in 0..2 {
            redial.lost(0.5, now);
        }
        assert!(redial.take_due(now + FIRST) && !redial.take_due(now + FIRST));
        assert!(redial.lost(0.5, now + FIRST));
        let later = now + FIRST + MEMORY;
        assert!(redial.lost(0.5, later));
        assert!(!redial.lost(0.5, later + FIRST / 2));
        assert!(redial.lost(0.5, later + FIRST), "its pauses begin anew");
    }
}
