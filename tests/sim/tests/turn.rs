//! Do two nodes without a direct path reach each other through a TURN server, at once and for as long as it takes, and
//! leave it when they can?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use mesh_core::Transport;
use sim::{
    link::Shape,
    network::Between,
    oracle::{Place, must_be_direct, must_meet_by_birthday},
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn relayed(seed: u64, places: [Place; 2]) -> World {
    relayed_over(Transport::Tcp, seed, places)
}

/// With a server that is reached over UDP and so.
fn relayed_over(connections: Transport, seed: u64, places: [Place; 2]) -> World {
    let mut world = World::new(seed);
    for place in places {
        world.add(place);
    }
    world.start();
    world.add_relay();
    world.server.relay.as_mut().unwrap().connections = connections;
    for host in 0..2 {
        world.hand_out_relay(host);
    }
    world.run_for(SECOND);
    world
}

fn websocket() -> Transport {
    Transport::WebSocket("https://mesh.example/".into())
}

/// Echoes until one is answered; how long that took.
fn link(world: &mut World) -> Duration {
    let took = world.ping_until_answered((0, 1), 100 * MS, 5 * SECOND);
    took.unwrap_or_else(|| panic!("no answer: {:?}", world.status(0)))
}

/// Echoes, one each 100 ms; how many were not answered within a second.
fn lost(world: &mut World, count: usize) -> usize {
    let sent: Vec<_> = (0..count)
        .map(|_| {
            let id = world.send(0, 1);
            world.run_for(100 * MS);
            id
        })
        .collect();
    world.run_for(SECOND);
    let lost = |id: &&u32| world.ledger.round_trip(**id).is_none();
    sent.iter().filter(lost).count()
}

#[test]
fn pairs_without_a_direct_path_are_relayed_and_the_others_are_not() {
    let mut longest = Duration::ZERO;
    for (number, a) in (0..).zip(Place::ALL) {
        for (other, b) in (0..).zip(Place::ALL) {
            let mut world = relayed(100 * number + other, [a, b]);
            let took = link(&mut world);
            // 20 ms one way, and as much to the server: 300 ms and a round trip. Without UDP the second in which it is waited
            // for, and the connection, come on top.
            let blocked = [a, b].contains(&Place::UdpBlocked);
            let most = if blocked { 1800 * MS } else { 340 * MS };
            assert!(took <= most, "{a:?} with {b:?}: {took:?}");
            if !blocked {
                longest = longest.max(took);
            }
            world.run_for(20 * SECOND);
            assert_eq!(lost(&mut world, 20), 0, "{a:?} with {b:?}");
            let is_direct = !world.is_relayed(0, 1) && !world.is_relayed(1, 0);
            let must = must_be_direct(a, b) || must_meet_by_birthday(a, b);
            assert_eq!(is_direct, must, "{a:?} with {b:?}");
        }
    }
    println!("the longest first echo: {longest:?}");
}

#[test]
fn after_an_hour_idle_the_first_packet_comes_through_at_once_too() {
    let mut world = relayed(1, [Place::Symmetric; 2]);
    link(&mut world);
    world.run_for(3600 * SECOND);
    let took = link(&mut world);
    assert!(took <= 340 * MS, "{took:?}");
}

#[test]
fn a_relayed_pair_talks_for_an_hour_over_stale_nonces_and_renewed_channels() {
    let mut world = relayed(2, [Place::Symmetric; 2]);
    link(&mut world);
    for minute in 0..60 {
        assert_eq!(lost(&mut world, 10), 0, "minute {minute}");
        world.run_for(58 * SECOND);
    }
    assert!(world.is_relayed(0, 1));
}

#[test]
fn a_server_that_forgot_us_relays_again_within_seconds() {
    let mut world = relayed(3, [Place::Symmetric; 2]);
    link(&mut world);
    world.run_for(10 * SECOND);
    world.server.relay.as_mut().unwrap().forget();
    let took = world.ping_until_answered((0, 1), 100 * MS, 30 * SECOND);
    assert!(took.unwrap() <= 8 * SECOND, "{took:?}");
    world.run_for(5 * SECOND);
    assert_eq!(lost(&mut world, 20), 0);
}

#[test]
fn new_credentials_are_taken_over_and_nothing_is_lost() {
    let mut world = relayed(4, [Place::Symmetric; 2]);
    link(&mut world);
    let relay = world.server.relay.as_mut().unwrap();
    relay.secret = 2;
    for host in 0..2 {
        world.hand_out_relay(host);
    }
    for _ in 0..20 {
        assert_eq!(lost(&mut world, 10), 0);
        world.run_for(60 * SECOND);
    }
    assert!(world.is_relayed(0, 1));
}

#[test]
fn wrong_credentials_are_not_tried_over_and_over() {
    let mut world = relayed(5, [Place::Symmetric; 2]);
    world.server.relay.as_mut().unwrap().secret = 2;
    for _ in 0..600 {
        world.send(0, 1);
        world.run_for(SECOND);
    }
    let refused = world.server.relay.as_ref().unwrap().refused;
    // Two nodes, each time a challenge and a refusal.
    assert!(refused <= 2 * 2 * 6, "{refused} in 10 minutes");
    let status = world.status(0);
    let trouble = status.turn[0].trouble.unwrap().to_string();
    assert!(trouble.contains("401"), "{trouble}");
}

#[test]
fn a_pair_leaves_the_relay_when_a_direct_path_becomes_possible_and_loses_nothing() {
    let mut world = relayed(6, [Place::PortRestricted; 2]);
    world.between = Between::Blocked;
    link(&mut world);
    assert_eq!(lost(&mut world, 50), 0);
    assert!(world.is_relayed(0, 1));
    world.between = Between::Open;
    assert_eq!(lost(&mut world, 900), 0);
    assert!(!world.is_relayed(0, 1) && !world.is_relayed(1, 0));
}

#[test]
fn a_relayed_address_that_nobody_needs_is_given_back() {
    let mut world = relayed(7, [Place::FullCone; 2]);
    link(&mut world);
    let allocations = |world: &World| {
        let relay = world.server.relay.as_ref().unwrap();
        relay.allocations(world.now())
    };
    assert_eq!(allocations(&world), 2);
    world.run_for(1300 * SECOND);
    assert_eq!(allocations(&world), 0);
    assert_eq!(lost(&mut world, 10), 0, "the direct path stays");
}

#[test]
fn over_bad_links_relayed_pairs_end_connected() {
    for seed in 0..20 {
        let mut world = relayed(1000 + seed, [Place::Symmetric, Place::PortRestricted]);
        for host in 0..2 {
            let mut shape = Shape::clean(30 * MS);
            shape.loss = 0.2;
            shape.jitter = 20 * MS;
            world.hosts[host].reshape(shape);
        }
        for _ in 0..60 {
            world.send(0, 1);
            world.run_for(SECOND);
        }
        for host in 0..2 {
            world.hosts[host].reshape(Shape::clean(10 * MS));
        }
        world.run_for(15 * SECOND);
        assert_eq!(lost(&mut world, 20), 0, "seed {}", 1000 + seed);
    }
}

/// The transport of a host's relayed address, while it has one.
fn transport(world: &World, host: usize) -> Option<Transport> {
    let servers = world.status(host).turn.into_iter();
    let mut relays = servers.filter(|server| server.relayed.is_some());
    relays.next().map(|server| server.transport)
}

#[test]
fn udp_that_is_blocked_in_the_middle_costs_seconds_and_comes_back_when_it_can() {
    let all = [[Place::FullCone; 2], [Place::Symmetric; 2]];
    let all = all.map(|places| [(Transport::Tcp, places), (websocket(), places)]);
    for (over, places) in all.concat() {
        let mut world = relayed_over(over.clone(), 5, places);
        link(&mut world);
        world.run_for(20 * SECOND);
        world.hosts[0].means.udp_blocked = true;
        let took = link(&mut world);
        println!("{places:?}: relayed over {over} {took:?} after UDP was blocked");
        world.run_for(10 * SECOND);
        assert_eq!(lost(&mut world, 100), 0, "{places:?}");
        assert_eq!(transport(&world, 0), Some(over.clone()), "{places:?}");
        world.hosts[0].means.udp_blocked = false;
        let lost = lost(&mut world, 1200);
        println!("{places:?}: {lost} of 1,200 lost on the way back from {over} to UDP");
        // Those that become direct have left the relay before it moves.
        let most = if must_be_direct(places[0], places[1]) {
            0
        } else {
            3
        };
        assert!(lost <= most, "{places:?}: {lost}");
        assert_ne!(transport(&world, 0), Some(over), "{places:?}");
        let is_direct = !world.is_relayed(0, 1) && !world.is_relayed(1, 0);
        assert_eq!(
            is_direct,
            must_be_direct(places[0], places[1]),
            "{places:?}"
        );
    }
}

#[test]
fn a_server_that_was_restarted_relays_again_over_tcp_within_seconds() {
    let mut world = relayed(6, [Place::UdpBlocked; 2]);
    link(&mut world);
    world.run_for(20 * SECOND);
    world.server.relay.as_mut().unwrap().forget();
    let took = link(&mut world);
    world.run_for(5 * SECOND);
    assert_eq!(lost(&mut world, 50), 0, "after {took:?}");
}

#[test]
fn a_server_that_is_away_for_a_while_is_found_again_over_tcp() {
    let mut world = relayed(7, [Place::UdpBlocked; 2]);
    link(&mut world);
    world.server.is_up = false;
    world.server.relay.as_mut().unwrap().forget();
    world.send(0, 1);
    world.run_for(30 * SECOND);
    world.server.is_up = true;
    let took = world.ping_until_answered((0, 1), 100 * MS, 30 * SECOND);
    println!("{took:?} after the server was there again");
    assert!(took.is_some());
}
