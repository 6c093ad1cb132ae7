//! How long may a packet be on the path to one peer? Datagram packetization layer path MTU discovery (RFC 8899), with
//! pings between the daemons that are padded to the length in question.
//!
//! All lengths here are those of inner packets. What the path adds to one it adds to a probe as well, so it need not be known.

mod round;

use std::time::{Duration, Instant};

use self::round::{Round, Verdict};
use crate::{lan::errors::Limiter, queue::transmit::Route};

/// TCP is cut to this before anything is known, and a probe of this length tells a path that loses long packets from one
/// that loses all (BASE_PLPMTU): what an underlay of 1124 bytes carries over IPv4, 28 bytes of headers and 32 of WireGuard less.
pub const BASE: usize = 1124 - 28 - 32;
/// The shortest that is looked for (MIN_PLPMTU), and the least that a router is believed: what every IPv4 host takes, 576
/// bytes (RFC 791), less the same.
pub const FLOOR: usize = 576 - 28 - 32;
/// While long packets are sent, the path is asked this often whether it still carries them. A path that ceases to is
/// noticed within this time and four tries.
const CONFIRM: Duration = Duration::from_secs(1);
/// A path that does not carry everything is looked at again after the first of these, in case of bad luck, and then
/// after the second (PMTU_RAISE_TIMER), while long packets are sent.
const RAISE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// A probe is waited for this long at least, so that a busy machine is not taken for a narrow path.
const PATIENCE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// The same before there was any answer.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// Rounds without any answer until the path is left alone for a while: one with each control.
const SILENT_ROUNDS: u8 = 2;
/// In the identity of every probe, and of no ping that people ask for.
const MARK: u64 = 1 << 63;

/// The path MTU to one peer.
#[derive(Debug)]
pub struct PathMtu {
    /// The interface's own: nothing is longer.
    full: usize,
    /// The longest that passed.
    proven: Option<usize>,
    /// The shortest that did not, though shorter ones did.
    refuted: Option<usize>,
    /// The path that this is about; none without a session.
    route: Option<Route>,
    /// Names the probes of this path, so that nobody answers one that was not sent. The lower half counts.
    epoch: u64,
    /// Which lengths are being tried.
    round: Option<Round>,
    rtt: Option<Duration>,
    due: Option<Instant>,
    /// When the last round ended.
    rested: Option<Instant>,
    /// When more than what is proven is tried again, and how often that was done.
    raise: (Option<Instant>, usize),
    /// Bounds how often senders are told of it.
    told: Limiter,
    /// Rounds in succession without any answer.
    silent: u8,
}

impl PathMtu {
    /// Without a path. `full` is the interface's MTU.
    pub fn new(full: usize) -> Self {
        Self {
            full,
            proven: None,
            refuted: None,
            route: None,
            epoch: 0,
            round: None,
            rtt: None,
            due: None,
            rested: None,
            raise: (None, 0),
            told: Limiter::default(),
            silent: 0,
        }
    }

    /// What TCP is cut to, and what padding fills up to: what is proven.
    pub fn proven(&self) -> usize {
        self.proven.unwrap_or(BASE).min(self.full)
    }

    /// What is longer than this does not pass. A path is trusted until the contrary is known, but not tempted again at the
    /// expense of packets: a second look that goes on changes nothing.
    pub fn limit(&self) -> usize {
        match (self.refuted, &self.round) {
            (None, _) => usize::MAX,
            (Some(_), Some(round)) if round.is_second_look() => self.proven(),
            (Some(refuted), _) => refuted - 1,
        }
    }

    /// What `status` shows: the longest packet that is let through.
    pub fn shown(&self) -> usize {
        self.limit().min(self.full)
    }

    /// Whether a sender is told now that its packet does not pass.
    pub fn tells(&mut self, now: Instant) -> bool {
        self.told.allows(now)
    }

    /// Whether `route` has to be told to [`Self::follow`].
    pub fn is_about(&self, route: Route) -> bool {
        self.route == Some(route)
    }

    /// The session uses this path from now on. `random` names the probes.
    pub fn follow(&mut self, route: Route, random: u32, now: Instant) {
        *self = Self::new(self.full);
        self.route = Some(route);
        self.epoch = u64::from(random >> 1) << 16;
        self.ask(now);
    }

    /// There is no session, or no path.
    pub fn forget(&mut self) {
        *self = Self::new(self.full);
    }

