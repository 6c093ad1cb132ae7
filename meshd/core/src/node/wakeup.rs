//! Which peer is due next?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::peer::table::PeerIdx;

/// The next due time of each peer that has one, in order.
#[derive(Debug)]
pub(super) struct Wakeups {
    order: BTreeSet<(Instant, PeerIdx)>,
    due: BTreeMap<PeerIdx, Instant>,
    /// When the node was last called.
    pub(super) called: Instant,
}

/// A node with nothing else to do is called this often, so that it notices when its machine was asleep.
const IDLE: Duration = Duration::from_secs(20);

impl Wakeups {
    /// Of a node that is made now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            order: BTreeSet::new(),
            due: BTreeMap::new(),
            called: now,
        }
    }

    /// Sets or clears when `peer` is due.
    pub(super) fn set(&mut self, peer: PeerIdx, at: Option<Instant>) {
        if let Some(old) = self.due.remove(&peer) {
            self.order.remove(&(old, peer));
        }
        if let Some(at) = at {
            self.due.insert(peer, at);
            self.order.insert((at, peer));
        }
    }

    /// When `peer` is due.
    pub(super) fn due(&self, peer: PeerIdx) -> Option<Instant> {
        self.due.get(&peer).copied()
    }

    /// The earliest time at which some peer is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// When the node is to be called although nothing is due.
    pub(super) fn idle(&self) -> Instant {
        self.called + IDLE
    }

    /// Takes a peer that is due by `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<PeerIdx> {
        let (at, peer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.set(peer, None);
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_come_due_in_order_and_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let [a, b] = [PeerIdx::new(1), PeerIdx::new(2)];
        let mut wakeups = Wakeups::new(now);
        wakeups.set(a, Some(later));
        wakeups.set(b, Some(later));
        wakeups.set(b, Some(now));
        assert_eq!(wakeups.next(), Some(now));
        assert_eq!(wakeups.pop_due(now), Some(b));
        assert_eq!(wakeups.pop_due(now), None);
        assert_eq!(wakeups.pop_due(later), Some(a));
        assert_eq!(wakeups.next(), None);
    }
}
