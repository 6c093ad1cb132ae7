//! Does a path lose more than it should? Session counters have no gaps but those of messages that are lost or late, so
//! whoever receives sees loss without a question; a trial then asks the path itself.

use std::time::{Duration, Instant};

use crate::{queue::transmit::Route, wireguard::replay::Tally};

/// A cumulative sum (Page 1954) tells a path that loses 15 % of its messages from one that loses 2 %: each that is missing
/// weighs as much as this many that came, the ratio of the logarithms of both likelihoods.
const MISSING: i64 = 14;
/// Two that are missing within eight: reason enough to ask, and soon enough where ten messages come in a second.
const SUSPECT: i64 = 20;
/// More than so many in one look of 200 ms, and the path is not what loses them: no TCP gets that far at a loss of 15 %, so
/// somebody sends more than there is room for, and would do the same to any other path.
const FLOOD: u64 = 400;

/// Pings of a trial are this far apart.
const INTERVAL: Duration = Duration::from_millis(30);
/// A pong is waited for at least this long, and twice as long as one takes.
const PATIENCE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// In the identity of every ping of a trial, and of none that people ask for.
const MARK: u64 = 1 << 62;

/// Whether a ping with this identity is one of a trial.
pub fn is_of_a_trial(id: u64) -> bool {
    // Those with the highest bit are of `path::mtu`.
    id >> 62 == 1
}

/// Watches the gaps in what comes from one peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauge {
    /// Under which keys, and what had come when it last looked.
    seen: ([Option<u32>; 3], Tally),
    score: i64,
}

impl Gauge {
    /// Looks at what has come by now under the keys named so. Returns whether too much is missing; then it begins anew.
    pub fn look(&mut self, (keys, after): ([Option<u32>; 3], Tally)) -> bool {
        let (old, before) = std::mem::replace(&mut self.seen, (keys, after));
        let expected = after.expected.saturating_sub(before.expected);
        if old != keys || expected > FLOOD {
            self.score = 0;
            return false;
        }
        let received = after.received.saturating_sub(before.received);
        let [expected, received] = [expected, received].map(|n| i64::try_from(n).unwrap_or(0));
        // What was late by the last look and has come now counts as found.
        let missing = expected - received;
        self.score = (self.score + MISSING * missing - received).max(0);
        let suspect = self.score >= SUSPECT;
        if suspect {
            self.score = 0;
        }
        suspect
    }
}

/// What a trial is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The path is in use and suspected. Of 25 pings, three lost ones are too many: 98 of 100 times that happens where a
    /// fifth is lost, and 1 of 100 where a hundredth is.
    Doubt,
    /// It was left before, and would be used again: of 50 pings, two lost ones are too many.
    Return,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It carries what it is given.
    Good,
    /// It does not.
    Lossy,
}

/// Asks one path for its loss, there and back, whichever path is in use.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// The path.
    pub route: Route,
    /// What for.
    pub purpose: Purpose,
    /// Names its pings, so that nobody answers one that was not sent.
    name: u64,
    began: Instant,
    sent: u32,
    /// One bit for each ping.
    answered: u64,
    patience: Duration,
}

impl Trial {
    /// A trial that begins now. `random` names its pings.
    pub fn new(route: Route, purpose: Purpose, random: u32, now: Instant) -> Self {
        Self {
            route,
            purpose,
            name: MARK | u64::from(random) << 8,
            began: now,
            sent: 0,
            answered: 0,
            patience: PATIENCE[0],
        }
    }

    /// When something is due: a ping or the verdict.
    pub fn poll_timeout(&self) -> Instant {
        match self.sent < self.count() {
            true => self.at(self.sent),
            false => self.at(self.count() - 1) + self.patience,
        }
    }

    /// The identity of the ping that is to be sent now. One that could not be sent in time is sent late, and the rest with it.
    pub fn poll_ping(&mut self, now: Instant) -> Option<u64> {
        if self.sent == self.count() || now < self.at(self.sent) {
            return None;
        }
        // Without a hurry: a machine that was busy does not send a burst.
        self.began += now.saturating_duration_since(self.at(self.sent));
        self.sent += 1;
        Some(self.name | u64::from(self.sent - 1))
    }

    /// Takes the pong with this identity; false if it is none of this trial.
    pub fn answered(&mut self, id: u64, rtt: Duration) -> bool {
        let number = id & 0xff;
        if id & !0xff != self.name || number >= u64::from(self.sent) {
            return false;
        }
        self.answered |= 1 << number;
        self.patience = (2 * rtt).clamp(self.patience, PATIENCE[1]);
        true
    }

