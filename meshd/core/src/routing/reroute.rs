//! Where does a message go, also while there is no feasible route? Along a path that a neighbour announced, which the message
//! itself names: whoever carries it follows that list and looks into no table, so it cannot circle.

use std::time::Instant;

use mesh_wire::routing::{Item, PathError};

use super::{NextHop, Router, updates::full_path};

impl Router {
    /// Where a message for a member goes.
    pub fn next_hop(&self, member: u32) -> NextHop {
        let Some(destination) = self.destinations.get(&member) else {
            return NextHop::None;
        };
        if let Some((neighbour, _)) = destination.selected() {
            return NextHop::Neighbour(neighbour);
        }
        let best = self.with_costs(|costs| destination.best(costs, |_, route| !route.broken));
        let path = best.and_then(|(neighbour, _)| {
            let route = destination.routes.get(&neighbour)?;
            full_path(member, neighbour, &route.path)
        });
        path.map_or(NextHop::None, NextHop::Path)
    }

    /// A message that followed a path did not get past a link: no path with that link is tried again until a neighbour
    /// announces it anew. Whoever sent the message hears of it along the routes that lead there.
    pub fn handle_path_error(&mut self, error: &PathError, now: Instant) {
        let me = self.config.me;
        if error.source != me
            && let NextHop::Neighbour(next) = self.next_hop(error.source)
            && let Some(neighbour) = self.neighbours.get_mut(&next)
        {
            neighbour.say_once(Item::PathError(*error), now);
        }
        for (member, destination) in &mut self.destinations {
            for (via, route) in &mut destination.routes {
                let Some(path) = full_path(*member, *via, &route.path) else {
                    continue;
                };
                let nodes = [me]
                    .into_iter()
                    .chain(path.members().iter().copied())
                    .chain([*member]);
                let links = nodes.clone().zip(nodes.skip(1));
                if links.into_iter().any(|link| link == (error.from, error.to)) {
                    route.broken = true;
                }
            }
        }
    }
}
