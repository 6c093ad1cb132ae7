//! Over which neighbour, or along which path, does a message reach a member that has no direct path to us? A distance-vector
//! protocol with Babel's feasibility condition (RFC 8966), path vectors and fast reroute: `docs/ROUTING.md`.

mod adjacency;
mod destination;
mod metric;
mod neighbour;
mod reliable;
mod requests;
mod reroute;
mod said;
mod select;
mod seqno;
mod size;
mod table;
mod updates;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mesh_wire::{
    relay::Path,
    routing::{Item, Message},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use self::{
    adjacency::Standing,
    destination::Destination,
    neighbour::Neighbour,
    seqno::{Rises, Seqno},
};
pub use self::{size::Size, table::Way};

/// What may be set.
#[derive(Debug, Clone, Copy)]
pub struct RouterConfig {
    /// Our member id.
    pub me: u32,
    /// We carry for others.
    pub relay: bool,
    /// The most links of a route, 1 to 8.
    pub max_hops: u8,
    /// How long a route holds that its neighbour does not speak of any more.
    pub route_timeout: Duration,
    /// Whether a neighbour is not told of routes that lead through it.
    pub split_horizon: bool,
    /// The sequence number to begin with. It should be newer than the one of an earlier start.
    pub seqno: u16,
    /// Of everything random.
    pub seed: u64,
}

/// Where a message for a member goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// To this neighbour, which looks into its own table.
    Neighbour(u32),
    /// To the first of these, and then from each to the next; nobody looks into a table.
    Path(Path),
    /// Nowhere.
    None,
}

/// The routing state of one node.
#[derive(Debug)]
pub struct Router {
    config: RouterConfig,
    seqno: Seqno,
    started: Instant,
    neighbours: BTreeMap<u32, Neighbour>,
    destinations: BTreeMap<u32, Destination>,
    /// Who is a member, and whether it carries for others.
    members: BTreeMap<u32, bool>,
    /// When to choose or ask again, by member.
    reviews: BTreeSet<(Instant, u32)>,
    sweep_due: Instant,
    random: ChaCha8Rng,
    rises: Rises,
    /// Who does not carry is told of nobody but us.
    large: bool,
    /// Links that frames did not get past, and when that was told; the newest last.
    broken: VecDeque<((u32, u32), Instant)>,
}

/// How often what is old is looked for.
const SWEEP: Duration = Duration::from_secs(10);

impl Router {
    /// A router without neighbours.
    pub fn new(config: RouterConfig, now: Instant) -> Self {
        Self {
            config,
            seqno: Seqno(config.seqno),
            started: now,
            neighbours: BTreeMap::new(),
            destinations: BTreeMap::new(),
            members: BTreeMap::new(),
            reviews: BTreeSet::new(),
            sweep_due: now + SWEEP,
            random: ChaCha8Rng::seed_from_u64(config.seed),
            rises: Rises::new(now),
            large: false,
            broken: VecDeque::new(),
        }
    }

    /// In a large network, of more than some 500 members, who carries for nobody is told of its neighbours alone, and sends what is
    /// for anybody else to the nearest of them that carries. All of a network must see it so. To be called at the start.
    pub fn set_large(&mut self, large: bool) {
        self.large = large;
    }

    /// Who is a member now, and whether it carries for others. What leads to or through anybody else is forgotten.
    pub fn set_members(&mut self, members: BTreeMap<u32, bool>, now: Instant) {
        self.members = members;
        let gone: Vec<u32> = self
            .neighbours
            .keys()
            .copied()
            .filter(|member| !self.members.contains_key(member))
            .collect();
        for member in gone {
            self.neighbour_down(member, now);
        }
        let all: Vec<u32> = self.destinations.keys().copied().collect();
        for member in all {
            self.drop_unusable(member, now);
        }
    }

