//! What is said of routes, and what is made of what others say (RFC 8966 sections 3.5 and 3.7).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_wire::{
    relay::{MAX_PATH, Path},
    routing::{INFINITY, Item, Update},
};
use rand::RngExt as _;

use super::{
    Router,
    metric::{LEAST_COST, MOST_COST, through},
    seqno::Seqno,
};

/// News of a route waits for the next but one multiple of this since the start, at most, so that much news is told in few messages.
const SLOT_MS: u64 = 20;
/// How long it waits at least, in milliseconds; differs, so that what comes to all at once is not told by all at once.
const JITTER_MS: std::ops::Range<u64> = 5..20;
/// How long news of a lost route waits.
const URGENT: Duration = Duration::from_millis(5);
/// How long after its start a router takes over a newer sequence number that others still remember of it.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Destinations that one neighbour may speak of beyond those that are members.
const STRANGERS: usize = 64;

impl Router {
    /// How a member is reached, as the neighbour `to` may be told, to which the link costs `cost`. The feasibility distance is
    /// lowered first.
    pub(super) fn announcement(&mut self, member: u32, (to, cost): (u32, u16)) -> Option<Update> {
        if member == self.config.me {
            return Some(Update {
                destination: member,
                seqno: self.seqno.0,
                metric: 0,
                path: Path::default(),
            });
        }
        // Who carries for nobody announces itself alone.
        if !self.config.relay || member == to {
            return None;
        }
        let cost = |neighbour: u32| match neighbour == to {
            true => Some(cost),
            false => Some(self.neighbours.get(&neighbour)?.cost()),
        };
        let destination = self.destinations.get_mut(&member)?;
        let (via, route) = destination.selected()?;
        let (seqno, metric) = (route.seqno, through(route.announced, cost(via)?));
        let path = full_path(member, via, &route.path)?;
        // The receiver's way is one link longer, and there is one more at its end.
        let links = path.members().len() + 2;
        let leads_back = via == to || path.members().contains(&to);
        if metric == INFINITY
            || links > usize::from(self.config.max_hops)
            || self.config.split_horizon && leads_back
        {
            return None;
        }
        destination.will_announce(seqno, metric);
        Some(Update {
            destination: member,
            seqno: seqno.0,
            metric,
            path,
        })
    }

    /// Has all neighbours told of a member's route.
    pub(super) fn announce(&mut self, member: u32, now: Instant) {
        let lost = member != self.config.me
            && self
                .destinations
                .get(&member)
                .is_none_or(|known| known.selected().is_none());
        let jitter = Duration::from_millis(self.random.random_range(JITTER_MS));
        let (large, members) = (self.large, &self.members);
        let told = self.neighbours.iter_mut();
        let told = told.filter(|(to, _)| is_told(large, members, **to, member == self.config.me));
        for (_, neighbour) in told {
            let pause = neighbour.pause(member).unwrap_or(now);
            let due = match lost {
                true => now + URGENT,
                false => slot(self.started, (now + jitter).max(pause)),
            };
            neighbour.announce(member, due, false);
        }
    }

    /// Tells a neighbour everything once more.
    pub(super) fn announce_all(&mut self, to: u32, now: Instant) {
        let all: Vec<u32> = self
            .destinations
            .keys()
            .copied()
            .filter(|_| is_told(self.large, &self.members, to, false))
            .chain([self.config.me])
            .collect();
        if let Some(neighbour) = self.neighbours.get_mut(&to) {
            for member in all {
                let due = neighbour.pause(member).unwrap_or(now).max(now);
                neighbour.announce(member, due, true);
            }
        }
    }

    pub(super) fn handle_dump_request(&mut self, from: u32, now: Instant) {
        let neighbour = self.neighbours.get_mut(&from);
        if neighbour.is_some_and(|neighbour| neighbour.refresh.may_dump(now)) {
            self.announce_all(from, now);
        }
    }

    pub(super) fn handle_update(
        &mut self,
        (from, message): (u32, u32),
        update: &Update,
        now: Instant,
    ) {
        let known = self.members.contains_key(&update.destination);
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        if !known && neighbour.heard.len() > self.members.len() + STRANGERS
            || !neighbour.is_news(message, update)
        {
            return;
        }
        if update.destination == self.config.me {
            return self.hear_of_self(Seqno(update.seqno), now);
        }
        let usable = known && self.is_usable(from, update);
        if !usable && !self.destinations.contains_key(&update.destination) {
            return;
        }
        let destination = self.destinations.entry(update.destination).or_default();
        let before = destination
            .routes
            .get(&from)
            .map(|route| (route.seqno, route.announced, route.path));
        destination.learn(from, Some(update).filter(|_| usable), now);
        let after = destination
            .routes
            .get(&from)
            .map(|route| (route.seqno, route.announced, route.path));
        if before != after {
            self.route_changed(update.destination, from, now);
        }
    }

