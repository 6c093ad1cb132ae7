//! Which ways to a member are there, in the words of those who ask for them?

use std::time::{Duration, Instant};

use mesh_wire::relay::Path;

use super::{NextHop, Router, metric, updates::full_path};

/// How messages reach a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The member.
    pub member: u32,
    /// The neighbour that they go to.
    pub next_hop: u32,
    /// Those who carry them, in order; nobody where the member is a neighbour itself.
    pub path: Path,
    /// Milliseconds of round-trip time, and 100 for each link.
    pub metric: u16,
    /// Whether it is known to be free of circles. Where it is not, messages name their path.
    pub feasible: bool,
    /// Since the neighbour last said that it holds.
    pub age: Duration,
}

impl Way {
    /// Links of the way.
    pub fn hops(&self) -> u8 {
        u8::try_from(self.path.members().len() + 1).unwrap_or(u8::MAX)
    }

    /// The round-trip time in the metric, in milliseconds.
    pub fn rtt_ms(&self) -> u16 {
        self.metric
            .saturating_sub(metric::LEAST_COST * u16::from(self.hops()))
    }
}

impl Router {
    /// The way that a message for the member takes.
    pub fn way(&self, member: u32, now: Instant) -> Option<Way> {
        let destination = self.destinations.get(&member)?;
        let (next_hop, feasible) = match self.next_hop(member) {
            NextHop::Neighbour(next) => (next, true),
            NextHop::Path(path) => (path.members().first().copied().unwrap_or(member), false),
            NextHop::None => return None,
        };
        let route = destination.routes.get(&next_hop)?;
        let neighbour = self.neighbours.get(&next_hop)?;
        let path = match next_hop == member {
            true => Path::default(),
            false => full_path(member, next_hop, &route.path)?,
        };
        Some(Way {
            member,
            next_hop,
            path,
            metric: metric::through(route.announced, neighbour.cost()),
            feasible,
            age: now.saturating_duration_since(route.heard.max(neighbour.refresh.fresh)),
        })
    }

    /// One way to each member that can be reached, in order of members.
    pub fn ways(&self, now: Instant) -> impl Iterator<Item = Way> {
        let members = self.destinations.keys();
        members.filter_map(move |member| self.way(*member, now))
    }
}
