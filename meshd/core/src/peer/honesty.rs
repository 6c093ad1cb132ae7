//! Does the path to a peer carry what it is given, and if not, how long is it left alone?

use std::time::{Duration, Instant};

use mesh_wire::carrier::DirectPath;

use crate::path::loss::{Gauge, Trial};

/// A path that was suspected and found good is not asked again before this, and each time twice as late.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// What happened within this time counts when it happens again; and so long nobody tries the detour that was no better.
const MEMORY: Duration = Duration::from_secs(300);
/// Each time that direct paths are left again within [`MEMORY`] they are tried again twice as late, at most this often doubled.
const MOST_STRIKES: u32 = 3;
/// So often a finding is told, once in each look at the path.
const TELLINGS: u8 = 4;

/// What is known of the loss on the way to one peer.
#[derive(Debug, Default)]
pub struct Honesty {
    /// What its messages show.
    pub gauge: Gauge,
    /// The path that is being asked.
    pub trial: Option<Trial>,
    /// Whether direct paths are left for one by way of a TURN server.
    avoided: bool,
    /// When they last began or ceased to be.
    changed: Option<Instant>,
    strikes: u32,
    /// Until when suspicion is of no account, and how long it was not the last time.
    rest: Option<(Instant, Duration)>,
    /// What the peer is to be told, and how often still: such a message is lost as easily as any other.
    untold: Option<(DirectPath, u8)>,
}

impl Honesty {
    /// Whether direct paths lose too much.
    pub fn is_avoided(&self) -> bool {
        self.avoided
    }

    /// Whether suspicion is to be followed.
    pub fn is_alert(&self, now: Instant) -> bool {
        self.trial.is_none() && self.rest.is_none_or(|(until, _)| until <= now)
    }

    /// It was suspected for nothing.
    pub fn innocent(&mut self, now: Instant) {
        let before = self.rest.filter(|(until, _)| now < *until + MEMORY);
        let pause = before.map_or(FIRST_REST, |(_, pause)| (2 * pause).min(LONGEST_REST));
        self.rest = Some((now + pause, pause));
    }

    /// The detour is no better.
    pub fn resign(&mut self, now: Instant) {
        self.lift(now);
        self.rest = Some((now + MEMORY, LONGEST_REST));
    }

    /// Direct paths are left.
    pub fn avoid(&mut self, now: Instant) {
        if !self.avoided {
            let again = self.changed.is_some_and(|at| now < at + MEMORY);
            self.strikes = if again {
                MOST_STRIKES.min(self.strikes + 1)
            } else {
                0
            };
            self.changed = Some(now);
        }
        self.avoided = true;
        self.trial = None;
        self.untold = None;
    }

    /// They are as good as any.
    pub fn lift(&mut self, now: Instant) {
        if self.avoided {
            self.changed = Some(now);
        }
        self.avoided = false;
        self.trial = None;
    }

    /// The peer is to know this.
    pub fn tell(&mut self, finding: DirectPath) {
        self.untold = Some((finding, TELLINGS));
    }

    /// What the peer is told now.
    pub fn take_untold(&mut self) -> Option<DirectPath> {
        let (finding, times) = self.untold?;
        self.untold = times.checked_sub(1).map(|left| (finding, left));
        self.untold.map(|_| finding)
    }

    /// How often they were left again lately.
    pub fn strikes(&self) -> u32 {
        self.strikes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_suspected_for_nothing_is_left_in_peace_ever_longer() {
        let (mut honesty, mut now) = (Honesty::default(), Instant::now());
        let mut asked = Vec::new();
        let start = now;
        for _ in 0..300 {
            if honesty.is_alert(now) {
                asked.push(now.duration_since(start).as_secs());
                honesty.innocent(now);
            }
            now += SECOND;
        }
        assert_eq!(asked, [0, 2, 6, 14, 30, 62, 122, 182, 242]);
    }

    #[test]
    fn a_path_that_is_left_again_and_again_is_tried_again_later() {
        let (mut honesty, mut now) = (Honesty::default(), Instant::now());
        let mut strikes = Vec::new();
        for _ in 0..5 {
            honesty.avoid(now);
            honesty.avoid(now);
            strikes.push(honesty.strikes());
            honesty.lift(now + 30 * SECOND);
            now += 60 * SECOND;
        }
        assert_eq!(strikes, [0, 1, 2, 3, 3]);
        honesty.avoid(now + 2 * MEMORY);
        assert_eq!(honesty.strikes(), 0);
    }

    #[test]
    fn a_detour_that_is_no_better_is_not_tried_again_soon() {
        let (mut honesty, now) = (Honesty::default(), Instant::now());
        honesty.avoid(now);
        honesty.resign(now + SECOND);
        assert!(!honesty.is_avoided() && !honesty.is_alert(now + MEMORY / 2));
        assert!(honesty.is_alert(now + 2 * MEMORY));
    }
}
