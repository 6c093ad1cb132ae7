//! A node that has to tell many peers something at once: do all hear of it, and soonest those that it talks with most?

#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::time::Duration;

use sim::{oracle::Place, world::World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// A run takes seconds.
const SEEDS: std::ops::Range<u64> = 0..2;
const HUB: usize = 0;
const PEERS: usize = 150;
/// Those with a packet each 20 ms, both ways.
const BUSIEST: usize = 16;
/// The others have one each half second or so, not all at once.
const SLOW: usize = 500 / 20;
/// 48 letters at once, 16 of them perhaps out of date by then, and 16 a second for the others: the last one leaves after 7.4 s.
/// Some need a second one, because each side looks for the other.
const ALL_BACK: Duration = Duration::from_secs(9);

/// A hub and its peers, all behind NATs that let in only who was sent to.
fn star(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..=PEERS {
        world.add(Place::PortRestricted);
    }
    world.start_around(HUB);
    world.run_for(SECOND);
    world
}

/// Whose numbers are the last ones: what is done for all in their order does not favour these.
fn is_busiest(peer: usize) -> bool {
    peer > PEERS - BUSIEST
}

/// What has been sent to and from each peer.
#[derive(Default)]
struct Talk {
    round: usize,
    sent: Vec<Vec<(Duration, u32)>>,
}

impl Talk {
    fn new() -> Self {
        Self {
            round: 0,
            sent: vec![Vec::new(); PEERS + 1],
        }
    }

    /// 20 ms of it.
    fn go_on(&mut self, world: &mut World) {
        self.round += 1;
        for peer in 1..=PEERS {
            if is_busiest(peer) || (self.round + 7 * peer).is_multiple_of(SLOW) {
                let ids = [world.send(HUB, peer), world.send(peer, HUB)];
                self.sent[peer].extend(ids.map(|id| (world.age(), id)));
            }
        }
        world.run_for(20 * MS);
    }

    fn run(&mut self, world: &mut World, time: Duration) {
        let end = world.now() + time;
        while world.now() < end {
            self.go_on(world);
        }
    }

    /// For how long after `since` no echo of this peer was answered at once; `None` if the last ones were not.
    fn gap(&self, world: &World, peer: usize, since: Duration) -> Option<Duration> {
        let late = |id: u32| world.ledger.round_trip(id).is_none_or(|it| it > 100 * MS);
        let after = self.sent[peer].iter().filter(|(at, _)| *at >= since);
        let Some((last, _)) = after.clone().rfind(|(_, id)| late(*id)) else {
            return Some(Duration::ZERO);
        };
        let next = after.clone().find(|(at, id)| at > last && !late(*id))?;
        Some(next.0 - since)
    }
}

/// Lets the hub talk with all its peers, makes `trouble`, and checks who is back when.
fn check(seed: u64, trouble: impl Fn(&mut World)) {
    let mut world = star(seed);
    let mut talk = Talk::new();
    talk.run(&mut world, 15 * SECOND);
    for peer in 1..=PEERS {
        assert!(
            world.endpoint(HUB, peer).is_some(),
            "{peer} never connected"
        );
    }
    let letters = |world: &World| world.server.postage.forwarded[&HUB];
    let before = letters(&world);
    trouble(&mut world);
    let since = world.age();
    talk.run(&mut world, 15 * SECOND);
    world.run_for(SECOND);
    let mut gaps: Vec<_> = (1..=PEERS)
        .map(|peer| talk.gap(&world, peer, since).unwrap_or(20 * SECOND))
        .collect();
    println!(
        "seed {seed}: {} letters, {:?}",
        letters(&world) - before,
        &gaps[PEERS - BUSIEST..]
    );
    let busiest = gaps[PEERS - BUSIEST..].iter().max().copied();
    gaps.sort();
    println!(
        "median {:?}, longest {:?}",
        gaps[PEERS / 2],
        gaps[PEERS - 1]
    );
    assert!(busiest <= Some(SECOND), "the busiest: {busiest:?}");
    assert!(gaps[PEERS - 1] <= ALL_BACK, "{gaps:?}");
    assert_eq!(world.server.postage.refused, 0, "letters were lost");
}

#[test]
fn an_uplink_that_loses_its_mapping_is_told_to_all_and_first_to_the_busiest() {
    for seed in SEEDS {
        check(seed, |world| world.rebind_nat(HUB, None));
    }
}

#[test]
fn a_machine_that_wakes_is_back_for_all_and_first_for_those_it_talked_with_most() {
    for seed in SEEDS {
        check(seed, |world| {
            world.put_to_sleep(HUB);
            world.run_for(600 * SECOND);
            world.wake(HUB);
        });
    }
}

#[test]
fn a_machine_that_moves_is_followed_by_all_and_first_by_those_it_talks_with_most() {
    for seed in SEEDS {
        check(seed, |world| {
            world.rebind_nat(HUB, Some([203, 0, 113, 250].into()));
            world.move_host(HUB, ([192, 168, 1, 99], 7081).into());
        });
    }
}
