//! How soon do members that know each other meet again when their daemons start?

use std::time::Duration;

use mesh_core::Command;
use sim::{link::Shape, oracle::Place, seeds::for_each_seed, world::World};

const MS: Duration = Duration::from_millis(1);

/// Two hosts on one fast network, which were connected and are started anew, the second one `later` than the first.
fn restarted(seed: u64, later: Duration) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(Place::Open), world.add(Place::Open));
    for host in [a, b] {
        world.hosts[host].reshape(Shape::clean(MS / 10));
    }
    world.start();
    world.run_for(200 * MS);
    let took = world.ping_until_answered((a, b), 10 * MS, 1000 * MS);
    assert!(took.is_some(), "never connected");
    let stale = world.entry(a, b);
    world.switch_off(b);
    world.restart(a);
    // What the last run left on disk is all that the first one has until the server answers.
    world.tell(a, Command::SetPeers(vec![stale]));
    let before = world.now();
    while world.now() < before + later {
        world.send(a, b);
        world.run_for(MS / 2);
    }
    world.restart(b);
    (world, a, b)
}

#[test]
fn a_daemon_that_wants_a_peer_that_is_just_starting_reaches_it_within_15_ms() {
    for_each_seed("a_daemon_that_wants_a_peer", |seed| {
        for later in 1..20 {
            let (mut world, a, b) = restarted(seed, later * MS / 2);
            let took = world.ping_until_answered((a, b), MS, 1000 * MS);
            assert!(took.is_some_and(|took| took < 15 * MS), "{later}: {took:?}");
        }
    });
}

#[test]
fn a_peer_that_answers_an_attempt_that_is_over_costs_no_timeout() {
    for_each_seed("a_peer_that_answers_an_attempt", |seed| {
        for later in 1..20 {
            let (mut world, a, b) = restarted(seed, 10 * MS);
            world.server.mailbox.delay = later * MS / 4;
            world.send(a, b);
            world.run_for(MS);
            // The peer is listed under another instance while signals to it are under way.
            world.hosts[b].identity.instance += 1;
            world.publish();
            let took = world.ping_until_answered((a, b), MS, 1000 * MS);
            assert!(took.is_some_and(|took| took < 40 * MS), "{later}: {took:?}");
        }
    });
}
