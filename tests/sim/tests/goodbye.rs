//! How soon is a peer that went away in good order known to be away?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sim::{oracle::Place, world::World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// The last attempt to reach it may take as long, and begins when packets to it were not answered for a second.
const SOON: Duration = Duration::from_secs(12);

#[test]
fn who_says_goodbye_is_gone_soon_though_packets_go_to_it_still() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for place in [Place::FullCone, Place::PortRestricted] {
            world.add(place);
        }
        world.start();
        world.run_for(SECOND);
        let took = world.ping_until_answered((0, 1), 100 * MS, 5 * SECOND);
        took.unwrap();
        // It goes at once, or when its path has been known for a while; so do the last packets to it.
        world.run_for(500 * MS * u32::try_from(seed).unwrap());
        for _ in 0..10 {
            world.send(0, 1);
            world.run_for(50 * MS);
        }
        world.switch_off(1);
        world.publish();
        for _ in 0..seed % 8 {
            world.send(0, 1);
            world.run_for(200 * MS);
        }
        world.run_for(SOON);
        let status = world.status(0);
        assert_eq!(status.peers[0].endpoint, None, "seed {seed}: {status:?}");
    }
}
