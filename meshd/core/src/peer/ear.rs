//! How much of a peer's gossip is listened to?

use std::time::{Duration, Instant};

/// A new session brings at most as many messages at once, see `meshd`'s discovery client; the rest of a minute's is for news.
const PER_MINUTE: u32 = 128;
const MINUTE: Duration = Duration::from_secs(60);

/// Counts by the minute, so that a member who talks without end costs no more than one that has something to say.
#[derive(Debug, Default)]
pub struct Ear {
    since: Option<Instant>,
    heard: u32,
}

impl Ear {
    /// Whether one more message is taken.
    pub fn listens(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + MINUTE) {
            self.since = Some(now);
            self.heard = 0;
        }
        self.heard = self.heard.saturating_add(1);
        self.heard <= PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_its_measure() {
        let (mut ear, now) = (Ear::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| ear.listens(now)).count(), 128);
        assert!(!ear.listens(now + MINUTE - Duration::from_millis(1)));
        assert!(ear.listens(now + MINUTE));
    }
}
