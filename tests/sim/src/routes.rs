//! Routers alone in virtual time: the graph of neighbours, what its links do to messages, and what must hold at every step.
//! Sessions, NATs and data are left out, so that hundreds of thousands of events take seconds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use mesh_core::routing::{NextHop, Router, RouterConfig};
use mesh_wire::routing::{INFINITY, Item, Message};

/// How a link is, in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Cable {
    /// One way.
    pub delay: Duration,
    /// Added at random, so that messages overtake each other.
    pub jitter: Duration,
    /// Of a hundred messages, so many are lost.
    pub loss: u8,
    /// Carries anything.
    pub up: bool,
}

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
}

/// Routers 1 to N and their links.
pub struct Routes {
    /// By member, from 1.
    pub routers: BTreeMap<u32, Router>,
    /// By its ends, the lesser first.
    pub cables: BTreeMap<(u32, u32), Cable>,
    /// Virtual time.
    pub now: Instant,
    began: Instant,
    /// Messages that were sent.
    pub messages: u64,
    /// Of those, the ones that said something of a route.
    pub updates: u64,
    random: fastrand::Rng,
    heap: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    count: u64,
    /// What each router would do with a message for each other one, as of its last change.
    tables: BTreeMap<u32, BTreeMap<u32, NextHop>>,
    distances: BTreeMap<(u32, u32), (u16, u16)>,
    split_horizon: bool,
}

/// How long a router takes to notice what became of a link.
const NOTICED: Duration = Duration::from_millis(1);

impl Routes {
    /// `count` routers without links.
    pub fn new(count: u32, seed: u64) -> Self {
        let now = Instant::now();
        let mut routes = Self {
            routers: BTreeMap::new(),
            cables: BTreeMap::new(),
            now,
            began: now,
            messages: 0,
            updates: 0,
            random: fastrand::Rng::with_seed(seed),
            heap: BinaryHeap::new(),
            count: 0,
            tables: BTreeMap::new(),
            distances: BTreeMap::new(),
            split_horizon: true,
        };
        for member in 1..=count {
            routes.start(member, count);
        }
        routes
    }

    fn start(&mut self, member: u32, count: u32) {
        let config = RouterConfig {
            me: member,
            relay: true,
            max_hops: 8,
            route_timeout: Duration::from_secs(300),
            split_horizon: self.split_horizon,
            seqno: self.seqno(member),
            seed: self.random.u64(..),
        };
        let mut router = Router::new(config, self.now);
        router.set_members((1..=count).map(|member| (member, true)).collect(), self.now);
        self.routers.insert(member, router);
        // What it has forgotten may be greater than what it says next.
        self.distances.retain(|(at, _), _| *at != member);
        self.touched(member);
    }

    /// A newer number at each start, by the clock: it moves on faster than requests count it up.
    fn seqno(&self, member: u32) -> u16 {
        let quarters = (self.now - self.began).as_millis() / 250;
        (quarters as u16).wrapping_add((member as u16).wrapping_mul(7_919))
    }

    /// Takes a router's memory away. Its neighbours notice nothing but what it says.
    pub fn restart(&mut self, member: u32) {
        let count = self.routers.len() as u32;
        self.start(member, count);
        let others: Vec<u32> = self.others(member).collect();
        for other in others {
            self.push(
                self.now + NOTICED,
                Happening::Notices { who: member, other },
            );
        }
    }

