//! A path that is there and does not carry what it is given: is it left for the relay within three seconds, left alone, and
//! taken again when it is good?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::time::Duration;

use sim::{network::Between, oracle::Place, world::World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two hosts with a direct path, which have talked for a while.
fn direct(seed: u64) -> World {
    let mut world = World::new(seed);
    world.add(Place::PortRestricted);
    world.add(Place::FullCone);
    world.start();
    world.add_relay();
    world.run_for(SECOND);
    world
        .ping_until_answered((0, 1), 100 * MS, 5 * SECOND)
        .unwrap();
    talk(&mut world, 15 * SECOND);
    assert!(!world.is_relayed(0, 1) && !world.is_relayed(1, 0), "{seed}");
    world
}

/// Echoes, one each 50 ms; how many of them were not answered, and when the first of them was sent of which all later ones were.
fn talk(world: &mut World, duration: Duration) -> (usize, Duration) {
    let start = world.now();
    let mut sent = Vec::new();
    while world.now() - start < duration {
        sent.push((world.now() - start, world.send(0, 1)));
        world.run_for(50 * MS);
    }
    world.run_for(SECOND);
    let is_lost = |id: u32| world.ledger.round_trip(id).is_none();
    let lost: Vec<_> = sent.iter().filter(|(_, id)| is_lost(*id)).collect();
    (
        lost.len(),
        lost.last().map_or(Duration::ZERO, |(at, _)| *at),
    )
}

/// How late the last echo was lost, in each of 40 runs in which direct paths become so, from the shortest to the longest.
fn left(between: Between) -> Vec<Duration> {
    let mut gaps: Vec<_> = (0..40)
        .map(|seed| {
            let mut world = direct(seed);
            world.between = between;
            let (_, gap) = talk(&mut world, 20 * SECOND);
            let both = world.is_relayed(0, 1) && world.is_relayed(1, 0);
            assert!(both, "{between:?}, seed {seed}: not relayed");
            let (lost, _) = talk(&mut world, 180 * SECOND);
            assert_eq!(lost, 0, "{between:?}, seed {seed}: went back to it");
            world.between = Between::Open;
            let (lost, _) = talk(&mut world, 90 * SECOND);
            assert_eq!(lost, 0, "{between:?}, seed {seed}: on the way back");
            let direct = !world.is_relayed(0, 1) && !world.is_relayed(1, 0);
            assert!(direct, "{between:?}, seed {seed}: still relayed");
            gap
        })
        .collect();
    gaps.sort();
    println!("{between:?}: median {:?}, longest {:?}", gaps[20], gaps[39]);
    gaps
}

#[test]
fn a_path_that_loses_a_fifth_is_left_for_the_relay_and_taken_again_when_it_is_good() {
    let gaps = left(Between::Lossy(0.2));
    assert!(gaps[37] <= 3 * SECOND, "{gaps:?}");
}

#[test]
fn a_path_that_swallows_one_direction_is_left_for_the_relay() {
    for host in 0..2 {
        let gaps = left(Between::Deaf(host));
        assert!(gaps[39] <= 3 * SECOND, "{gaps:?}");
    }
}

#[test]
fn a_path_that_lets_checks_pass_and_nothing_else_is_left_for_the_relay() {
    let gaps = left(Between::ChecksOnly);
    assert!(gaps[39] <= 3 * SECOND, "{gaps:?}");
}

#[test]
fn a_path_that_swallows_checks_alone_loses_nothing() {
    let mut world = direct(1);
    world.between = Between::NoChecks;
    let (lost, _) = talk(&mut world, 120 * SECOND);
    assert_eq!(lost, 0);
}

#[test]
fn where_the_relay_loses_as_much_the_direct_path_stays_in_use() {
    let mut world = direct(2);
    for host in 0..2 {
        let mut shape = world.hosts[host].up.shape;
        shape.loss = 0.2;
        world.hosts[host].reshape(shape);
    }
    // Two looks in a minute or so find it out anew, and messages that come by the relay draw the link there for a moment.
    let relayed = (0..90).filter(|_| {
        talk(&mut world, SECOND);
        world.is_relayed(0, 1) || world.is_relayed(1, 0)
    });
    let relayed = relayed.count();
    assert!(relayed <= 25, "{relayed} of 90 times");
}

#[test]
fn without_a_relay_a_lossy_path_is_kept() {
    let mut world = World::new(3);
    world.add(Place::PortRestricted);
    world.add(Place::FullCone);
    world.start();
    world
        .ping_until_answered((0, 1), 100 * MS, 5 * SECOND)
        .unwrap();
    world.between = Between::Lossy(0.2);
    let (lost, _) = talk(&mut world, 60 * SECOND);
    // A fifth there, a fifth back: 36 of 100.
    assert!((300..560).contains(&lost), "{lost} of 1200");
}
