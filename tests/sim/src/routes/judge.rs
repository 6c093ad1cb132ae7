//! Who should reach whom, at what cost, and who does?

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::routing::NextHop;

use super::{Cable, Routes};

/// Links that a route has at most.
const MAX_LINKS: usize = 8;

impl Routes {
    /// Whether what `from` sends to `to` arrives now.
    pub fn arrives(&self, from: u32, to: u32) -> bool {
        let (mut at, mut links) = (from, 0);
        while at != to {
            let next = match self.routers.get(&at).map(|router| router.next_hop(to)) {
                Some(NextHop::Neighbour(next)) => next,
                Some(NextHop::Path(path)) => {
                    let members = path.members().iter().copied();
                    let nodes = [at].into_iter().chain(members).chain([to]);
                    return nodes
                        .clone()
                        .zip(nodes.skip(1))
                        .all(|(a, b)| self.passes(a, b) && (b == to || !self.is_liar(b)));
                }
                Some(NextHop::None) | None => return false,
            };
            let carried = next == to
                || !self.is_liar(next)
                    && self.routers.get(&next).is_some_and(|it| it.carries_for(at));
            if !self.passes(at, next) || links == MAX_LINKS || !carried {
                return false;
            }
            at = next;
            links += 1;
        }
        true
    }

    fn passes(&self, from: u32, to: u32) -> bool {
        self.cable(from, to)
            .is_some_and(|cable| cable.passes(from, to))
    }

    /// The least metric from `from` to all others over at most eight links that work and do not lead through `avoided` (Bellman and
    /// Ford).
    pub fn optimum(&self, from: u32, avoided: Option<u32>) -> BTreeMap<u32, u16> {
        let mut best = BTreeMap::from([(from, 0_u16)]);
        let working: Vec<_> = self.cables.iter().filter(|(_, it)| it.works()).collect();
        for _ in 0..MAX_LINKS {
            let before = best.clone();
            for ((a, b), cable) in &working {
                let cost = 100 + cable.rtt().as_millis() as u16;
                for (near, far) in [(a, b), (b, a)] {
                    if let Some(metric) = before.get(near).filter(|_| Some(*near) != avoided) {
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

    /// Who is linked to whom by at most eight links that work.
    pub fn reach(&self) -> BTreeMap<u32, BTreeSet<u32>> {
        let mut near: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for ((a, b), _) in self.cables.iter().filter(|(_, it)| it.works()) {
            near.entry(*a).or_default().push(*b);
            near.entry(*b).or_default().push(*a);
        }
        let from = |start: u32| {
            let (mut reached, mut edge) = (BTreeSet::from([start]), vec![start]);
            for _ in 0..MAX_LINKS {
                let next = edge.iter().filter_map(|at| near.get(at)).flatten();
                edge = next.copied().filter(|it| reached.insert(*it)).collect();
            }
            (start, reached)
        };
        self.routers.keys().copied().map(from).collect()
    }

    /// Pairs that are linked by at most eight links and have no way, and pairs that are not and have one.
    pub fn wrong(&self) -> Vec<(u32, u32)> {
        self.wrong_among(&self.reach())
    }

    /// The same, when it is known who is linked.
    pub fn wrong_among(&self, reach: &BTreeMap<u32, BTreeSet<u32>>) -> Vec<(u32, u32)> {
        let mut wrong = Vec::new();
        for (from, reached) in reach {
            let router = self.routers.get(from);
            for to in self.routers.keys().filter(|to| *to != from) {
                let right = match reached.contains(to) {
                    true => self.arrives(*from, *to),
                    false => router.is_none_or(|router| router.next_hop(*to) == NextHop::None),
                };
                if !right {
                    wrong.push((*from, *to));
                }
            }
        }
        wrong
    }

    /// Pairs that no router may come between which says the truth about its links and lies about all others: their best way without it
    /// costs less, hysteresis included, than the least that it can claim. That is the cost of the way to it and of one link.
    pub fn out_of_reach(&self, liar: u32) -> Vec<(u32, u32)> {
        let to_liar = self.optimum(liar, None);
        let honest = self.routers.keys().copied().filter(|who| *who != liar);
        let mut pairs = Vec::new();
        for from in honest {
            let Some(claim) = to_liar.get(&from).map(|metric| metric + 100) else {
                continue;
            };
            let others = self.optimum(from, Some(liar)).into_iter();
            let safe = others.filter(|(to, _)| *to != from && *to != liar);
            let safe = safe.filter(|(_, metric)| metric + metric / 4 + 30 < claim);
            pairs.extend(safe.map(|(to, _)| (from, to)));
        }
        pairs
    }

    /// Links that work.
    pub fn working(&self) -> usize {
        self.cables.values().filter(|it| Cable::works(it)).count()
    }
}