    /// The routers with a link to this one that is up.
    pub fn others(&self, member: u32) -> impl Iterator<Item = u32> {
        let up = self.cables.iter().filter(|(_, cable)| cable.up);
        up.filter_map(move |((a, b), _)| match (*a == member, *b == member) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        })
    }

    /// Lays a link, or makes it another one.
    pub fn link(&mut self, a: u32, b: u32, cable: Cable) {
        self.cables.insert((a.min(b), a.max(b)), cable);
        for (who, other) in [(a, b), (b, a)] {
            self.push(self.now + NOTICED, Happening::Notices { who, other });
        }
    }

    /// A connected graph in which each router has some `degree` links.
    pub fn weave(&mut self, degree: usize, loss: u8) {
        let count = self.routers.len() as u32;
        for member in 2..=count {
            let other = self.random.u32(1..member);
            let cable = self.cable(loss);
            self.link(member, other, cable);
        }
        let wanted = self.routers.len() * degree / 2;
        while self.cables.len() < wanted {
            let (a, b) = (self.random.u32(1..=count), self.random.u32(1..=count));
            if a != b && !self.cables.contains_key(&(a.min(b), a.max(b))) {
                let cable = self.cable(loss);
                self.link(a, b, cable);
            }
        }
    }

    fn cable(&mut self, loss: u8) -> Cable {
        let ms = self.random.u64(3..75);
        Cable {
            delay: Duration::from_millis(ms),
            jitter: Duration::from_millis(self.random.u64(0..=ms)),
            loss,
            up: true,
        }
    }

    /// One misfortune or mending: a link goes or comes back, gets slower or faster, or a router forgets everything.
    pub fn misfortune(&mut self) {
        let ends: Vec<(u32, u32)> = self.cables.keys().copied().collect();
        let (a, b) = ends[self.random.usize(..ends.len())];
        let mut cable = self.cables[&(a, b)];
        match self.random.u8(0..10) {
            0..=4 => cable.up = !cable.up,
            5..=8 => cable.delay = Duration::from_millis(self.random.u64(1..150)),
            _ => return self.restart(a),
        }
        self.link(a, b, cable);
    }

    /// All links carry again.
    pub fn mend(&mut self) {
        let broken: Vec<_> = self
            .cables
            .iter()
            .filter(|(_, cable)| !cable.up)
            .map(|(ends, cable)| (*ends, *cable))
            .collect();
        for ((a, b), cable) in broken {
            self.link(a, b, Cable { up: true, ..cable });
        }
    }

    /// Runs until then.
    pub fn run_until(&mut self, end: Instant) {
        while let Some(Reverse((time, ..))) = self.heap.peek()
            && *time <= end
        {
            let Some(Reverse((time, _, happening))) = self.heap.pop() else {
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
        self.count += 1;
        self.heap.push(Reverse((time, self.count, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Arrives { from, to, bytes } => {
                let message = Message::decode(&bytes).expect("a router's message is one");
                for item in &message.items {
                    if let Item::Update(update) = item {
                        self.updates += 1;
                        let leads_back =
                            update.path.members().contains(&to) || update.destination == to;
                        assert!(
                            !leads_back || update.metric == INFINITY,
                            "{to} was told by {from} of {update:?}"
                        );
                    }
                }
                if let Some(router) = self.routers.get_mut(&to) {
                    router.handle_message(from, &message, now);
                }
                self.touched(to);
            }
            Happening::Wakes(who) => {
                let router = self.routers.get(&who);
                if router.is_some_and(|router| router.poll_timeout() <= now) {
                    self.touched(who);
                }
            }
            Happening::Notices { who, other } => {
                let cable = self.cables[&(who.min(other), who.max(other))];
                if let Some(router) = self.routers.get_mut(&who) {
                    match cable.up {
                        true => router.neighbour_up(other, cable.delay * 2, now),
                        false => router.neighbour_down(other, now),
                    }
                }
                self.touched(who);
            }
        }
    }

    /// Takes what a router has to say, and looks at what became of its table.
    fn touched(&mut self, who: u32) {
        let Some(router) = self.routers.get_mut(&who) else {
            return;
        };
        router.handle_timeout(self.now);
        let mut sent = Vec::new();
        while let Some((to, message)) = router.poll_message(self.now) {
            sent.push((to, message.encode()));
            assert!(sent.len() < 10_000, "{who} does not stop speaking");
        }
        let wake = router.poll_timeout();
        assert!(wake > self.now, "{who} wants to wake in the past");
        self.push(wake, Happening::Wakes(who));
        for (to, bytes) in sent {
            self.send(who, to, bytes);
        }
        self.check(who);
    }

    fn send(&mut self, from: u32, to: u32, bytes: Vec<u8>) {
        self.messages += 1;
        let Some(cable) = self
            .cables
            .get(&(from.min(to), from.max(to)))
            .copied()
            .filter(|cable| cable.up)
        else {
            return;
        };
        if self.random.u8(0..100) < cable.loss {
            return;
        }
        let jitter = cable.jitter.mul_f64(self.random.f64());
        self.push(
            self.now + cable.delay + jitter,
            Happening::Arrives { from, to, bytes },
        );
    }

    /// No circle, for any destination; and at one sequence number no feasibility distance that grows.
    fn check(&mut self, who: u32) {
        let Some(router) = self.routers.get(&who) else {
            return;
        };
        let table = self.tables.entry(who).or_default();
        let mut changed = BTreeSet::new();
        for member in self.routers.keys() {
            let next = router.next_hop(*member);
            if table.insert(*member, next) != Some(next) {
                changed.insert(*member);
            }
            let Some((seqno, metric)) = router.feasibility_distance(*member) else {
                continue;
            };
            let old = self.distances.insert((who, *member), (seqno, metric));
            if let Some((old_seqno, old_metric)) = old {
                let forward = seqno.wrapping_sub(old_seqno) < 1 << 15;
                assert!(
                    forward,
                    "the sequence number of {member} goes back at {who}"
                );
                assert!(
                    seqno != old_seqno || metric <= old_metric,
                    "the distance of {member} grows at {who}"
                );
            }
        }
        for member in changed {
            self.follow(who, member);
        }
    }

    /// Goes from table to table.
    fn follow(&self, from: u32, to: u32) {
        let (mut at, mut visited) = (from, vec![from]);
        while let Some(NextHop::Neighbour(next)) =
            self.tables.get(&at).and_then(|table| table.get(&to))
        {
            // Whoever was started again carries for a neighbour once that has heard of it, and so has dropped what led through it.
            if *next == to || !self.routers[next].carries_for(at) {
                return;
            }
            assert!(
                !visited.contains(next),
                "a circle on the way to {to}: {visited:?}, {next}"
            );
            visited.push(*next);
            at = *next;
        }
    }

    /// Whether what `from` sends to `to` arrives now.
    pub fn arrives(&self, from: u32, to: u32) -> bool {
        let is_up = |a: u32, b: u32| {
            self.cables
                .get(&(a.min(b), a.max(b)))
                .is_some_and(|cable| cable.up)
        };
        let (mut at, mut links) = (from, 0);
        while at != to {
            match self.routers[&at].next_hop(to) {
                NextHop::Neighbour(next)
                    if is_up(at, next) && links < 8 && self.routers[&next].carries_for(at) =>
                {
                    at = next
                }
                NextHop::Path(path) => {
                    let nodes = [at]
                        .into_iter()
                        .chain(path.members().iter().copied())
                        .chain([to]);
                    return nodes.clone().zip(nodes.skip(1)).all(|(a, b)| is_up(a, b));
                }
                NextHop::Neighbour(_) | NextHop::None => return false,
            }
            links += 1;
        }
        true
    }

    /// The least metric from `from` to all others over at most eight links (Bellman and Ford).
    pub fn optimum(&self, from: u32) -> BTreeMap<u32, u16> {
        let mut best = BTreeMap::from([(from, 0_u16)]);
        for _ in 0..8 {
            let before = best.clone();
            for ((a, b), cable) in self.cables.iter().filter(|(_, cable)| cable.up) {
                let cost = 100 + (cable.delay * 2).as_millis() as u16;
                for (near, far) in [(a, b), (b, a)] {
                    if let Some(metric) = before.get(near) {
                        let new = metric + cost;
                        best.entry(*far)
                            .and_modify(|old| *old = new.min(*old))
                            .or_insert(new);
                    }
                }
            }
        }
        best
    }

    /// Pairs that are linked by at most eight links and have no way, and pairs that are not and have one.
    pub fn wrong(&self) -> Vec<(u32, u32)> {
        let members: Vec<u32> = self.routers.keys().copied().collect();
        let mut wrong = Vec::new();
        for from in &members {
            let reached = self.optimum(*from);
            for to in members.iter().filter(|to| *to != from) {
                let known = self.routers[from].next_hop(*to) != NextHop::None;
                if reached.contains_key(to) != (known && self.arrives(*from, *to))
                    || !reached.contains_key(to) && known
                {
                    wrong.push((*from, *to));
                }
            }
        }
        wrong
    }
}
