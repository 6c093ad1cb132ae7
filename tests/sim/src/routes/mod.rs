//! Routers alone in virtual time: the graph of neighbours, what its links do to messages, and what must hold at every step.
//! Sessions, NATs and data are left out, so that hundreds of thousands of events take seconds.

mod cable;
pub mod figures;
mod hostile;
mod judge;
mod watch;
mod weather;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use mesh_core::routing::{Router, RouterConfig};
use mesh_wire::routing::Message;

pub use self::{
    cable::{Cable, Way},
    hostile::Lie,
    watch::Traffic,
};
use self::{hostile::Liar, watch::Watch};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives {
        from: u32,
        to: u32,
        bytes: Vec<u8>,
    },
    Wakes(u32),
    /// A router notices that a link is gone, or there again.
    Notices {
        who: u32,
        other: u32,
    },
    /// A hostile router says something.
    Lies(u32),
}

/// Routers 1 to N and their links.
pub struct Routes {
    /// By place, from 1: the member too, but for those that took another one's identity.
    pub routers: BTreeMap<u32, Router>,
    /// By its ends, the lesser first.
    pub cables: BTreeMap<(u32, u32), Cable>,
    /// Virtual time.
    pub now: Instant,
    /// What was said.
    pub traffic: Traffic,
    began: Instant,
    random: fastrand::Rng,
    agenda: Agenda,
    /// The properties that hold at each step are looked at. Without, a network may be large.
    watch: Option<Watch>,
    /// Places whose router claims to be another member.
    clones: BTreeMap<u32, u32>,
    liars: BTreeMap<u32, Liar>,
    /// Routers that carry for nobody.
    leaves: BTreeSet<u32>,
    /// What each speaks under to its neighbours, for those that begin to lie.
    epochs: BTreeMap<(u32, u32), (u32, u32)>,
}

/// What happens next.
#[derive(Default)]
struct Agenda {
    heap: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    count: u64,
    /// When a router is to be woken, as far as that stands in the heap.
    wakes: BTreeMap<u32, Instant>,
}

/// How long a router takes to notice what became of a link.
const NOTICED: Duration = Duration::from_millis(1);

impl Routes {
    /// `count` routers without links, whose every step is watched.
    pub fn new(count: u32, seed: u64) -> Self {
        let mut routes = Self::unwatched(count, &BTreeSet::new(), seed);
        routes.watch();
        routes
    }

    /// Routers without links, some of which carry for nobody, whose steps are not watched.
    pub fn unwatched(count: u32, leaves: &BTreeSet<u32>, seed: u64) -> Self {
        let now = Instant::now();
        let mut routes = Self {
            routers: BTreeMap::new(),
            cables: BTreeMap::new(),
            now,
            traffic: Traffic::default(),
            began: now,
            random: fastrand::Rng::with_seed(seed),
            agenda: Agenda::default(),
            watch: None,
            clones: BTreeMap::new(),
            liars: BTreeMap::new(),
            leaves: leaves.clone(),
            epochs: BTreeMap::new(),
        };
        for place in 1..=count {
            let seqno = routes.seqno(place);
            routes.start(place, count, seqno);
        }
        routes
    }

    /// From now on, every step is watched.
    pub fn watch(&mut self) {
        self.watch = Some(Watch::default());
    }

    fn start(&mut self, place: u32, count: u32, seqno: u16) {
        let config = RouterConfig {
            me: self.member(place),
            relay: !self.leaves.contains(&place),
            max_hops: 8,
            route_timeout: Duration::from_secs(300),
            split_horizon: true,
            seqno,
            seed: self.random.u64(..),
        };
        let mut router = Router::new(config, self.now);
        let is_leaf = |member: &u32| self.leaves.contains(member);
        // Who carries for nobody need not know the others of its kind.
        let large = !self.leaves.is_empty();
        let known = |member: &u32| !large || !is_leaf(&place) || !is_leaf(member);
        let members = (1..=count).filter(|it| *it == place || known(it));
        let members = members.map(|member| (member, !is_leaf(&member)));
        router.set_large(large);
        router.set_members(members.collect(), self.now);
        self.routers.insert(place, router);
        if let Some(watch) = &mut self.watch {
            watch.forget(place);
        }
        self.touched(place);
    }

    /// A newer number at each start, by the clock: it moves on faster than requests count it up.
    fn seqno(&self, place: u32) -> u16 {
        let quarters = (self.now - self.began).as_millis() / 250;
        (quarters as u16).wrapping_add((place as u16).wrapping_mul(7_919))
    }

    /// Takes a router's memory away. Its neighbours notice nothing but what it says.
    pub fn restart(&mut self, place: u32) {
        self.restart_with(place, self.seqno(self.member(place)));
    }

    /// The same, with a sequence number to begin with.
    pub fn restart_with(&mut self, place: u32, seqno: u16) {
        let count = self.routers.len() as u32;
        self.start(place, count, seqno);
        let others: Vec<u32> = self.others(place).collect();
        for other in others {
            let event = Happening::Notices { who: place, other };
            self.push(self.now + NOTICED, event);
        }
    }

