//! With whom is a path to be there before anybody sends something? So many that routes lead everywhere, and no more.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::{Node, neighbours::MAX_NEIGHBOURS};
use crate::peer::{Peer, state::State, table::PeerIdx};

/// How often it is looked for peers that should be neighbours.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses between attempts to reach the same one: the first, and the longest. They double.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Attempts at a time, so that a start does not check all paths at once.
const AT_ONCE: usize = 4;
/// Neighbours that are sought where there are more members than can all be neighbours: fewer than there may be, so that whoever
/// comes later finds room.
const SOUGHT: usize = 5;
/// A neighbour gives way to a newcomer at most so often.
const REPLACED: Duration = Duration::from_secs(10);
/// A peer that does not take us for a neighbour is not asked again before this.
const REFUSED: Duration = Duration::from_secs(60);

/// Whom to reach, and when to try again.
#[derive(Debug)]
pub(super) struct Topology {
    seed: u64,
    due: Instant,
    tried: BTreeMap<PeerIdx, Tried>,
    refused: BTreeMap<PeerIdx, Instant>,
    replaced: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    next: Instant,
    pause: Duration,
}

impl Topology {
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self {
            seed,
            due: now,
            tried: BTreeMap::new(),
            refused: BTreeMap::new(),
            replaced: None,
        }
    }

    /// Whether a neighbour may give way to a newcomer now.
    pub(super) fn may_replace(&mut self, now: Instant) -> bool {
        let may = self.replaced.is_none_or(|at| at + REPLACED <= now);
        if may {
            self.replaced = Some(now);
        }
        may
    }

    /// When it is looked again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A peer did not answer as a neighbour.
    pub(super) fn refused(&mut self, index: PeerIdx, now: Instant) {
        self.refused.insert(index, now + REFUSED);
    }

    /// Whether it did not a moment ago.
    pub(super) fn is_refused(&self, index: PeerIdx, now: Instant) -> bool {
        self.refused.get(&index).is_some_and(|until| now < *until)
    }

    /// A peer is another one, or there again: what was tried before says nothing.
    pub(super) fn forget(&mut self, index: PeerIdx) {
        self.tried.remove(&index);
        self.refused.remove(&index);
    }

    /// Everything may be reached otherwise than before.
    pub(super) fn begin_anew(&mut self) {
        self.tried.clear();
        self.refused.clear();
    }

    /// Whether a peer may be tried now; plans the next time.
    fn may_try(&mut self, index: PeerIdx, now: Instant) -> bool {
        let tried = self.tried.entry(index).or_insert(Tried {
            next: now,
            pause: FIRST_PAUSE,
        });
        if now < tried.next {
            return false;
        }
        tried.next = now + tried.pause;
        tried.pause = (tried.pause * 2).min(LONGEST_PAUSE);
        true
    }

    /// Each node ranks the others in an order of its own, so that all the wishes together make a graph without a centre.
    fn rank(&self, peer: &Peer) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, peer.node_id).hash(&mut hasher);
        hasher.finish()
    }
}

impl Node {
    /// Dials peers that should be neighbours and have no path.
    pub(super) fn drive_topology(&mut self, now: Instant) {
        if now < self.mesh.topology.due {
            return;
        }
        self.mesh.topology.due = now + LOOK;
        let linked: Vec<PeerIdx> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.link.is_some() && !peer.is_carried())
            // A path that is lost is a neighbour's again when checks or the peer prove it.
            .filter(|(_, peer)| peer.traffic.watch.losses() == 0)
            .map(|(index, _)| index)
            .collect();
        let wanted = match self.peers.len() > MAX_NEIGHBOURS {
            true => SOUGHT,
            false => MAX_NEIGHBOURS,
        };
        for index in linked {
            if self.mesh.count() < wanted {
                self.tie(index, now);
            }
        }
        let room = wanted.saturating_sub(self.mesh.count()).min(AT_ONCE);
        let online = self.peers.iter().filter(|(_, peer)| peer.entry.online);
        let mut wished: Vec<(u64, PeerIdx)> = online
            .filter(|(_, peer)| has_no_path(peer, now))
            .map(|(index, peer)| (self.mesh.topology.rank(peer), index))
            .collect();
        wished.sort_unstable();
        let mut attempts = 0;
        for (_, index) in wished {
            if attempts < room && self.mesh.topology.may_try(index, now) {
                attempts += 1;
                self.dial(index, now);
            }
        }
    }
}

/// Whether a peer has no path of its own, and none is looked for just now.
fn has_no_path(peer: &Peer, now: Instant) -> bool {
    match peer.is_carried() {
        true => peer.agent.is_none() && peer.state == State::Connected,
        false => peer.link.is_none() && peer.state.may_dial(now),
    }
}
