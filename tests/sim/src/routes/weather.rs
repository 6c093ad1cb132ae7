//! Which links are there, and what becomes of them?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Cable, Routes, Way};

impl Routes {
    /// A connected graph in which each router has some `degree` links. A `loss` of 0 stands for links that are the same in both
    /// directions and lose nothing; others differ, and also carry a tenth of that twice.
    pub fn weave(&mut self, degree: usize, loss: u8) {
        let count = self.routers.len() as u32;
        for member in 2..=count {
            let other = self.random.u32(1..member);
            let cable = self.some_cable(loss);
            self.link(member, other, cable);
        }
        let all = self.routers.len();
        let wanted = (all * degree).min(all * (all - 1)) / 2;
        while self.cables.len() < wanted {
            let (a, b) = (self.random.u32(1..=count), self.random.u32(1..=count));
            if a != b && self.cable(a, b).is_none() {
                let cable = self.some_cable(loss);
                self.link(a, b, cable);
            }
        }
    }

    /// Routers 1 to N in a row.
    pub fn line(&mut self, cable: Cable) {
        for member in 2..=self.routers.len() as u32 {
            self.link(member - 1, member, cable);
        }
    }

    /// A link of 3 to 75 ms with as much jitter at most.
    pub(super) fn some_cable(&mut self, loss: u8) -> Cable {
        let there = self.some_way(loss);
        let back = match loss {
            0 => there,
            _ => self.some_way(loss),
        };
        Cable {
            ways: [there, back],
            up: true,
        }
    }

    fn some_way(&mut self, loss: u8) -> Way {
        let ms = self.random.u64(3..75);
        Way {
            delay: Duration::from_millis(ms),
            jitter: Duration::from_millis(self.random.u64(0..=ms)),
            loss,
            twice: loss.div_ceil(10),
            carries: true,
        }
    }

    /// One misfortune or mending.
    pub fn misfortune(&mut self) {
        let ends: Vec<(u32, u32)> = self.cables.keys().copied().collect();
        let (a, b) = ends[self.random.usize(..ends.len())];
        let (from, to) = if self.random.bool() { (a, b) } else { (b, a) };
        let Some(mut cable) = self.cable(a, b) else {
            return;
        };
        match self.random.u8(0..100) {
            0..40 => {
                cable.up = !cable.up;
                self.link(a, b, cable);
            }
            40..60 => {
                for way in &mut cable.ways {
                    way.delay = Duration::from_millis(self.random.u64(1..150));
                }
                self.link(a, b, cable);
            }
            60..72 => {
                let carries = !cable.way(from, to).carries;
                self.one_way(from, to, carries);
            }
            72..90 => self.measure(from, to),
            90..98 => self.restart(from),
            _ => self.isolate(from, false),
        }
    }

    /// Relays, 1 to `relays`, with some `degree` links among themselves, and leaves with links to two of them.
    pub fn spread(&mut self, relays: u32, degree: u32) {
        let mut links = BTreeMap::<u32, u32>::new();
        let mut lay = |routes: &mut Self, a: u32, b: u32| {
            let cable = routes.some_cable(0);
            routes.link(a, b, cable);
            *links.entry(a).or_default() += 1;
            *links.entry(b).or_default() += 1;
            (links[&a], links[&b])
        };
        // First a ring, so that all are linked.
        for relay in 1..=relays {
            lay(self, relay, relay % relays + 1);
        }
        let mut open: Vec<u32> = (1..=relays).collect();
        let mut misses = 0;
        while open.len() > 1 && misses < 1_000 {
            let (x, y) = (
                self.random.usize(..open.len()),
                self.random.usize(..open.len()),
            );
            let (a, b) = (open[x], open[y]);
            if a == b || self.cable(a, b).is_some() {
                misses += 1;
                continue;
            }
            misses = 0;
            let (of_a, of_b) = lay(self, a, b);
            open.retain(|it| !(*it == a && of_a >= degree || *it == b && of_b >= degree));
        }
        for leaf in relays + 1..=self.routers.len() as u32 {
            let first = self.random.u32(1..=relays);
            let second = (first + self.random.u32(0..relays - 1)) % relays + 1;
            for relay in [first, second] {
                let cable = self.some_cable(0);
                self.link(leaf, relay, cable);
            }
        }
    }

    /// Some link is lost.
    pub fn lose_any(&mut self) {
        let working: Vec<_> = self.cables.iter().filter(|(_, it)| it.works()).collect();
        let ((a, b), cable) = working[self.random.usize(..working.len())];
        let (a, b, cable) = (
            *a,
            *b,
            Cable {
                up: false,
                ..*cable
            },
        );
        self.link(a, b, cable);
    }

    /// Takes all links of a router away at once, or gives them back.
    pub fn isolate(&mut self, member: u32, up: bool) {
        self.switch(up, |a, b| a == member || b == member);
    }

    /// Takes all links between these routers and the others away at once, or gives them back.
    pub fn part(&mut self, some: &BTreeSet<u32>, up: bool) {
        self.switch(up, |a, b| some.contains(&a) != some.contains(&b));
    }

    /// All links carry again, and everyone knows.
    pub fn mend(&mut self) {
        let all: Vec<_> = self.cables.iter().map(|(ends, it)| (*ends, *it)).collect();
        for ((a, b), mut cable) in all {
            cable.up = true;
            for way in &mut cable.ways {
                way.carries = true;
            }
            self.link(a, b, cable);
        }
    }

    fn switch(&mut self, up: bool, is_meant: impl Fn(u32, u32) -> bool) {
        let meant: Vec<_> = self
            .cables
            .iter()
            .filter(|((a, b), cable)| cable.up != up && is_meant(*a, *b))
            .map(|(ends, cable)| (*ends, *cable))
            .collect();
        for ((a, b), cable) in meant {
            self.link(a, b, Cable { up, ..cable });
        }
    }
}
