//! Which route is used, and what follows when that changes?

use std::time::{Duration, Instant};

use super::{Router, destination::Costs};

/// How long what we announced of a member is remembered after the last route was lost: as long as somebody may still have a route
/// through us (RFC 8966 appendix B, source garbage collection).
const REMEMBER: Duration = Duration::from_secs(200);

impl Router {
    /// Calls `f` with the cost of each link.
    pub(super) fn with_costs<T>(&self, f: impl FnOnce(Costs<'_>) -> T) -> T {
        f(&|neighbour| Some(self.neighbours.get(&neighbour)?.cost()))
    }

    /// Chooses a member's route anew, tells the neighbours of a change, and asks for a newer sequence number where there are
    /// routes, but none that is known to be free of loops.
    pub(super) fn review(&mut self, member: u32, now: Instant) {
        if self.choose(member, now) {
            self.announce(member, now);
        }
        self.ask_if_starved(member, now);
    }

    /// `true` if another neighbour is used now, or none.
    fn choose(&mut self, member: u32, now: Instant) -> bool {
        let Self {
            neighbours,
            destinations,
            ..
        } = self;
        let Some(destination) = destinations.get_mut(&member) else {
            return false;
        };
        let changed =
            destination.select(&|neighbour| Some(neighbours.get(&neighbour)?.cost()), now);
        if let Some(due) = destination.due() {
            self.review_at(member, due);
        }
        changed
    }

    /// Has a member looked at again then, unless that is planned for sooner.
    pub(super) fn review_at(&mut self, member: u32, due: Instant) {
        let Some(destination) = self.destinations.get_mut(&member) else {
            return;
        };
        if destination.review.is_some_and(|planned| planned <= due) {
            return;
        }
        if let Some(old) = destination.review.replace(due) {
            self.reviews.remove(&(old, member));
        }
        self.reviews.insert((due, member));
    }

    /// A neighbour's route to a member is another one now.
    pub(super) fn route_changed(&mut self, member: u32, from: u32, now: Instant) {
        let changed = self.choose(member, now);
        let used = self
            .destinations
            .get(&member)
            .and_then(|known| known.selected());
        if changed || used.is_some_and(|(via, _)| via == from) {
            self.announce(member, now);
        }
        self.ask_if_starved(member, now);
    }

    /// The members that a neighbour announces a route to.
    fn reached_through(&self, neighbour: u32) -> Vec<u32> {
        let known = self.destinations.iter();
        let known = known.filter(|(_, known)| known.routes.contains_key(&neighbour));
        known.map(|(member, _)| *member).collect()
    }

    /// What a neighbour announced is void.
    pub(super) fn forget_routes_of(&mut self, from: u32, now: Instant) {
        for member in self.reached_through(from) {
            self.drop_route(member, from, now);
        }
    }

    pub(super) fn drop_route(&mut self, member: u32, from: u32, now: Instant) {
        if let Some(destination) = self.destinations.get_mut(&member) {
            destination.learn(from, None, now);
        }
        self.review(member, now);
    }

    /// A link costs something else now.
    pub(super) fn review_routes_of(&mut self, from: u32, now: Instant) {
        for member in self.reached_through(from) {
            self.route_changed(member, from, now);
        }
    }

    /// Forgets routes that nobody has spoken of for long, and members that cannot be reached for long.
    pub(super) fn sweep(&mut self, now: Instant) {
        let timeout = self.config.route_timeout;
        let mut old = Vec::new();
        for (member, destination) in &self.destinations {
            for (from, route) in &destination.routes {
                let fresh = self
                    .neighbours
                    .get(from)
                    .map(|neighbour| neighbour.refresh.fresh);
                let last = fresh.map_or(route.heard, |fresh| fresh.max(route.heard));
                if now.saturating_duration_since(last) > timeout {
                    old.push((*member, *from));
                }
            }
        }
        for (member, from) in old {
            self.drop_route(member, from, now);
        }
        self.destinations.retain(|_, destination| {
            destination
                .lost
                .is_none_or(|lost| now.saturating_duration_since(lost) < REMEMBER)
        });
    }
}