    /// A peer with a link and a session is there to exchange routes with, or its round-trip time has changed.
    pub fn neighbour_up(&mut self, member: u32, rtt: Duration, now: Instant) {
        if member == self.config.me || !self.members.contains_key(&member) {
            return;
        }
        if let Some(neighbour) = self.neighbours.get_mut(&member) {
            let before = neighbour.cost();
            neighbour.set_rtt(rtt);
            if neighbour.cost() != before {
                self.review_routes_of(member, now);
            }
            return;
        }
        let neighbour = Neighbour::new(rtt, &mut self.random, now);
        self.neighbours.insert(member, neighbour);
        self.announce_all(member, now);
    }

    /// The link to a neighbour is gone.
    pub fn neighbour_down(&mut self, member: u32, now: Instant) {
        if self.neighbours.remove(&member).is_some() {
            self.forget_routes_of(member, now);
        }
    }

    /// A message from a neighbour.
    pub fn handle_message(&mut self, from: u32, message: &Message, now: Instant) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        match neighbour.receive(message, &mut self.random, now) {
            Standing::First | Standing::Current => {}
            Standing::Void => return,
            Standing::Anew => return self.forget_routes_of(from, now),
        }
        for item in &message.items {
            match item {
                Item::Update(update) => self.handle_update((from, message.number), update, now),
                Item::SeqnoRequest(request) => self.handle_request(from, *request, now),
                Item::Refresh { digest } => self.handle_refresh(from, *digest, now),
                Item::DumpRequest => self.handle_dump_request(from, now),
                Item::PathError(error) => self.handle_path_error(error, now),
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((due, member)) = self.reviews.first().copied().filter(|(due, _)| *due <= now)
        {
            self.reviews.remove(&(due, member));
            if let Some(destination) = self.destinations.get_mut(&member) {
                destination.review = None;
            }
            self.review(member, now);
        }
        if self.sweep_due <= now {
            self.sweep_due = now + SWEEP;
            self.sweep(now);
        }
    }

    /// When to call [`Self::handle_timeout`] and [`Self::poll_message`] next.
    pub fn poll_timeout(&self) -> Instant {
        let reviews = self.reviews.first().map(|(due, _)| *due);
        let neighbours = self.neighbours.values().filter_map(Neighbour::due);
        neighbours.chain(reviews).fold(self.sweep_due, Instant::min)
    }

    /// The next message, and the neighbour that it is for.
    pub fn poll_message(&mut self, now: Instant) -> Option<(u32, Message)> {
        let due = self
            .neighbours
            .iter()
            .filter(|(_, neighbour)| neighbour.due().is_some_and(|due| due <= now));
        let due: Vec<u32> = due.map(|(member, _)| *member).collect();
        due.into_iter().find_map(|to| {
            // Taken out, so that the rest can be looked at while it is asked what it is to be told.
            let mut neighbour = self.neighbours.remove(&to)?;
            let its = (to, neighbour.cost());
            let message = neighbour.poll(now, |member| self.announcement(member, its));
            self.neighbours.insert(to, neighbour);
            Some((to, message?))
        })
    }

    /// Whether frames of this neighbour may be carried on. One that has not heard yet of our start may still follow a route through
    /// us that we have forgotten, together with what kept it free of circles.
    pub fn carries_for(&self, neighbour: u32) -> bool {
        self.neighbours
            .get(&neighbour)
            .is_some_and(Neighbour::knows_us)
    }

    /// The feasibility distance of a member, its sequence number and metric, once it was announced.
    pub fn feasibility_distance(&self, member: u32) -> Option<(u16, u16)> {
        let distance = self.destinations.get(&member)?.distance()?;
        Some((distance.seqno.0, distance.metric))
    }

    /// The metric of the route that is used.
    pub fn metric(&self, member: u32) -> Option<u16> {
        let (neighbour, route) = self.destinations.get(&member)?.selected()?;
        Some(metric::through(
            route.announced,
            self.neighbours.get(&neighbour)?.cost(),
        ))
    }

    /// The members that are neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = u32> {
        self.neighbours.keys().copied()
    }
}
