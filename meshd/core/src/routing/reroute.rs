//! Where does a message go, also while there is no feasible route? Along a path that a neighbour announced, which the message
//! itself names: whoever carries it follows that list and looks into no table, so it cannot circle.

use std::time::Instant;

use mesh_wire::routing::{Item, PathError};

use super::{NextHop, Router, destination::Route, updates::full_path};

/// Links that failed and are remembered; of more, the oldest is tried again and found to have failed once more.
const BROKEN: usize = 64;

impl Router {
    /// Where a message for a member goes.
    pub fn next_hop(&self, member: u32) -> NextHop {
        let Some(destination) = self.destinations.get(&member) else {
            return self.nearest_carrier();
        };
        if let Some((neighbour, _)) = destination.selected() {
            return NextHop::Neighbour(neighbour);
        }
        let best = self.with_costs(|costs| {
            destination.best(costs, |via, route| !self.is_broken(member, via, route))
        });
        let path = best.and_then(|(neighbour, _)| {
            let route = destination.routes.get(&neighbour)?;
            full_path(member, neighbour, &route.path)
        });
        path.map_or_else(|| self.nearest_carrier(), NextHop::Path)
    }

    /// Where whoever carries for nobody sends what it knows no route for, in a large network. It is a neighbour for which we are
    /// the destination or nothing, so nothing comes back.
    fn nearest_carrier(&self) -> NextHop {
        if !self.large || self.config.relay {
            return NextHop::None;
        }
        let carry = |member: &u32| self.members.get(member).copied().unwrap_or(false);
        let carriers = self
            .neighbours
            .iter()
            .filter(|(member, neighbour)| carry(member) && neighbour.knows_us());
        let nearest = carriers.min_by_key(|(member, neighbour)| (neighbour.cost(), **member));
        nearest.map_or(NextHop::None, |(member, _)| NextHop::Neighbour(*member))
    }

    /// A message that followed a path did not get past a link: no path with that link is tried again until a neighbour
    /// announces it anew. Whoever sent the message hears of it along the routes that lead there.
    pub fn handle_path_error(&mut self, error: &PathError, now: Instant) {
        if error.source != self.config.me
            && let NextHop::Neighbour(next) = self.next_hop(error.source)
            && let Some(neighbour) = self.neighbours.get_mut(&next)
        {
            neighbour.say_once(Item::PathError(*error), now);
        }
        let link = (error.from, error.to);
        self.broken.retain(|(known, _)| *known != link);
        if self.broken.len() == BROKEN {
            self.broken.pop_front();
        }
        self.broken.push_back((link, now));
    }

    /// Whether a route has a link that failed since it was announced.
    fn is_broken(&self, member: u32, via: u32, route: &Route) -> bool {
        let Some(path) = full_path(member, via, &route.path) else {
            return true;
        };
        let nodes = [self.config.me]
            .into_iter()
            .chain(path.members().iter().copied())
            .chain([member]);
        let mut links = nodes.clone().zip(nodes.skip(1));
        let failed = |link| {
            let mut since = self.broken.iter().filter(|(_, at)| *at > route.heard);
            since.any(|(known, _)| *known == link)
        };
        !self.broken.is_empty() && links.any(failed)
    }
}
