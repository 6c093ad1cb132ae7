//! How long does a first packet take over a long way? By a satellite an answer takes more than half a second, and what is sent
//! again before that makes the answer worthless.

use std::time::Duration;

use sim::{link::Shape, oracle::Place, seeds::for_each_seed, world::World};

const MS: Duration = Duration::from_millis(1);
/// A check, its nomination, the handshake, and the echo itself; one more for a signal that takes the same way.
const ROUND_TRIPS: u32 = 5;

#[test]
fn a_first_echo_takes_a_few_round_trips_however_long_they_are() {
    for_each_seed("a_first_echo_takes_a_few", |seed| {
        for place in [Place::Open, Place::PortRestricted] {
            // Checks wait for their turn: five a second go to one address, and over the longest way those are sent before any answer
            // can be there, so that the one which both NATs let in is of the next second.
            for (round_trip, beside) in [(260, 300), (600, 300), (1200, 1000)] {
                let mut world = World::new(seed);
                let (a, b) = (world.add(place), world.add(Place::PortRestricted));
                for host in [a, b] {
                    world.hosts[host].reshape(Shape::clean(round_trip / 4 * MS));
                }
                world.start();
                world.run_for(3000 * MS);
                let id = world.send(a, b);
                let limit = (ROUND_TRIPS * round_trip + beside) * MS;
                world.run_until(limit, |world| world.ledger.round_trip(id).is_some());
                let took = world.ledger.round_trip(id);
                assert!(took.is_some(), "{place:?}: not within {limit:?}");
            }
        }
    });
}
