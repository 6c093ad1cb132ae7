//! What must hold at every step, whatever happens: the properties of `docs/ROUTING.md`, by their numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use mesh_core::routing::NextHop;
use mesh_wire::routing::{INFINITY, Item, Message, Update};

use super::Routes;

/// Eight links of 2,000 ms each.
const WORST_METRIC: u16 = 16_800;
/// How long a router remembers what it announced, after it has lost its last route.
const REMEMBER: Duration = Duration::from_secs(200);
/// Destinations that a neighbour may speak of beyond the members, and one too many that shows it.
const STRANGERS: usize = 65;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// What each router would do with a message for each member, as of its last change.
    tables: BTreeMap<u32, BTreeMap<u32, NextHop>>,
    /// By router and member: the feasibility distance, and when there last was a route.
    distances: BTreeMap<(u32, u32), (u16, u16, Instant)>,
}

impl Watch {
    /// A router has lost its memory, and what it has forgotten may be greater than what it says next.
    pub(super) fn forget(&mut self, who: u32) {
        self.distances.retain(|(at, _), _| *at != who);
    }
}

impl Routes {
    /// Looks at what became of a router.
    pub(super) fn check(&mut self, who: u32) {
        if self.is_liar(who) {
            return;
        }
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        self.check_distances(&mut watch, who);
        self.check_size(who);
        let changed = self.check_table(&mut watch, who);
        for member in changed {
            self.follow(&watch, who, member);
        }
        self.watch = Some(watch);
    }

    /// P2: at one sequence number no feasibility distance grows, and no number goes back, until it may be forgotten.
    fn check_distances(&self, watch: &mut Watch, who: u32) {
        let Some(router) = self.routers.get(&who) else {
            return;
        };
        for member in self.routers.keys() {
            let old = watch.distances.get(&(who, *member)).copied();
            let Some((seqno, metric)) = router.feasibility_distance(*member) else {
                if let Some((.., last)) = old {
                    let since = self.now - last;
                    assert!(since >= REMEMBER, "{who} forgot {member} after {since:?}");
                    watch.distances.remove(&(who, *member));
                }
                continue;
            };
            let routed = router.next_hop(*member) != NextHop::None;
            let last = old.map(|(.., last)| last).filter(|_| !routed);
            if let Some((old_seqno, old_metric, _)) = old {
                assert!(
                    seqno.wrapping_sub(old_seqno) < 1 << 15,
                    "the sequence number of {member} goes back at {who}"
                );
                assert!(
                    seqno != old_seqno || metric <= old_metric,
                    "the distance of {member} grows at {who}"
                );
            }
            let seen = (seqno, metric, last.unwrap_or(self.now));
            watch.distances.insert((who, *member), seen);
        }
    }

    /// P11: nothing that others say makes a router hold more than this.
    fn check_size(&self, who: u32) {
        let Some(router) = self.routers.get(&who) else {
            return;
        };
        let (members, size) = (self.routers.len(), router.size());
        let neighbours = router.neighbours().count();
        assert!(
            size.destinations <= members
                && size.routes <= members * neighbours
                && size.announced <= (members + 1) * neighbours
                && size.heard <= (2 * members + STRANGERS) * neighbours
                && size.planned <= members + (2 * members + 1) * neighbours
                && size.asked <= members * neighbours,
            "{who} has {neighbours} neighbours and holds {size:?}"
        );
    }

    /// Members that a message is now sent on for in another way. A path that a message names leads through no member twice.
    fn check_table(&self, watch: &mut Watch, who: u32) -> BTreeSet<u32> {
        let Some(router) = self.routers.get(&who) else {
            return BTreeSet::new();
        };
        let table = watch.tables.entry(who).or_default();
        let mut changed = BTreeSet::new();
        for member in self.routers.keys() {
            let next = router.next_hop(*member);
            if table.insert(*member, next) == Some(next) {
                continue;
            }
            changed.insert(*member);
            if let NextHop::Path(path) = next {
                let nodes = path.members().iter().chain([member]);
                let mut seen = BTreeSet::from([self.member(who)]);
                assert!(
                    nodes.into_iter().all(|node| seen.insert(*node)),
                    "{who} sends to {member} along {path:?}"
                );
            }
        }
        changed
    }

    /// P1: from table to table no message comes back to where it was.
    fn follow(&self, watch: &Watch, from: u32, to: u32) {
        let (mut at, mut visited) = (from, vec![from]);
        while let Some(NextHop::Neighbour(next)) =
            watch.tables.get(&at).and_then(|table| table.get(&to))
        {
            let place = self.place(at, *next);
            // Whoever was started again carries for a neighbour once that has heard of it, and so has dropped what led through it.
            if *next == to
                || self.is_liar(place)
                || !self.routers[&place].carries_for(self.member(at))
            {
                return;
            }
            assert!(
                !visited.contains(&place),
                "a circle on the way to {to}: {visited:?}, {place}"
            );
            visited.push(place);
            at = place;
        }
    }

    /// What goes over a link is counted; what a router says to a neighbour is about no route through that one (P10), and no metric
    /// grows without bounds (P3).
    pub(super) fn overhear(&mut self, from: u32, to: u32, message: &Message) {
        if self.watch.is_some() {
            self.epochs
                .insert((from, to), (message.epoch, message.your_epoch));
        }
        let (is_liar, to) = (self.is_liar(from), self.member(to));
        for item in &message.items {
            match item {
                Item::Update(update) if !is_liar => {
                    assert!(
                        update.metric == INFINITY || is_fit(to, update),
                        "{to} was told by {from} of {update:?}"
                    );
                    self.traffic.count(update, self.now);
                }
                Item::SeqnoRequest(_) => self.traffic.requests += 1,
                Item::Update(_) | Item::Refresh { .. } | Item::DumpRequest | Item::PathError(_) => {
                }
            }
        }
    }
}

fn is_fit(to: u32, update: &Update) -> bool {
    let leads_back = update.path.members().contains(&to) || update.destination == to;
    !leads_back && update.metric <= WORST_METRIC
}

/// What routers said to each other.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Messages that were sent.
    pub messages: u64,
    /// Their bytes, without what a session and a link put around them.
    pub bytes: u64,
    /// Updates in them, of honest routers.
    pub updates: u64,
    /// Requests for newer sequence numbers.
    pub requests: u64,
    /// Updates that announce a route, by destination.
    pub finite: BTreeMap<u32, u64>,
    /// When the last update was sent.
    pub last: Option<Instant>,
}

impl Traffic {
    fn count(&mut self, update: &Update, now: Instant) {
        self.updates += 1;
        self.last = Some(now);
        if update.metric != INFINITY {
            *self.finite.entry(update.destination).or_default() += 1;
        }
    }
}