    /// The verdict, as soon as it stands.
    pub fn verdict(&self, now: Instant) -> Option<Verdict> {
        let overdue = (0..self.sent).filter(|n| self.at(*n) + self.patience <= now);
        let lost = overdue.filter(|n| self.answered >> n & 1 == 0).count();
        let too_many = match self.purpose {
            Purpose::Doubt => 3,
            Purpose::Return => 2,
        };
        if lost >= too_many {
            return Some(Verdict::Lossy);
        }
        let is_over = self.sent == self.count() && self.poll_timeout() <= now;
        let all_came = self.answered.count_ones() == self.count();
        (is_over || all_came).then_some(Verdict::Good)
    }

    fn count(&self) -> u32 {
        match self.purpose {
            Purpose::Doubt => 25,
            Purpose::Return => 50,
        }
    }

    fn at(&self, number: u32) -> Instant {
        self.began + INTERVAL * number
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Looks five times a second while `pps` messages come of which this share is lost; after how many looks it is suspected.
    fn suspected(pps: u64, loss: f64, seconds: u32, seed: u64) -> Option<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut gauge, mut tally) = (Gauge::default(), Tally::default());
        (0..5 * seconds).find(|_| {
            for _ in 0..pps / 5 {
                tally.expected += 1;
                tally.received += u64::from(!rng.random_bool(loss));
            }
            gauge.look(([Some(1), None, None], tally))
        })
    }

    /// How many of 500 trials find a path lossy that loses this share each way.
    fn found_lossy(purpose: Purpose, loss: f64) -> usize {
        let route = Route::to(([198, 51, 100, 1], 7081).into());
        let found = |seed: &u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(*seed);
            let mut now = Instant::now();
            let mut trial = Trial::new(route, purpose, 7, now);
            loop {
                if let Some(id) = trial.poll_ping(now)
                    && !rng.random_bool(loss)
                {
                    assert!(trial.answered(id, Duration::from_millis(40)));
                }
                if let Some(verdict) = trial.verdict(now) {
                    return verdict == Verdict::Lossy;
                }
                now = trial.poll_timeout().max(now + Duration::from_millis(1));
            }
        };
        (0..500).filter(found).count()
    }

    #[test]
    fn a_fifth_is_suspected_within_a_second_or_two_and_a_hundredth_seldom() {
        for seed in 0..100 {
            assert!(suspected(50, 0.2, 3, seed).is_some(), "{seed}");
            assert_eq!(suspected(500, 0.0, 60, seed), None);
        }
        let soon = (0..100).filter(|seed| suspected(10, 0.2, 2, *seed).is_some());
        assert!(soon.count() > 80);
        let never = (0..100).filter(|seed| suspected(50, 0.01, 10, *seed).is_none());
        assert!(never.count() > 50);
    }

    #[test]
    fn a_flood_says_nothing_of_the_path() {
        assert_eq!(suspected(10_000, 0.5, 10, 1), None);
    }

    #[test]
    fn what_was_late_is_not_missing() {
        let mut gauge = Gauge::default();
        let tally = |expected, received| ([Some(1), None, None], Tally { expected, received });
        assert!(!gauge.look(tally(10, 10)));
        assert!(!gauge.look(tally(30, 29)));
        assert!(!gauge.look(tally(40, 40)));
        assert!(!gauge.look(tally(50, 49)), "the late one has come");
        assert!(gauge.look(tally(60, 57)));
    }

    #[test]
    fn new_keys_begin_anew() {
        let mut gauge = Gauge::default();
        let tally = |keys, expected, received| ([keys, None, None], Tally { expected, received });
        assert!(!gauge.look(tally(Some(1), 100, 100)));
        assert!(!gauge.look(tally(Some(2), 5, 1)));
        assert!(!gauge.look(tally(None, 0, 0)));
        assert!(!gauge.look(tally(Some(2), 50, 1)));
    }

    #[test]
    fn trials_tell_good_paths_from_lossy_ones() {
        assert_eq!(found_lossy(Purpose::Doubt, 0.0), 0);
        assert!(found_lossy(Purpose::Doubt, 0.01) < 15);
        assert!(found_lossy(Purpose::Doubt, 0.2) > 430, "one way alone");
        assert!(found_lossy(Purpose::Doubt, 0.36) > 490);
        assert_eq!(found_lossy(Purpose::Return, 0.0), 0);
        assert!(found_lossy(Purpose::Return, 0.2) > 495);
    }

    #[test]
    fn a_trial_takes_no_pong_of_another_one_and_none_twice() {
        let (route, now) = (Route::to(([198, 51, 100, 1], 7081).into()), Instant::now());
        let mut trial = Trial::new(route, Purpose::Doubt, 7, now);
        let id = trial.poll_ping(now).unwrap();
        assert!(!trial.answered(id + 1, INTERVAL), "not sent yet");
        assert!(!trial.answered(id ^ 1 << 20, INTERVAL), "another trial");
        assert!(trial.answered(id, INTERVAL) && trial.answered(id, INTERVAL));
        assert_eq!(trial.poll_ping(now), None);
        assert_eq!(trial.poll_timeout(), now + INTERVAL);
    }
}
