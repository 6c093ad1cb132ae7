//! Do two nodes meet when the NAT of one gives each destination another port and the other's filters by port?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sim::{
    network::Between,
    oracle::{Place, must_meet_by_birthday},
    seeds::for_each_seed,
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// From the first packet to a direct path on both sides.
const DIRECT: Duration = Duration::from_secs(5);
/// Seeds of one pair: so many that a share of 95 % means something.
const SEEDS: u64 = 200;

fn world(seed: u64, places: [Place; 2]) -> World {
    let mut world = World::new(seed);
    for place in places {
        world.add(place);
    }
    world
}

fn start(world: &mut World) {
    world.start();
    world.add_relay();
    world.run_for(SECOND);
}

fn is_direct(world: &World) -> bool {
    let known = [(0, 1), (1, 0)].map(|(at, of)| world.endpoint(at, of).is_some());
    known == [true; 2] && !world.is_relayed(0, 1) && !world.is_relayed(1, 0)
}

/// Echoes, ten a second, until both sides have a direct path; how long that took.
fn meet(world: &mut World, limit: Duration) -> Option<Duration> {
    let start = world.now();
    while world.now() - start < limit {
        world.send(0, 1);
        if world.run_until(100 * MS, is_direct).is_some() {
            return Some(world.now() - start);
        }
    }
    None
}

/// Lets the pair talk for so long.
fn talk(world: &mut World, seconds: u32) {
    for _ in 0..seconds {
        world.send(0, 1);
        world.run_for(SECOND);
    }
}

#[test]
fn of_all_pairs_that_could_only_be_relayed_19_in_20_meet_within_5_seconds() {
    for (a, b) in [
        (Place::Symmetric, Place::PortRestricted),
        (Place::PortRestricted, Place::Symmetric),
        (Place::Symmetric, Place::Leaky),
        (Place::CgnatSymmetric, Place::Cgnat),
    ] {
        assert!(must_meet_by_birthday(a, b));
        let (mut times, mut most) = (Vec::new(), 0);
        for seed in 0..SEEDS {
            let mut world = world(seed, [a, b]);
            start(&mut world);
            let before = [0, 1].map(|host| world.hosts[host].sent.datagrams);
            times.extend(meet(&mut world, DIRECT));
            let sent = [0, 1].map(|host| world.hosts[host].sent.datagrams - before[host]);
            most = most.max(sent[0] + sent[1]);
            assert!(
                [0, 1]
                    .iter()
                    .all(|host| world.attempts(*host).sockets <= 256)
            );
        }
        times.sort_unstable();
        let (met, median) = (times.len(), times[times.len() / 2]);
        let last = times.last().unwrap();
        println!(
            "{a:?} with {b:?}: {met} of {SEEDS}, median {median:?}, last {last:?}, {most} sent"
        );
        assert!(met as u64 * 20 >= SEEDS * 19, "{a:?} with {b:?}: {met}");
        // The probes, and what talk and ICE send meanwhile.
        assert!(most <= 2048 + 600, "{most} datagrams");
    }
}

#[test]
fn what_was_found_carries_everything_and_the_other_sockets_are_closed() {
    for_each_seed("what_was_found", |seed| {
        let mut world = world(seed, [Place::Symmetric, Place::PortRestricted]);
        start(&mut world);
        if meet(&mut world, DIRECT).is_none() {
            return;
        }
        world.run_for(2 * SECOND);
        assert_eq!([0, 1].map(|host| world.sockets(host)), [1, 0]);
        let sent: Vec<u32> = (0..600)
            .map(|_| {
                let id = world.send(0, 1);
                world.run_for(SECOND / 2);
                id
            })
            .collect();
        world.run_for(SECOND);
        let lost = sent
            .iter()
            .filter(|id| world.ledger.round_trip(**id).is_none());
        assert_eq!(lost.count(), 0);
        assert!(is_direct(&world));
        assert_eq!(world.attempts(0).count, 1);
    });
}

#[test]
fn a_socket_that_carries_no_path_any_more_is_closed() {
    let mut world = world(1, [Place::Symmetric, Place::PortRestricted]);
    start(&mut world);
    assert!(meet(&mut world, DIRECT).is_some());
    world.between = Between::Blocked;
    talk(&mut world, 120);
    assert!(world.is_relayed(0, 1));
    assert_eq!(world.sockets(0), 0);
}

#[test]
fn a_pair_that_does_not_meet_tries_again_after_ten_minutes_only() {
    let mut world = world(2, [Place::Symmetric, Place::PortRestricted]);
    world.between = Between::Blocked;
    start(&mut world);
    talk(&mut world, 590);
    assert_eq!(world.attempts(0).count, 1);
    assert_eq!(world.attempts(1).count, 1);
    assert_eq!([0, 1].map(|host| world.sockets(host)), [0, 0]);
    talk(&mut world, 200);
    assert_eq!(world.attempts(0).count, 2);
    assert_eq!(world.attempts(1).count, 2);
}

#[test]
fn either_side_alone_can_decline() {
    for off in [0, 1] {
        let mut world = world(3, [Place::Symmetric, Place::PortRestricted]);
        world.hosts[off].means.birthday = false;
        start(&mut world);
        talk(&mut world, 60);
        assert!(world.is_relayed(0, 1) && world.is_relayed(1, 0));
        assert!([0, 1].iter().all(|host| world.attempts(*host).count == 0));
    }
}

#[test]
fn it_meets_where_datagrams_are_lost_too() {
    let mut met = 0;
    for seed in 0..SEEDS {
        let mut world = world(seed, [Place::Symmetric, Place::PortRestricted]);
        world.between = Between::Lossy(0.1);
        start(&mut world);
        met += u64::from(meet(&mut world, 2 * DIRECT).is_some());
    }
    println!("with a tenth of all datagrams lost: {met} of {SEEDS}");
    assert!(met * 20 >= SEEDS * 19, "{met}");
}

#[test]
fn pairs_for_whom_it_is_of_no_use_do_not_try() {
    for (a, b) in [
        (Place::Symmetric, Place::Symmetric),
        (Place::Symmetric, Place::UdpBlocked),
        (Place::PortRestricted, Place::UdpBlocked),
        (Place::PortRestricted, Place::PortRestricted),
        (Place::Symmetric, Place::FullCone),
        (Place::Leaky, Place::Leaky),
    ] {
        assert!(!must_meet_by_birthday(a, b));
        let mut world = world(4, [a, b]);
        start(&mut world);
        talk(&mut world, 120);
        assert!(
            [0, 1].iter().all(|host| world.attempts(*host).count == 0),
            "{a:?} with {b:?}"
        );
    }
}