    /// Whether a route may be used: it leads nearer link by link, over members that carry, not through us, not in a circle,
    /// and not too far; and it costs what links can cost.
    fn is_usable(&self, from: u32, update: &Update) -> bool {
        if update.metric == INFINITY {
            return false;
        }
        let between = update.path.members();
        if update.destination == from {
            return between.is_empty() && update.metric == 0;
        }
        let links = between.len() + 1;
        let Some(path) = full_path(update.destination, from, &update.path) else {
            return false;
        };
        let carriers = path.members();
        let carry = |member: &u32| self.members.get(member).copied().unwrap_or(false);
        let repeated = |at: usize| {
            carriers
                .iter()
                .skip(at + 1)
                .any(|other| carriers.get(at) == Some(other))
        };
        links < usize::from(self.config.max_hops)
            && carriers.iter().all(carry)
            && !carriers.contains(&self.config.me)
            && !carriers.contains(&update.destination)
            && !(0..carriers.len()).any(repeated)
            && (links * usize::from(LEAST_COST)..=links * usize::from(MOST_COST))
                .contains(&usize::from(update.metric))
    }

    /// Takes away the routes to a member that may not be used any more.
    pub(super) fn drop_unusable(&mut self, member: u32, now: Instant) {
        let Some(destination) = self.destinations.get(&member) else {
            return;
        };
        let is_member = self.members.contains_key(&member);
        let bad: Vec<u32> = destination
            .routes
            .iter()
            .filter(|(from, route)| {
                let update = Update {
                    destination: member,
                    seqno: route.seqno.0,
                    metric: route.announced,
                    path: route.path,
                };
                !is_member || !self.is_usable(**from, &update)
            })
            .map(|(from, _)| *from)
            .collect();
        for from in bad {
            self.drop_route(member, from, now);
        }
    }

    /// Others remember a newer number of ours than we have: we were started again and have forgotten it.
    fn hear_of_self(&mut self, seqno: Seqno, now: Instant) {
        if self.may_have_forgotten(seqno, now)
            && seqno.is_newer_than(self.seqno)
            && self.rises.allow(now)
        {
            self.seqno = seqno.next();
            self.announce(self.config.me, now);
        }
    }

    /// Whether that may have been our number before a start of which others know more than we do. All such numbers are newer than the
    /// one that we began with, so that whoever makes them up cannot take ours round the end.
    fn may_have_forgotten(&self, seqno: Seqno, now: Instant) -> bool {
        now < self.started + REMEMBERED_FOR && seqno.is_newer_than(Seqno(self.config.seqno))
    }

    pub(super) fn handle_refresh(&mut self, from: u32, digest: u64, now: Instant) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            match neighbour.agrees(digest) {
                true => neighbour.refresh.fresh = now,
                false => neighbour.say_once(Item::DumpRequest, now),
            }
        }
    }

    /// A newer number of our own, at somebody's request; see `requests`. At most one further, but soon after a start as far
    /// as others remember.
    pub(super) fn renew(&mut self, wanted: Seqno, now: Instant) {
        if wanted.is_newer_than(self.seqno) && self.rises.allow(now) {
            self.seqno = match self.may_have_forgotten(wanted, now) {
                true => wanted,
                false => self.seqno.next(),
            };
        }
        self.announce(self.config.me, now);
    }
}

/// Whether a neighbour is told of a member, or of us: who carries for nobody needs no more in a large network.
fn is_told(large: bool, members: &BTreeMap<u32, bool>, to: u32, of_us: bool) -> bool {
    of_us || !large || members.get(&to).copied().unwrap_or(false)
}

/// The first slot after a time.
fn slot(started: Instant, time: Instant) -> Instant {
    let slots = time.saturating_duration_since(started).as_millis() / u128::from(SLOT_MS);
    started + Duration::from_millis(u64::try_from(slots + 1).unwrap_or(0) * SLOT_MS)
}

/// The members between us and the destination of a route that `via` announces with `path`; `None` if they are too many.
pub(super) fn full_path(destination: u32, via: u32, path: &Path) -> Option<Path> {
    if via == destination {
        return Some(Path::default());
    }
    let mut members = [0; MAX_PATH];
    let (first, rest) = members.split_first_mut()?;
    let behind = path.members();
    *first = via;
    rest.get_mut(..behind.len())?.copy_from_slice(behind);
    Path::new(members.get(..=behind.len())?)
}
