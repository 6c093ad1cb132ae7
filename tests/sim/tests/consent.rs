//! How long is a peer written to that has not shown any more that it wants to hear us (RFC 7675)?

use std::time::Duration;

use sim::{network::Between, oracle::Place, seeds::for_each_seed, world::World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const CONSENT: Duration = Duration::from_secs(30);

/// What goes between the two, before and after the silence: who sends, and how often.
const TALKS: [(Option<usize>, Duration); 6] = [
    (None, SECOND),
    (Some(0), Duration::from_millis(20)),
    (Some(0), Duration::from_secs(4)),
    (Some(0), Duration::from_secs(13)),
    (Some(1), Duration::from_millis(20)),
    (Some(1), Duration::from_secs(7)),
];

fn talk(world: &mut World, (who, interval): (Option<usize>, Duration), time: Duration) {
    let end = world.now() + time;
    while world.now() < end {
        if let Some(from) = who.filter(|from| world.hosts[*from].node.is_some()) {
            world.send(from, 1 - from);
        }
        world.run_for(interval.min(end - world.now()));
    }
}

/// Two hosts that have talked for so long.
fn talked(seed: u64, talks: (Option<usize>, Duration), time: Duration) -> World {
    let mut world = World::new(seed);
    world.add(Place::PortRestricted);
    world.add(Place::FullCone);
    world.start();
    world.run_for(200 * MS);
    let took = world.ping_until_answered((0, 1), SECOND, 5 * SECOND);
    assert!(took.is_some(), "never connected");
    talk(&mut world, talks, time);
    world
}

#[test]
fn nobody_is_written_to_for_longer_than_30_s_after_its_last_sign_of_life() {
    for_each_seed("nobody_is_written_to", |seed| {
        for talks in TALKS {
            for before in [5, 33, 61].map(Duration::from_secs) {
                for is_off in [true, false] {
                    let mut world = talked(seed, talks, before);
                    // Either it is gone, or whatever goes between the two is lost.
                    match is_off {
                        true => world.switch_off(1),
                        false => world.between = Between::Blocked,
                    }
                    // What is under way still comes.
                    let silent = world.now() + 40 * MS;
                    talk(&mut world, talks, 100 * SECOND);
                    let last = world.hosts[0].sent.messages.values().max().copied();
                    assert!(
                        last <= Some(silent + CONSENT),
                        "{talks:?}, {before:?}, {is_off}: written to for {:?}",
                        last.map(|at| at - silent)
                    );
                }
            }
        }
    });
}

#[test]
fn who_is_there_and_silent_is_not_given_up() {
    for_each_seed("who_is_there_and_silent", |seed| {
        for talks in TALKS {
            let mut world = talked(seed, talks, 5 * SECOND);
            for _ in 0..40 {
                talk(&mut world, talks, 10 * SECOND);
                for (at, of) in [(0, 1), (1, 0)] {
                    assert!(
                        world.endpoint(at, of).is_some(),
                        "{talks:?}: {at} gave up {of}"
                    );
                }
            }
        }
    });
}
