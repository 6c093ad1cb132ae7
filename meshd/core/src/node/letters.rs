//! Which signal leaves next, and when? The discovery server forwards so many of one member and loses those beyond, so a
//! node that has much to say at once, as when it wakes, moves or its NAT forgets it, says what matters most first.
//!
//! A letter is written when it leaves: one that waits costs nothing, is never out of date, and says all that there is to
//! say to its peer.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_wire::discovery::{SIGNAL_REFILL, SIGNALS_AT_ONCE};

use super::{Node, event::Event};
use crate::{
    measure::{Left, Measure},
    peer::{Peer, state::State, table::PeerIdx},
};

/// Certificates that the daemon sends at each change of the list of members, over the same connection.
const CERTIFICATES: u32 = 16;
/// Letters of this node, to whomever: 48 at once and 16 in a second. The server forwards 64 and 20; the difference is for
/// certificates, and for what a connection holds up for a second and hands over with what follows.
const ALL: Measure = Measure {
    most: SIGNALS_AT_ONCE - CERTIFICATES,
    refill: Duration::from_micros(62_500),
};
const _: () = assert!(ALL.refill.as_micros() > SIGNAL_REFILL.as_micros());
/// So many of them leave before a server has said how we are seen, and are out of date as soon as one has, mostly a round
/// trip later. The others wait for that.
const HASTY: u32 = 16;
/// Letters to one peer that count as news: its addresses come to be known one after the other. A peer that asks for more
/// waits for all others.
const EACH: Measure = Measure {
    most: 4,
    refill: Duration::from_secs(1),
};

/// Why a letter is to be sent; the weightier reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// It says something new.
    News,
    /// The last one was not answered.
    Unanswered,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    cause: Cause,
    since: Instant,
}

/// The letters that are to be sent.
#[derive(Debug)]
pub(super) struct Letters {
    waiting: BTreeMap<PeerIdx, Waiting>,
    left: Left,
    /// The latest time that anybody has told.
    now: Instant,
}

impl Letters {
    /// None.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: BTreeMap::new(),
            left: Left::all(now),
            now,
        }
    }

    /// The peer is to be written to.
    pub(super) fn add(&mut self, to: PeerIdx, cause: Cause, now: Instant) {
        self.pass(now);
        let new = Waiting { cause, since: now };
        let waiting = self.waiting.entry(to).or_insert(new);
        waiting.cause = waiting.cause.min(cause);
    }

    /// The peer is none any more.
    pub(super) fn forget(&mut self, to: PeerIdx) {
        self.waiting.remove(&to);
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// From when on one may leave, if one waits and `kept` are not to be used.
    fn next(&self, kept: u32) -> Option<Instant> {
        match self.waiting.is_empty() {
            true => None,
            false => self.left.next(ALL.sparing(kept)),
        }
    }
}

/// The place of a letter among those that wait; the least is the first.
type Rank = (u8, Option<Left>, bool, Reverse<(u32, Option<Instant>)>);

impl Waiting {
    /// Whoever has no proven path comes first; of those the peers that packets wait for, then those that the most is talked
    /// with, then those that were last sent to or heard. What was said before, or is said over and over, comes last, and
    /// first to whoever was written to least.
    fn rank(self, peer: &Peer, now: Instant) -> Rank {
        let is_searched = matches!(peer.state, State::Connecting { .. });
        let written = peer.limits.letters;
        let may = written.is_none_or(|left| left.has_one(EACH, now));
        let is_news = may && self.cause == Cause::News;
        let (class, written) = match (is_news, is_searched) {
            (true, true) => (0, None),
            (true, false) => (1, None),
            (false, _) => (2, written),
        };
        let last = peer.traffic.last_tx.max(peer.traffic.last_rx);
        let busy = (peer.traffic.watch.pace(), last);
        (class, written, peer.pending.is_empty(), Reverse(busy))
    }
}

impl Node {
    /// Sees to it that the peer hears what its agent has to say.
    pub(super) fn send_signal(&mut self, to: PeerIdx, cause: Cause, now: Instant) {
        self.letters.add(to, cause, now);
    }

    /// When a letter that waits may leave.
    pub(super) fn next_letter_at(&self) -> Option<Instant> {
        self.letters.next(self.kept_letters())
    }

    /// How many letters are kept back for what a server is about to say.
    fn kept_letters(&self) -> u32 {
        match self.gatherer.is_looking(self.letters.now) {
            true => ALL.most - HASTY,
            false => 0,
        }
    }

    /// Writes the letter that is to leave now, if any may.
    pub(super) fn write_letter(&mut self) -> Option<Event> {
        let now = self.letters.now;
        self.next_letter_at().filter(|at| *at <= now)?;
        let peers = &self.peers;
        let has_agent = |to: &PeerIdx| peers.get(*to).is_some_and(|peer| peer.agent.is_some());
        self.letters.waiting.retain(|to, _| has_agent(to));
        let ranks = self.letters.waiting.iter().filter_map(|(to, waiting)| {
            let peer = peers.get(*to)?;
            Some((waiting.rank(peer, now), *to))
        });
        let (_, to) = ranks.min()?;
        let waiting = self.letters.waiting.remove(&to)?;
        let peer = self.peers.get_mut(to)?;
        let signal = peer.agent.as_ref()?.signal();
        self.letters.left.take(ALL, now);
        let letters = peer.limits.letters.get_or_insert_with(|| Left::all(now));
        letters.take(EACH, now);
        peer.state
            .written(now.saturating_duration_since(waiting.since), now);
        let node = peer.node_id;
        self.schedule(to);
        Some(Event::Signal { to: node, signal })
    }
}