    /// From now on, the router at that place says it is another member.
    pub fn take_identity(&mut self, place: u32, member: u32) {
        self.leave(place);
        self.clones.insert(place, member);
        self.arrive(place);
    }

    /// The one who took an identity becomes itself again.
    pub fn give_identity_back(&mut self, place: u32) {
        self.leave(place);
        self.clones.remove(&place);
        self.arrive(place);
    }

    fn leave(&mut self, place: u32) {
        let (name, others) = (self.member(place), self.others(place).collect::<Vec<_>>());
        for other in others {
            if let Some(router) = self.routers.get_mut(&other) {
                router.neighbour_down(name, self.now);
                self.touched(other);
            }
        }
    }

    fn arrive(&mut self, place: u32) {
        self.restart(place);
        for other in self.others(place).collect::<Vec<_>>() {
            let event = Happening::Notices {
                who: other,
                other: place,
            };
            self.push(self.now + NOTICED, event);
        }
    }

    fn member(&self, place: u32) -> u32 {
        self.clones.get(&place).copied().unwrap_or(place)
    }

    /// Where the neighbour of a router is.
    fn place(&self, at: u32, neighbour: u32) -> u32 {
        let mut clones = self.clones.iter().filter(|(_, it)| **it == neighbour);
        let near = clones.find(|(place, _)| self.cable(at, **place).is_some());
        near.map_or(neighbour, |(place, _)| *place)
    }

    /// The routers with a link to this one that works.
    pub fn others(&self, place: u32) -> impl Iterator<Item = u32> {
        let working = self.cables.iter().filter(|(_, cable)| cable.works());
        working.filter_map(move |((a, b), _)| match (*a == place, *b == place) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        })
    }

    /// Runs until then.
    pub fn run_until(&mut self, end: Instant) {
        while let Some(Reverse((time, ..))) = self.agenda.heap.peek()
            && *time <= end
        {
            let Some(Reverse((time, _, happening))) = self.agenda.heap.pop() else {
                break;
            };
            self.now = time;
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs for so long.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.u64(..end)
    }

    fn push(&mut self, time: Instant, happening: Happening) {
        self.agenda.count += 1;
        let event = (time, self.agenda.count, happening);
        self.agenda.heap.push(Reverse(event));
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Arrives { from, to, bytes } => {
                let message = Message::decode(&bytes).expect("a router's message is one");
                let name = self.member(from);
                if let Some(router) = self.routers.get_mut(&to) {
                    router.handle_message(name, &message, now);
                }
                self.touched(to);
            }
            Happening::Wakes(who) => {
                // It may have been planned for sooner since.
                if self.agenda.wakes.get(&who) == Some(&now) {
                    self.agenda.wakes.remove(&who);
                    self.touched(who);
                }
            }
            Happening::Notices { who, other } => {
                let (name, cable) = (self.member(other), self.cable(who, other));
                if let (Some(router), Some(cable)) = (self.routers.get_mut(&who), cable) {
                    match cable.works() {
                        true => router.neighbour_up(name, cable.rtt(), now),
                        false => router.neighbour_down(name, now),
                    }
                }
                self.touched(who);
            }
            Happening::Lies(who) => self.tell_lies(who),
        }
    }

    /// Takes what a router has to say, and looks at what became of it.
    fn touched(&mut self, who: u32) {
        let Some(router) = self.routers.get_mut(&who) else {
            return;
        };
        router.handle_timeout(self.now);
        let mut sent = Vec::new();
        while let Some((to, message)) = router.poll_message(self.now) {
            sent.push((to, message));
            assert!(sent.len() < 100_000, "{who} does not stop speaking");
        }
        let wake = router.poll_timeout();
        assert!(wake > self.now, "{who} wants to wake in the past");
        let planned = self.agenda.wakes.get(&who);
        if planned.is_none_or(|planned| wake < *planned) {
            self.agenda.wakes.insert(who, wake);
            self.push(wake, Happening::Wakes(who));
        }
        for (to, message) in sent {
            let to = self.place(who, to);
            self.overhear(who, to, &message);
            self.send(who, to, message.encode());
        }
        self.check(who);
    }

    fn send(&mut self, from: u32, to: u32, bytes: Vec<u8>) {
        self.traffic.messages += 1;
        self.traffic.bytes += bytes.len() as u64;
        let cable = self.cable(from, to);
        let Some(way) = cable
            .filter(|cable| cable.passes(from, to))
            .map(|cable| *cable.way(from, to))
        else {
            return;
        };
        let copies = 1 + u8::from(self.random.u8(0..100) < way.twice);
        for _ in 0..copies {
            if self.random.u8(0..100) >= way.loss {
                let jitter = way.jitter.mul_f64(self.random.f64());
                let bytes = bytes.clone();
                let event = Happening::Arrives { from, to, bytes };
                self.push(self.now + way.delay + jitter, event);
            }
        }
    }
}
