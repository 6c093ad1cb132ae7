//! When is a path checked, and when is it left alone? The `is` crate checks every pair of addresses that ever answered
//! every second or two, for ever. What the session hears proves more: a path that it uses is only checked again when
//! an answer or a sign of life is missing.

use std::time::{Duration, Instant};

/// After news (a new agent, new candidates, another pair) checks go on for this long: better pairs may still be found,
/// and the other side may not be done.
const SETTLE: Duration = Duration::from_secs(10);
/// Something that was sent should be answered within this time: ten round trips around the world. Together with the
/// checks that follow (see `path::agent`) a dead path is noticed some 12 s after the first packet that it lost.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A peer that has nothing to say says so every 25 s, unless it is configured otherwise; then a check replaces that. It has
/// three seconds until the peer's consent to be written to ends: see `node::consent`.
const SILENCE: Duration = Duration::from_secs(27);
/// Whoever goes away in good order answers for a moment longer: its interface is taken down after it has said so. What is
/// heard within this time is no proof that it stays.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Whether the pairs of one agent are being checked.
#[derive(Debug, Clone, Copy)]
pub struct Vigil {
    /// When they were looked at anew. What proves the path must be younger.
    since: Instant,
    /// They are checked at least until then.
    until: Instant,
    /// When the pair in use last answered a check.
    proven: Option<Instant>,
    resting: bool,
}

impl Vigil {
    /// The vigil over a new agent.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            until: now + SETTLE,
            proven: None,
            resting: false,
        }
    }

    /// Whether nothing is checked.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// There is something new to be checked.
    pub fn settle(&mut self, now: Instant) {
        self.look(now);
        self.until = now + SETTLE;
    }

    /// Whether the path still stands is to be found out now.
    pub fn look(&mut self, now: Instant) {
        self.since = now;
        self.resting = false;
    }

    /// The peer has said that it goes away. If it is heard later all the same, it stays.
    pub fn farewell(&mut self, now: Instant) {
        self.look(now + FAREWELL);
    }

    /// The pair in use answered.
    pub fn proven(&mut self, now: Instant) {
        self.proven = Some(now);
    }

    /// When that was.
    pub fn when_proven(&self) -> Option<Instant> {
        self.proven
    }

    /// Rests if all is known. `heard` is when the session last heard the peer.
    pub fn rest(&mut self, heard: Option<Instant>, now: Instant) {
        let heard = heard.max(self.proven);
        self.resting = self.until <= now && heard.is_some_and(|at| at > self.since);
    }

    /// When a resting path must be looked at. `heard` is when the session last heard the peer, `unanswered` since when
    /// it waits for an answer.
    pub fn doubt(&self, heard: Option<Instant>, unanswered: Option<Instant>) -> Option<Instant> {
        if !self.resting {
            return None;
        }
        let silent = heard.max(self.proven).unwrap_or(self.since) + SILENCE;
        let unanswered = unanswered.map(|since| self.proven.map_or(since, |at| at.max(since)));
        Some(unanswered.map_or(silent, |since| silent.min(since + PATIENCE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn resting(now: Instant) -> Vigil {
        let mut vigil = Vigil::new(now);
        vigil.rest(Some(now + SETTLE), now + SETTLE);
        assert!(vigil.is_resting());
        vigil
    }

    #[test]
    fn a_new_agent_settles_and_rests_only_when_the_peer_was_heard() {
        let now = Instant::now();
        let mut vigil = Vigil::new(now);
        vigil.rest(Some(now + SECOND), now + SETTLE - SECOND);
        assert!(!vigil.is_resting(), "too early");
        vigil.rest(None, now + SETTLE);
        assert!(!vigil.is_resting(), "never heard");
        assert_eq!(vigil.doubt(None, None), None, "it is being checked");
        vigil.rest(Some(now + SECOND), now + SETTLE);
        assert!(vigil.is_resting());
        vigil.settle(now + 20 * SECOND);
        vigil.rest(Some(now + 21 * SECOND), now + 29 * SECOND);
        assert!(!vigil.is_resting(), "there was something new");
    }

    #[test]
    fn doubt_comes_with_silence_and_sooner_with_a_missing_answer() {
        let now = Instant::now();
        let vigil = resting(now);
        let heard = now + 50 * SECOND;
        assert_eq!(vigil.doubt(Some(heard), None), Some(heard + SILENCE));
        let asked = heard + SECOND;
        let doubt = vigil.doubt(Some(heard), Some(asked));
        assert_eq!(doubt, Some(asked + PATIENCE));
    }

    #[test]
    fn the_last_words_of_who_goes_away_are_no_proof_that_it_stays() {
        let now = Instant::now();
        let mut vigil = resting(now);
        let gone = now + 50 * SECOND;
        vigil.farewell(gone);
        vigil.proven(gone + SECOND);
        vigil.rest(Some(gone + SECOND), gone + 20 * SECOND);
        assert!(!vigil.is_resting(), "it was shutting down");
        vigil.rest(Some(gone + 3 * SECOND), gone + 20 * SECOND);
        assert!(vigil.is_resting(), "it stays");
    }

    #[test]
    fn a_doubt_ends_with_a_proof_that_is_younger() {
        let now = Instant::now();
        let mut vigil = resting(now);
        let (asked, doubted) = (now + 50 * SECOND, now + 53 * SECOND);
        vigil.look(doubted);
        vigil.rest(Some(asked), doubted + SECOND);
        assert!(
            !vigil.is_resting(),
            "what was heard is older than the doubt"
        );
        vigil.proven(doubted + SECOND);
        vigil.rest(Some(asked), doubted + SECOND);
        assert!(vigil.is_resting());
        // Whoever only receives answers seldom; its path is proven all the same.
        let doubt = vigil.doubt(Some(asked), Some(asked));
        assert_eq!(doubt, Some(doubted + SECOND + PATIENCE));
    }
}
