//! How far is the connection to a peer, and which moves are legal?

use std::time::{Duration, Instant};

use crate::path::vigil::FAREWELL;

/// Signals are repeated this often until the peer answers: the discovery server keeps none for an absent peer.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);
/// A failed peer is not dialled again before this, however many packets ask for it.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A person who pinged an absent peer waits about this long before the keyboard.
const STILL_WANTED: Duration = Duration::from_secs(60);
/// An attempt that began so lately need not begin anew: all that one move brings about is noticed within this time.
const LATELY: Duration = Duration::from_millis(100);
/// How long an attempt goes on to reach a peer that has said that it goes away.
const LAST_ATTEMPT: Duration = Duration::from_secs(10);

/// The connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was asked for yet.
    Idle,
    /// Signals and connectivity checks are under way.
    Connecting {
        /// Only what is heard later says that the peer is there.
        began: Instant,
        /// When we give up.
        deadline: Instant,
        /// When our signal is sent again, unless the peer has answered.
        resend: Instant,
    },
    /// A path is proven.
    Connected,
    /// No path was found.
    Failed {
        /// The earliest next attempt.
        retry: Instant,
    },
}

impl State {
    /// A first or new attempt that lasts at most `timeout`.
    pub fn connecting(now: Instant, timeout: Duration) -> Self {
        Self::Connecting {
            began: now,
            deadline: now + timeout,
            resend: now + SIGNAL_INTERVAL,
        }
    }

    /// An attempt that led nowhere.
    pub fn failed(now: Instant) -> Self {
        Self::Failed {
            retry: now + RETRY_AFTER,
        }
    }

    /// The peer has said that it goes away: an attempt ends soon, unless the peer is heard later all the same.
    pub fn farewell(&mut self, now: Instant) {
        if let Self::Connecting {
            began, deadline, ..
        } = self
        {
            *began = now + FAREWELL;
            *deadline = (*deadline).min(now + LAST_ATTEMPT);
        }
    }

    /// Whether an attempt began a moment ago.
    pub fn began_lately(&self, now: Instant) -> bool {
        matches!(self, Self::Connecting { began, .. } if now < *began + LATELY)
    }

    /// Whether a packet for the peer may start an attempt now.
    pub fn may_dial(&self, now: Instant) -> bool {
        match self {
            Self::Idle => true,
            Self::Failed { retry } => *retry <= now,
            Self::Connecting { .. } | Self::Connected => false,
        }
    }

    /// Whether an attempt failed so recently that it is still wanted.
    pub fn failed_lately(&self, now: Instant) -> bool {
        match self {
            Self::Failed { retry } => now < *retry + STILL_WANTED,
            Self::Idle | Self::Connecting { .. } | Self::Connected => false,
        }
    }

    /// Notes that our signal is to go out again.
    pub fn resent(&mut self, now: Instant) {
        if let Self::Connecting { resend, .. } = self {
            *resend = now + SIGNAL_INTERVAL;
        }
    }

    /// Our signal went out, after others, for which it `waited`. Until then the peer could not know of the attempt, so it
    /// lasts that much longer.
    pub fn written(&mut self, waited: Duration, now: Instant) {
        if let Self::Connecting {
            deadline, resend, ..
        } = self
        {
            *deadline += waited;
            *resend = now + SIGNAL_INTERVAL;
        }
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Connecting {
                deadline, resend, ..
            } => Some(*deadline.min(resend)),
            Self::Idle | Self::Connected | Self::Failed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_peer_is_left_alone_for_a_while() {
        let now = Instant::now();
        let failed = State::failed(now);
        assert!(!failed.may_dial(now));
        assert!(failed.may_dial(now + RETRY_AFTER));
        assert!(State::Idle.may_dial(now));
        assert!(!State::Connected.may_dial(now));
    }

    #[test]
    fn an_attempt_is_due_for_its_signal_before_its_end() {
        let now = Instant::now();
        let mut state = State::connecting(now, Duration::from_secs(30));
        assert_eq!(state.deadline(), Some(now + SIGNAL_INTERVAL));
        state.resent(now + Duration::from_secs(29) + SIGNAL_INTERVAL);
        assert_eq!(state.deadline(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn an_attempt_whose_signal_had_to_wait_lasts_as_much_longer() {
        let now = Instant::now();
        let waited = Duration::from_secs(7);
        let mut state = State::connecting(now, Duration::from_secs(30));
        state.written(waited, now + waited);
        assert_eq!(state.deadline(), Some(now + waited + SIGNAL_INTERVAL));
        state.resent(now + Duration::from_secs(40));
        assert_eq!(state.deadline(), Some(now + Duration::from_secs(37)));
    }

    #[test]
    fn an_attempt_to_reach_who_goes_away_is_short_and_needs_a_later_sign_of_life() {
        let now = Instant::now();
        let mut state = State::connecting(now, Duration::from_secs(30));
        state.farewell(now + Duration::from_secs(1));
        let State::Connecting {
            began, deadline, ..
        } = state
        else {
            panic!("{state:?}");
        };
        assert_eq!(began, now + Duration::from_secs(3));
        assert_eq!(deadline, now + Duration::from_secs(11));
    }
}
