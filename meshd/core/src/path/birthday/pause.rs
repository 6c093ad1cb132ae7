//! When may birthday probing be tried with one peer?

use std::time::{Duration, Instant};

/// An attempt with the same peer comes no sooner than this after the last one, whoever asked for it.
pub(super) const PAIR: Duration = Duration::from_secs(600);
/// ICE has this time for a direct path after a relayed one is found; its checks between most hosts take less.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is still missing then (the session, or what a check through the relay tells of our NAT) may come later.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is looked for.
const LOOKS: u32 = 4;
/// A peer that did not answer is not asked again for this long.
const UNANSWERED: Duration = Duration::from_secs(60);

/// The pauses of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pause {
    due: Option<Instant>,
    looks: u32,
    not_before: Option<Instant>,
}

impl Pause {
    /// The agent has found a path by way of a relay, and none that is direct.
    pub fn relayed(&mut self, now: Instant) {
        self.due = self.due.or(Some(now + PATIENCE));
        self.looks = 0;
    }

    /// It has found a direct path.
    pub fn direct(&mut self) {
        self.due = None;
    }

    /// When it is to be looked whether an attempt is possible.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether that is now; if so, it is planned again a few times.
    pub fn take_due(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|at| at > now) {
            return false;
        }
        self.looks += 1;
        self.due = (self.looks < LOOKS).then_some(now + AGAIN);
        true
    }

    /// Whether an attempt may begin.
    pub fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// The peer is asked.
    pub fn asked(&mut self, now: Instant) {
        self.due = None;
        self.not_before = Some(now + UNANSWERED);
    }

    /// An attempt has begun.
    pub fn began(&mut self, now: Instant) {
        self.due = None;
        self.not_before = Some(now + PAIR);
    }
}
