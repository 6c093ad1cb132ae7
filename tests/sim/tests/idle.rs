//! What do paths cost that nobody uses, and is it noticed all the same when they die?

use std::time::Duration;

use sim::{oracle::Place, seeds::for_each_seed, world::World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two hosts that were connected and then silent until their path was left alone.
fn resting(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(Place::PortRestricted), world.add(Place::FullCone));
    world.start();
    world.run_for(200 * MS);
    let took = world.ping_until_answered((a, b), SECOND, 5 * SECOND);
    assert!(took.is_some(), "never connected");
    world.run_for(30 * SECOND);
    (world, a, b)
}

#[test]
fn silent_peers_send_a_keepalive_every_25_s_and_little_else() {
    for_each_seed("silent_peers", |seed| {
        let (mut world, a, b) = resting(seed);
        let before = [a, b].map(|host| world.hosts[host].sent.datagrams);
        world.run_for(600 * SECOND);
        for (host, before) in [a, b].into_iter().zip(before) {
            let sent = world.hosts[host].sent.datagrams - before;
            // 24 keepalives, as many questions to the STUN server, and five renewals of the keys.
            assert!(
                (48..80).contains(&sent),
                "host {host} sent {sent} datagrams"
            );
        }
        let id = world.send(a, b);
        world.run_for(SECOND);
        assert_eq!(world.ledger.round_trip(id), Some(40 * MS), "no path");
    });
}

#[test]
fn a_path_that_dies_under_traffic_is_noticed_within_13_s() {
    for_each_seed("a_path_that_dies_under_traffic", |seed| {
        let (mut world, a, b) = resting(seed);
        world.switch_off(b);
        for _ in 0..130 {
            world.send(a, b);
            world.run_for(100 * MS);
        }
        assert_eq!(world.endpoint(a, b), None, "still thinks that it is there");
    });
}

#[test]
fn a_peer_that_vanishes_in_silence_is_noticed_within_a_minute() {
    for_each_seed("a_peer_that_vanishes_in_silence", |seed| {
        let (mut world, a, b) = resting(seed);
        world.switch_off(b);
        world.run_for(60 * SECOND);
        assert_eq!(world.endpoint(a, b), None, "still thinks that it is there");
    });
}

#[test]
fn a_peer_that_the_server_misses_is_noticed_within_10_s() {
    for_each_seed("a_peer_that_the_server_misses", |seed| {
        let (mut world, a, b) = resting(seed);
        world.switch_off(b);
        world.publish();
        world.run_for(10 * SECOND);
        assert_eq!(world.endpoint(a, b), None, "still thinks that it is there");
    });
}
