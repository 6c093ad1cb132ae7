//! Is a machine that slept back at once, though its mappings, rights and keys have ended meanwhile?

use std::time::Duration;

use sim::{
    network::Between,
    oracle::Place::{self, FullCone, PortRestricted, Symmetric},
    seeds::for_each_seed,
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Shorter than a permission lasts, than an allocation, and longer than all.
const NAPS: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(400),
    Duration::from_secs(600),
    Duration::from_secs(8 * 3600),
];
/// What a machine needs after it has woken until the server has heard of it: a connection by TCP, a request, a WebSocket.
const RECONNECTS: Duration = Duration::from_millis(150);
/// The promise of a move holds for waking, too.
const BACK: Duration = SECOND;
const SLEEPER: usize = 0;
const STAYER: usize = 1;

/// Two hosts that talk to each other. Without `direct` only the server lets them through to each other.
fn talking(seed: u64, places: [Place; 2], direct: bool) -> World {
    let mut world = World::new(seed);
    for place in places {
        world.add(place);
    }
    if !direct {
        world.between = Between::Blocked;
    }
    world.start();
    world.add_relay();
    world.run_for(SECOND);
    let pair = (SLEEPER, STAYER);
    assert!(
        world
            .ping_until_answered(pair, 100 * MS, 5 * SECOND)
            .is_some(),
        "{places:?} never connected"
    );
    for _ in 0..20 {
        world.send(SLEEPER, STAYER);
        world.run_for(500 * MS);
    }
    if !places.contains(&Symmetric) {
        assert_eq!(world.is_relayed(SLEEPER, STAYER), !direct, "{places:?}");
    }
    world
}

/// For how long nothing came through after the machine has woken while `talker` talked all the time, as far as anybody listened.
fn gap(world: &mut World, nap: Duration, talker: usize) -> Option<Duration> {
    let pair = (talker, 1 - talker);
    // Whoever stays talks on until it has given up, and again shortly before the other wakes.
    let talks = |world: &mut World, time: Duration| {
        let end = world.now() + time;
        while talker == STAYER && world.now() < end {
            world.send(STAYER, SLEEPER);
            world.run_for(500 * MS);
        }
        world.run_for(end.saturating_duration_since(world.now()));
    };
    world.put_to_sleep(SLEEPER);
    talks(world, 5 * SECOND);
    world.publish();
    talks(world, 20 * SECOND);
    world.run_for(nap.saturating_sub(30 * SECOND));
    talks(world, 5 * SECOND);
    world.wake(SLEEPER);
    let woken = world.now();
    let mut sent = Vec::new();
    let mut is_known = false;
    while world.now() < woken + 10 * SECOND {
        sent.push(world.send(pair.0, pair.1));
        world.run_for(20 * MS);
        if !is_known && world.now() >= woken + RECONNECTS {
            is_known = true;
            world.publish();
        }
        if sent.iter().any(|id| world.ledger.round_trip(*id).is_some()) {
            return Some(world.now() - woken);
        }
    }
    None
}

fn check(places: [Place; 2], direct: bool, seed: u64) -> Duration {
    let mut longest = Duration::ZERO;
    for nap in NAPS {
        for talker in [SLEEPER, STAYER] {
            let mut world = talking(seed, places, direct);
            let gap = gap(&mut world, nap, talker);
            assert!(
                gap.is_some_and(|gap| gap <= BACK),
                "{places:?} after {nap:?}, {talker} talks: {gap:?}"
            );
            longest = longest.max(gap.unwrap_or_default());
        }
    }
    longest
}

#[test]
fn whoever_wakes_is_back_within_a_second_whichever_side_talks() {
    for_each_seed("whoever_wakes_is_back", |seed| {
        for places in [
            [PortRestricted, PortRestricted],
            [FullCone, PortRestricted],
            [PortRestricted, Symmetric],
        ] {
            check(places, true, seed);
        }
    });
}

#[test]
fn whoever_wakes_and_is_relayed_is_back_within_a_second_too() {
    for_each_seed("whoever_wakes_and_is_relayed", |seed| {
        check([PortRestricted, PortRestricted], false, seed);
    });
}