    /// A packet of `len` bytes is being sent: long ones keep the path under watch. Returns whether that began to run a
    /// timer.
    pub fn sent(&mut self, len: usize, now: Instant) -> bool {
        if len <= FLOOR || self.due.is_some() || self.route.is_none() {
            return false;
        }
        let next = self.rested.map_or(now, |at| at + CONFIRM);
        self.due = Some(next.max(now));
        true
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Lets time pass. If true, the probes that [`Self::probes`] names are to be sent.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if !is_due(self.due) {
            return false;
        }
        match self.round.as_ref().map(Round::verdict) {
            None => self.look(now),
            Some(Verdict::Undecided) => {}
            Some(verdict) => self.conclude(verdict, now),
        }
        let patience = self.patience();
        match &mut self.round {
            Some(round) if is_due(self.due) => {
                round.next_try(now);
                self.due = Some(now + patience);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Identity and length of each probe of the try that has just begun, short ones first: a longer datagram never joins
    /// the train of a shorter one, so each stands alone and none is lost for another.
    pub fn probes(&self) -> impl Iterator<Item = (u64, usize)> {
        let sizes = self.round.iter().flat_map(Round::wanted);
        sizes.map(|size| (self.name() | u64::try_from(size).unwrap_or(0), size))
    }

    /// An answer; false if it is to no probe of this path.
    pub fn answered(&mut self, id: u64, rtt: Duration, now: Instant) -> bool {
        let size = usize::try_from(id & 0xFFFF).unwrap_or(0);
        if id & MARK == 0 {
            return false;
        }
        if id & !0xFFFF != self.name() || size > self.full || self.route.is_none() {
            return true;
        }
        // A queue that fills under load is forgotten slowly.
        self.rtt = self.rtt.map(|old| old * 7 / 8).max(Some(rtt));
        self.silent = 0;
        self.prove(size);
        let patience = self.patience();
        let Some(round) = &mut self.round else {
            return true;
        };
        round.answered(size);
        if let Some(tried) = round.tried() {
            let until = (tried + patience).max(now);
            self.due = self.due.map(|due| due.min(until));
        }
        let verdict = round.is_complete().then(|| round.verdict());
        if let Some(verdict) = verdict {
            self.conclude(verdict, now);
        }
        true
    }

    /// A router, or our own system, says that no packet longer than `size` passes. It is believed at once, as it is what
    /// stops losses, and then tested like anything else.
    pub fn claimed(&mut self, size: usize, now: Instant) {
        if self.route.is_none() || size < FLOOR || size >= self.limit().min(self.full) {
            return;
        }
        self.count();
        let before = self.proven.map_or(self.full, |proven| proven.max(size + 1));
        self.proven = Some(size);
        self.refuted = Some(size + 1);
        self.start(Round::second_look(&[size, size + 1, before]), now);
    }

    /// The longest that is known to have passed.
    fn prove(&mut self, size: usize) {
        if self.proven.is_none_or(|proven| proven < size) {
            self.proven = Some(size);
        }
        if self.refuted.is_some_and(|refuted| refuted <= size) {
            // It was bad luck, or a false claim. Whether it goes further the rounds that follow will tell.
            self.refuted = (size < self.full).then_some(self.full);
        }
    }

    /// Does the path carry what is let through?
    fn ask(&mut self, now: Instant) {
        // Where there was no answer, even the control may have been too long.
        let control = [BASE, FLOOR][usize::from(self.silent % 2)];
        let size = self.shown();
        self.count();
        self.start(Round::first(control.min(size), size), now);
    }

    /// Long packets are being sent, and nothing is being tried.
    fn look(&mut self, now: Instant) {
        match (self.proven, self.raise.0) {
            (Some(proven), Some(at)) if at <= now => {
                self.count();
                self.start(Round::second_look(&[proven, self.full]), now);
            }
            _ => self.ask(now),
        }
    }

    /// A round is over.
    fn conclude(&mut self, verdict: Verdict, now: Instant) {
        let second_look = self.round.as_ref().is_some_and(Round::is_second_look);
        match verdict {
            Verdict::Undecided => return,
            Verdict::Silent => return self.wait(now),
            Verdict::Passed { size } => self.prove(size),
            Verdict::Narrow { passed, lost } => {
                self.proven = Some(passed);
                self.refuted = Some(lost);
                if !second_look {
                    self.raise = (None, 0);
                }
            }
        }
        let (proven, refuted) = (self.proven(), self.refuted);
        match refuted {
            Some(refuted) if refuted > proven + 1 => {
                self.start(Round::ladder((proven, refuted), second_look), now);
            }
            Some(_) | None => self.rest(now),
        }
    }

    fn start(&mut self, round: Round, now: Instant) {
        self.round = Some(round);
        self.due = Some(now);
    }

    fn rest(&mut self, now: Instant) {
        self.round = None;
        self.due = None;
        self.rested = Some(now);
        let (raise, times) = &mut self.raise;
        if self.refuted.is_none() {
            *raise = None;
        } else if raise.is_none_or(|at| at <= now) {
            *raise = Some(now + RAISE[(*times).min(1)]);
            *times += 1;
        }
    }

    /// Nobody answered, so this says nothing of lengths.
    fn wait(&mut self, now: Instant) {
        self.silent += 1;
        if self.silent < SILENT_ROUNDS {
            self.ask(now);
            self.due = Some(now + FIRST_PATIENCE * u32::from(self.silent));
        } else {
            self.silent = 0;
            self.round = None;
            self.due = None;
            // The next long packet begins anew, not before this.
            self.rested = Some(now + RAISE[0]);
        }
    }

    /// Answers to what was asked so far count no more.
    fn count(&mut self) {
        self.epoch = self.epoch & !0xFFFF | (self.epoch + 1) & 0xFFFF;
    }

    /// What the identities of all probes begin with.
    fn name(&self) -> u64 {
        MARK | self.epoch << 16
    }

    fn patience(&self) -> Duration {
        let [least, most] = PATIENCE;
        self.rtt
            .map_or(FIRST_PATIENCE, |rtt| (rtt * 2).clamp(least, most))
    }
}

#[cfg(test)]
mod tests;
