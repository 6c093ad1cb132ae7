//! Are hosts behind NATs that can be known beforehand connected directly within a second, whichever kinds meet?

use std::time::Duration;

use sim::{
    oracle::{Place, must_be_direct},
    seeds::for_each_seed,
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The kinds whose mapping does not depend on who is sent to: all of them must meet directly.
fn cones() -> impl Iterator<Item = Place> {
    let all = Place::ALL.into_iter();
    all.filter(|place| must_be_direct(*place, Place::PortRestricted))
}

/// From the first packet on until both sides have a direct path; 20 ms one way, and as much to the server.
fn until_direct(seed: u64, places: [Place; 2], relays: bool) -> Option<Duration> {
    let mut world = World::new(seed);
    let [a, b] = places.map(|place| world.add(place));
    world.start();
    if relays {
        world.add_relay();
    }
    world.run_for(SECOND);
    let first = world.send(a, b);
    let is_direct =
        |world: &World, at, of| world.endpoint(at, of).is_some() && !world.is_relayed(at, of);
    let took = world.run_until(5 * SECOND, |world| {
        is_direct(world, a, b) && is_direct(world, b, a)
    });
    world.run_for(100 * MS);
    let answered = world.ledger.round_trip(first).is_some();
    took.filter(|_| answered)
}

fn all_within_a_second(name: &str, relays: bool) {
    assert_eq!(cones().count(), 7);
    for_each_seed(name, |seed| {
        for a in cones() {
            for b in cones() {
                let took = until_direct(seed, [a, b], relays);
                assert!(
                    took.is_some_and(|took| took <= SECOND),
                    "{a:?} with {b:?}: {took:?}"
                );
            }
        }
    });
}

#[test]
fn cones_are_direct_within_a_second_of_the_first_packet() {
    all_within_a_second("cones_are_direct_within_a_second", false);
}

#[test]
fn cones_are_direct_within_a_second_though_they_are_relayed_at_once() {
    all_within_a_second("cones_are_direct_within_a_second_though", true);
}
