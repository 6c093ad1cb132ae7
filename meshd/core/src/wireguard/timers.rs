//! When must something be sent although nobody asked, and when is a session over? (Paper, section 6.)

use std::time::{Duration, Instant};

/// A session whose initiator we are is renewed when something is sent after this time.
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// No session is used longer than this.
pub const REJECT_AFTER: Duration = Duration::from_secs(180);
/// An initiation without an answer is repeated after this time and up to [`JITTER`] more.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// So that two peers that begin at the same time do not go on doing so.
pub const JITTER: Duration = Duration::from_millis(333);
/// Initiations are repeated for this long.
pub const REKEY_ATTEMPT: Duration = Duration::from_secs(90);
/// Whoever received something and had nothing to send for this long says so.
pub const KEEPALIVE: Duration = Duration::from_secs(10);

/// The timers that run while a session stands. Each packet only moves deadlines; [`Timers::next`] says when to look.
#[derive(Debug, Default)]
pub struct Timers {
    /// Pause between keepalives that are sent whatever happens.
    interval: Option<Duration>,
    /// The peer waits for a sign of life.
    passive: Option<Instant>,
    /// Since when we wait for one.
    unanswered: Option<Instant>,
    /// When something was last sent, or first received: the keepalives that are sent whatever happens count from there.
    last: Option<Instant>,
    /// One began to run since this was last asked.
    started: bool,
    /// How long an answer takes, as far as is known: what is not answered by then is not late yet.
    pub round_trip: Duration,
}

/// What a timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send an empty message.
    Keepalive,
    /// The peer does not answer: begin a new handshake.
    Handshake,
}

impl Timers {
    /// With a keepalive every `interval`, zero for none.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: (!interval.is_zero()).then_some(interval),
            ..Self::default()
        }
    }

    /// Something was sealed for the peer. `data` is false for an empty message.
    pub fn sent(&mut self, data: bool, now: Instant) {
        self.passive = None;
        self.started |= self.last.is_none();
        self.last = Some(now);
        if data && self.unanswered.is_none() {
            self.started = true;
            self.unanswered = Some(now);
        }
    }

    /// Something authentic came from the peer.
    pub fn received(&mut self, data: bool, now: Instant) {
        self.unanswered = None;
        // Not put off by what comes in: a NAT need not keep a mapping for that (RFC 4787, REQ-6), and the peer wants to
        // hear us as well.
        self.started |= self.last.is_none();
        self.last = self.last.or(Some(now));
        if data && self.passive.is_none() {
            self.started = true;
            self.passive = Some(now + KEEPALIVE);
        }
    }

    /// Nothing runs any more.
    pub fn stop(&mut self) {
        (self.passive, self.unanswered, self.last) = (None, None, None);
    }

    /// The earliest time at which [`Self::take_due`] has something.
    pub fn next(&self) -> Option<Instant> {
        [self.passive, self.answer_by(), self.persistent()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a timer began to run since this was last asked: [`Self::next`] may be earlier than it was.
    pub fn take_started(&mut self) -> bool {
        std::mem::take(&mut self.started)
    }

    /// Since when something that was sent waits for any answer.
    pub fn unanswered(&self) -> Option<Instant> {
        self.unanswered
    }

    fn persistent(&self) -> Option<Instant> {
        Some(self.last? + self.interval?)
    }

    fn answer_by(&self) -> Option<Instant> {
        self.unanswered
            .map(|since| since + KEEPALIVE + REKEY_TIMEOUT)
    }

    /// Takes what is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.answer_by().is_some_and(|at| at <= now) {
            self.unanswered = None;
            return Some(Due::Handshake);
        }
        let passive = self.passive.take_if(|at| *at <= now).is_some();
        let persistent = self.persistent().is_some_and(|at| at <= now);
        if persistent {
            self.last = None;
        }
        (passive || persistent).then_some(Due::Keepalive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn whoever_only_receives_answers_once_in_ten_seconds() {
        let (mut timers, now) = (Timers::new(Duration::ZERO), Instant::now());
        timers.received(true, now);
        timers.received(true, now + 5 * SECOND);
        assert_eq!(timers.next(), Some(now + KEEPALIVE));
        assert_eq!(timers.take_due(now + KEEPALIVE), Some(Due::Keepalive));
        timers.sent(false, now + KEEPALIVE);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn two_idle_peers_do_not_answer_each_others_keepalives() {
        let (mut timers, now) = (Timers::new(Duration::ZERO), Instant::now());
        timers.received(false, now);
        assert_eq!(timers.next(), None);
        timers.sent(false, now);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn data_without_any_answer_asks_for_a_handshake() {
        let (mut timers, now) = (Timers::new(Duration::ZERO), Instant::now());
        timers.sent(true, now);
        timers.sent(true, now + 14 * SECOND);
        assert_eq!(timers.take_due(now + 14 * SECOND), None);
        assert_eq!(timers.take_due(now + 15 * SECOND), Some(Due::Handshake));
        timers.sent(true, now + 15 * SECOND);
        timers.received(false, now + 16 * SECOND);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn keepalives_follow_the_last_packet_that_was_sent() {
        let (mut timers, now) = (Timers::new(25 * SECOND), Instant::now());
        timers.received(false, now);
        assert_eq!(timers.next(), Some(now + 25 * SECOND), "of a silent side");
        timers.sent(false, now);
        timers.sent(false, now + 10 * SECOND);
        timers.received(false, now + 20 * SECOND);
        assert_eq!(timers.next(), Some(now + 35 * SECOND));
        assert_eq!(timers.take_due(now + 35 * SECOND), Some(Due::Keepalive));
    }
}
