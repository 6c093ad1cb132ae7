//! Do the shots that open our own NAT bring pairs together that lose the race otherwise, and cost the others nothing?

use std::time::Duration;

use sim::{
    oracle::{Place, must_be_direct},
    seeds::for_each_seed,
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Long enough for a first attempt, too short for a second.
const FIRST_ATTEMPT: Duration = Duration::from_secs(5);

/// Who sends the first packet.
#[derive(Debug, Clone, Copy)]
enum First {
    One,
    Other,
    Both,
}

/// Places of which one is leaky and that can meet.
fn leaky_pairs() -> impl Iterator<Item = Place> {
    Place::ALL
        .into_iter()
        .filter(|other| must_be_direct(Place::Leaky, *other))
}

/// How long it takes until an echo is back, for pings every second.
fn first_echo(
    seed: u64,
    places: [Place; 2],
    shape: impl Fn(&mut World),
    first: First,
) -> Option<Duration> {
    let mut world = World::new(seed);
    let [a, b] = places.map(|place| world.add(place));
    shape(&mut world);
    world.start();
    world.run_for(200 * MS);
    match first {
        First::One => {}
        First::Other => {
            world.send(b, a);
        }
        First::Both => {
            world.send(b, a);
            world.run_for(5 * MS);
        }
    }
    if matches!(first, First::Other) {
        return world.ping_until_answered((b, a), SECOND, FIRST_ATTEMPT);
    }
    world.ping_until_answered((a, b), SECOND, FIRST_ATTEMPT)
}

#[test]
fn whoever_speaks_first_leaky_pairs_meet() {
    for_each_seed("whoever_speaks_first", |seed| {
        for other in leaky_pairs() {
            for first in [First::One, First::Other, First::Both] {
                let took = first_echo(seed, [Place::Leaky, other], |_| {}, first);
                assert!(took.is_some(), "leaky with {other:?}, {first:?} first");
            }
        }
    });
}

#[test]
fn customers_of_one_provider_meet_although_there_is_only_one_hop_between_them() {
    for_each_seed("customers_of_one_provider", |seed| {
        for other in leaky_pairs() {
            for first in [First::One, First::Other, First::Both] {
                let near = |world: &mut World| {
                    world.network.internet_hops = 1;
                    for host in &mut world.hosts {
                        host.up.shape.delay = 3 * MS;
                        host.down.shape.delay = 3 * MS;
                    }
                };
                let took = first_echo(seed, [Place::Leaky, other], near, first);
                assert!(took.is_some(), "leaky with {other:?}, {first:?} first");
            }
        }
    });
}

#[test]
fn a_signal_may_take_longer_than_a_shot() {
    for_each_seed("a_signal_may_take_longer", |seed| {
        for first in [First::One, First::Other] {
            let slow = |world: &mut World| world.server.mailbox.delay = 150 * MS;
            let took = first_echo(seed, [Place::Leaky, Place::Leaky], slow, first);
            assert!(took.is_some(), "{first:?} first");
        }
    });
}

/// Otherwise the tests above would prove nothing.
#[test]
fn without_shots_two_leaky_homes_do_not_meet() {
    for_each_seed("without_shots_two_leaky", |seed| {
        let without = |world: &mut World| {
            for host in &mut world.hosts {
                host.means.hop_limits = false;
            }
        };
        let took = first_echo(
            seed,
            [Place::Leaky, Place::PortRestricted],
            without,
            First::One,
        );
        assert_eq!(took, None);
    });
}

/// Whoever is called would reach an open NAT at once, and now waits to be reached: the way back of its signal, and that
/// of a check. That check may come before the shot that opens a carrier's NAT; the next one, or our own, does not.
#[test]
fn ordinary_pairs_lose_little() {
    for_each_seed("ordinary_pairs_lose", |seed| {
        let cones = [
            Place::Open,
            Place::OneToOne,
            Place::FullCone,
            Place::AddressRestricted,
            Place::PortRestricted,
            Place::Cgnat,
        ];
        for a in cones {
            for b in cones {
                let shape = |hop_limits| {
                    move |world: &mut World| {
                        for host in &mut world.hosts {
                            host.means.hop_limits = hop_limits;
                        }
                    }
                };
                let [with, without] =
                    [true, false].map(|shots| first_echo(seed, [a, b], shape(shots), First::One));
                let lost = if b == Place::Cgnat { 250 * MS } else { 50 * MS };
                let limit = without.map(|took| took + lost);
                assert!(
                    with.is_some() && with <= limit,
                    "{a:?} with {b:?}: {with:?}, {without:?} without shots"
                );
            }
        }
    });
}

/// A daemon that has just started knows no more than its hosts' addresses, and its offer is not whole.
#[test]
fn a_leaky_home_is_spared_by_a_peer_that_does_not_know_yet_how_it_is_seen() {
    for_each_seed("a_leaky_home_is_spared", |seed| {
        for other in leaky_pairs() {
            for wait in [11, 20, 30, 39, 41, 50, 60] {
                let mut world = World::new(seed);
                let (leaky, other_host) = (world.add(Place::Leaky), world.add(other));
                // The server is reached sooner by signals than by the caller's question.
                world.start();
                world.run_for(wait * MS);
                let took = world.ping_until_answered((other_host, leaky), SECOND, FIRST_ATTEMPT);
                assert!(took.is_some(), "{other:?} calls after {wait} ms");
            }
        }
    });
}
