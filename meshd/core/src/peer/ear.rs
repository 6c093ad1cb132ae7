//! How much of a peer's gossip is listened to?

use std::time::{Duration, Instant};

/// A new session brings at most as many messages at once, see `meshd`'s discovery client; the rest of a minute's is for news.
const PER_MINUTE: u32 = 128;
const MINUTE: Duration = Duration::from_secs(60);

/// Counts by the minute, so that a member who talks without end costs no more than one that has something to say. What is
/// urgent has a measure of its own: no mass of other things that a neighbour passes on keeps it out.
#[derive(Debug, Default)]
pub struct Ear {
    since: Option<Instant>,
    heard: [u32; 2],
}

impl Ear {
    /// Whether one more message is taken.
    pub fn listens(&mut self, is_urgent: bool, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + MINUTE) {
            self.since = Some(now);
            self.heard = [0; 2];
        }
        let [other, urgent] = &mut self.heard;
        let heard = if is_urgent { urgent } else { other };
        *heard = heard.saturating_add(1);
        *heard <= PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_its_measure_of_each_kind() {
        let (mut ear, now) = (Ear::default(), Instant::now());
        for is_urgent in [false, true] {
            let taken = (0..1000).filter(|_| ear.listens(is_urgent, now));
            assert_eq!(taken.count(), 128);
        }
        assert!(!ear.listens(true, now + MINUTE - Duration::from_millis(1)));
        assert!(ear.listens(true, now + MINUTE));
    }
}
