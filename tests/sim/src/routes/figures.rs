//! What does routing cost, and how soon does it follow a change? Measured for tests and for the tables that `routes` prints.

use std::{
    collections::BTreeSet,
    ops::Range,
    time::{Duration, Instant},
};

use super::{Cable, Routes};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Losses of which figures are kept, in percent.
pub const LOSSES: [u8; 6] = [0, 1, 5, 10, 20, 30];
/// Routers in a network whose gaps are measured.
const ROUTERS: u32 = 20;

/// How long some pair was without a way, or did not know that it has none, after changes of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Gaps {
    /// `link-lost`, `router-lost`, or `healed` when either is back.
    pub change: &'static str,
    /// Milliseconds that half of the changes took at most.
    pub p50: u64,
    /// Likewise 99 of a hundred.
    pub p99: u64,
    /// How many there were.
    pub count: usize,
}

/// Gaps in networks of twenty routers with some four links each, seen every 20 ms. How soon a router notices that a link is gone is
/// not part of it.
pub fn gaps(loss: u8, seeds: Range<u64>) -> Vec<Gaps> {
    let mut seen: [Vec<u64>; 3] = Default::default();
    for seed in seeds {
        let mut routes = Routes::unwatched(ROUTERS, &BTreeSet::new(), seed);
        routes.weave(4, loss);
        routes.run_for(10 * SECOND);
        let ends: Vec<(u32, u32)> = routes.cables.keys().copied().collect();
        for turn in 0..5_usize {
            let (a, b) = ends[turn * ends.len() / 5];
            let lonely = turn as u32 * 4 + 1;
            for up in [false, true] {
                if let Some(cable) = routes.cable(a, b) {
                    routes.link(a, b, Cable { up, ..cable });
                    seen[if up { 2 } else { 0 }].push(routes.gap());
                }
            }
            for up in [false, true] {
                routes.isolate(lonely, up);
                seen[if up { 2 } else { 1 }].push(routes.gap());
            }
        }
    }
    let changes = ["link-lost", "router-lost", "healed"];
    let each = changes.into_iter().zip(seen);
    each.map(|(change, mut seen)| {
        seen.sort_unstable();
        let at = |percent| seen.get((seen.len() - 1) * percent / 100).copied();
        Gaps {
            change,
            p50: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
            count: seen.len(),
        }
    })
    .collect()
}

impl Routes {
    /// Milliseconds until all is well after a change that was made now; then time passes until all is quiet.
    fn gap(&mut self) -> u64 {
        self.run_for(2 * MS);
        let (start, reach) = (self.now, self.reach());
        while !self.wrong_among(&reach).is_empty() {
            assert!(self.now < start + 60 * SECOND, "never well again");
            self.run_for(20 * MS);
        }
        let gap = self.now - start;
        self.run_for(8 * SECOND);
        gap.as_millis() as u64
    }
}

/// What a large network costs.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Routers, and of those the ones that carry for others.
    pub routers: u32,
    /// Those.
    pub relays: u32,
    /// From the start of all until no route changes any more.
    pub converged: Duration,
    /// Bytes that each sent on average for that, and messages.
    pub start_bytes: u64,
    /// Those.
    pub start_messages: u64,
    /// Bytes that each sends in a second when nothing happens, on average.
    pub rest: f64,
    /// Bytes that each sends for a link that is lost, on average.
    pub change: f64,
    /// Entries of the tables of the one with the most.
    pub entries: usize,
    /// The same of the one in the middle.
    pub median: usize,
    /// Bytes of memory that each takes on average, the simulated network included.
    pub memory: u64,
    /// Of a thousand pairs that were tried, so many had a way.
    pub reached: usize,
    /// How long that took here.
    pub took: Duration,
}

/// A network of so many routers, of which `relays` carry for others: those have eight neighbours among themselves, each other one two of
/// them.
pub fn scale(routers: u32, relays: u32, seed: u64) -> Scale {
    let (began, before) = (Instant::now(), resident());
    let leaves = (relays + 1..=routers).collect();
    let mut routes = Routes::unwatched(routers, &leaves, seed);
    routes.spread(relays, 8);
    let start = routes.now;
    let quiet = |routes: &Routes| {
        let last = routes.traffic.last.unwrap_or(start);
        routes.now - last >= 8 * SECOND
    };
    while !quiet(&routes) && routes.now < start + 300 * SECOND {
        routes.run_for(SECOND);
    }
    let converged = routes.traffic.last.unwrap_or(start) - start;
    let each = u64::from(routers);
    let start_bytes = sent(&routes) / each;
    let start_messages = routes.traffic.messages / each;
    let memory = resident().saturating_sub(before) / each;
    let run = |routes: &mut Routes, seconds: u32, changes: bool| {
        let before = sent(routes);
        for _ in 0..seconds {
            if changes {
                routes.lose_any();
            }
            routes.run_for(SECOND);
        }
        (sent(routes) - before) as f64 / f64::from(routers) / f64::from(seconds)
    };
    let rest = run(&mut routes, 60, false);
    let change = run(&mut routes, 5, true);
    routes.run_for(20 * SECOND);
    let reached = (0..1_000).filter(|_| {
        let (a, b) = (routes.below(each) as u32 + 1, routes.below(each) as u32 + 1);
        a == b || routes.arrives(a, b)
    });
    let reached = reached.count();
    let held = routes.routers.values().map(|router| {
        let size = router.size();
        size.routes + size.announced + size.heard
    });
    let mut entries: Vec<usize> = held.collect();
    entries.sort_unstable();
    Scale {
        routers,
        relays,
        converged,
        start_bytes,
        start_messages,
        rest,
        change,
        entries: entries.last().copied().unwrap_or_default(),
        median: entries.get(entries.len() / 2).copied().unwrap_or_default(),
        memory,
        reached,
        took: began.elapsed(),
    }
}

/// Bytes on the links: 76 stand around each message, IPv4 and UDP included.
fn sent(routes: &Routes) -> u64 {
    routes.traffic.bytes + 76 * routes.traffic.messages
}

/// Bytes of memory that this process has now; 0 where the system does not say.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or_default() * 4_096
}
