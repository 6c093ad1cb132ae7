//! Do whole nodes reach each other through every kind of place, and stay reached whatever happens?

use std::{net::SocketAddr, time::Duration};

use mesh_core::{Command, DropReason};
use sim::{
    inner::Echo,
    link::Shape,
    oracle::{Place, must_be_direct},
    seeds::for_each_seed,
    server::Mailbox,
    world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// First echo there and back at 20 ms one way, gathering, signalling, checks and handshake included.
const FIRST_ECHO: Duration = Duration::from_millis(1500);

fn two(seed: u64, a: Place, b: Place) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(a), world.add(b));
    (world, a, b)
}

/// Two connected hosts.
fn connected(seed: u64, a: Place, b: Place) -> (World, usize, usize) {
    let (mut world, a, b) = two(seed, a, b);
    world.start();
    world.run_for(200 * MS);
    let took = world.ping_until_answered((a, b), SECOND, 5 * SECOND);
    assert!(took.is_some(), "never connected");
    world.run_for(SECOND);
    (world, a, b)
}

#[test]
fn every_pair_of_places_connects_as_the_oracle_says() {
    for_each_seed("every_pair_of_places", |seed| {
        for a in Place::ALL {
            for b in Place::ALL {
                check_pair(seed, a, b);
            }
        }
    });
}

fn check_pair(seed: u64, a: Place, b: Place) {
    let (mut world, from, to) = two(seed, a, b);
    world.start();
    world.run_for(200 * MS);
    let id = world.send(from, to);
    let direct = must_be_direct(a, b);
    let limit = if direct { FIRST_ECHO } else { 40 * SECOND };
    world.run_until(limit, |world| world.ledger.round_trip(id).is_some());
    assert_eq!(
        world.ledger.round_trip(id).is_some(),
        direct,
        "{a:?} with {b:?}: is the echo back within {limit:?}"
    );
    if !direct {
        assert_eq!(world.ledger.one_way(id), None, "{a:?} with {b:?}");
        assert_eq!(
            world.drops(from, DropReason::Unreachable),
            1,
            "{a:?} with {b:?}"
        );
    }
}

#[test]
fn a_first_packet_that_is_sent_at_once_waits_for_everything() {
    for_each_seed("a_first_packet", |seed| {
        let (mut world, a, b) = two(seed, Place::PortRestricted, Place::PortRestricted);
        world.start();
        world.run_for(11 * MS);
        let id = world.send(a, b);
        world.run_for(FIRST_ECHO);
        assert!(world.ledger.round_trip(id).is_some(), "no answer");
    });
}

#[test]
fn a_fifth_of_all_datagrams_lost_does_not_keep_them_apart() {
    for_each_seed("a_fifth_of_all_datagrams", |seed| {
        let (mut world, a, b) = two(seed, Place::PortRestricted, Place::PortRestricted);
        for host in [a, b] {
            world.hosts[host].up.shape.loss = 0.2;
        }
        world.start();
        let took = world.ping_until_answered((a, b), SECOND, 30 * SECOND);
        assert!(took.is_some(), "not connected within 30 s");
    });
}

#[test]
fn both_may_dial_at_once() {
    for_each_seed("both_may_dial_at_once", |seed| {
        for place in [Place::Open, Place::FullCone, Place::PortRestricted] {
            let (mut world, a, b) = two(seed, place, Place::PortRestricted);
            world.start();
            world.run_for(200 * MS);
            let ids = [world.send(a, b), world.send(b, a)];
            world.run_for(FIRST_ECHO);
            for id in ids {
                assert!(world.ledger.round_trip(id).is_some(), "{place:?}: {id}");
            }
        }
    });
}

#[test]
fn lost_doubled_and_overtaken_signals_converge() {
    for_each_seed("lost_doubled_and_overtaken", |seed| {
        let (mut world, a, b) = two(seed, Place::PortRestricted, Place::FullCone);
        world.server.mailbox = Mailbox {
            delay: 5 * MS,
            jitter: 300 * MS,
            loss: 0.3,
            duplicate: 0.3,
        };
        world.start();
        world.run_for(200 * MS);
        world.send(b, a);
        let took = world.ping_until_answered((a, b), SECOND, 15 * SECOND);
        assert!(took.is_some(), "not connected within 15 s");
        world.run_for(20 * SECOND);
        let id = world.send(b, a);
        world.run_for(SECOND);
        assert!(world.ledger.round_trip(id).is_some(), "did not last");
    });
}

#[test]
fn a_restarted_peer_is_back_within_three_seconds() {
    for_each_seed("a_restarted_peer", |seed| {
        for (place, restarted_sends) in [
            (Place::Open, true),
            (Place::Open, false),
            (Place::PortRestricted, true),
            (Place::PortRestricted, false),
        ] {
            let (mut world, a, b) = connected(seed, place, Place::PortRestricted);
            world.restart(a);
            let pair = if restarted_sends { (a, b) } else { (b, a) };
            let took = world.ping_until_answered(pair, 200 * MS, 3 * SECOND);
            assert!(took.is_some(), "{place:?}, {restarted_sends}: not back");
            let there_too = world.ping_until_answered((pair.1, pair.0), 200 * MS, SECOND);
            assert!(there_too.is_some(), "{place:?}, {restarted_sends}: one way");
        }
    });
}

#[test]
fn both_peers_restarted_are_back_within_three_seconds() {
    for_each_seed("both_peers_restarted", |seed| {
        let (mut world, a, b) = connected(seed, Place::FullCone, Place::PortRestricted);
        world.restart(a);
        world.run_for(30 * MS);
        world.restart(b);
        let took = world.ping_until_answered((a, b), 200 * MS, 3 * SECOND);
        assert!(took.is_some(), "not back");
    });
}

#[test]
fn traffic_follows_a_rebinding_nat() {
    for_each_seed("traffic_follows_a_rebinding_nat", |seed| {
        let moved = Some([203, 0, 113, 99].into());
        for (other, external, limit) in [
            (Place::AddressRestricted, None, 2 * SECOND),
            (Place::FullCone, moved, 2 * SECOND),
            (Place::Open, moved, 2 * SECOND),
            // The filter keeps the mover out until STUN tells it of its new address, asked every 25 s.
            (Place::PortRestricted, None, 30 * SECOND),
            (Place::PortRestricted, moved, 30 * SECOND),
        ] {
            let (mut world, a, b) = connected(seed, Place::FullCone, other);
            let before = world.endpoint(b, a);
            world.rebind_nat(a, external);
            let took = world.ping_until_answered((a, b), 200 * MS, limit);
            assert!(
                took.is_some(),
                "{other:?}, {external:?}: the mover is not heard"
            );
            assert_ne!(world.endpoint(b, a), before, "{other:?}, {external:?}");
            let back = world.ping_until_answered((b, a), 200 * MS, SECOND);
            assert!(back.is_some(), "{other:?}, {external:?}: no way back");
            world.run_for(60 * SECOND);
            let later = world.ping_until_answered((b, a), SECOND, 2 * SECOND);
            assert!(later.is_some(), "{other:?}, {external:?}: did not last");
        }
    });
}

#[test]
fn a_host_that_changes_its_address_is_reached_again() {
    for_each_seed("a_host_that_changes", |seed| {
        let (mut world, a, b) = connected(seed, Place::Open, Place::PortRestricted);
        world.move_host(a, SocketAddr::from(([198, 51, 100, 77], 7081)));
        let took = world.ping_until_answered((a, b), 200 * MS, 3 * SECOND);
        assert!(took.is_some(), "not back");
        let back = world.ping_until_answered((b, a), 200 * MS, SECOND);
        assert!(back.is_some(), "no way back");
    });
}

#[test]
fn neighbours_behind_one_nat_connect_inside_it() {
    for_each_seed("neighbours_behind_one_nat", |seed| {
        for place in [Place::FullCone, Place::Symmetric, Place::Cgnat] {
            let mut world = World::new(seed);
            let a = world.add(place);
            let b = world.add_beside(a);
            world.start();
            world.run_for(200 * MS);
            let id = world.send(a, b);
            world.run_for(FIRST_ECHO);
            assert!(world.ledger.round_trip(id).is_some(), "{place:?}");
            assert_eq!(world.endpoint(a, b), Some(world.hosts[b].address));
        }
    });
}

#[test]
fn re_keying_loses_no_packet() {
    for_each_seed("re_keying_loses_no_packet", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::FullCone);
        for _ in 0..2600 {
            world.send(a, b);
            world.run_for(50 * MS);
            world.send(b, a);
            world.run_for(50 * MS);
        }
        world.run_for(SECOND);
        assert_eq!(world.ledger.unanswered(), Vec::<u32>::new());
        let peer = &world.status(a).peers[0];
        assert!(
            peer.since_handshake.unwrap() < 130 * SECOND,
            "never re-keyed"
        );
    });
}

#[test]
fn a_packet_after_ten_idle_minutes_arrives() {
    for_each_seed("a_packet_after_ten_idle_minutes", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::PortRestricted);
        world.run_for(600 * SECOND);
        let id = world.send(a, b);
        world.run_for(FIRST_ECHO);
        assert!(world.ledger.round_trip(id).is_some());
    });
}

#[test]
fn ten_nodes_reach_each_other_all() {
    for_each_seed("ten_nodes_reach_each_other_all", |seed| {
        let mut world = World::new(seed);
        let places = [
            Place::Open,
            Place::FullCone,
            Place::AddressRestricted,
            Place::Cgnat,
        ];
        let hosts: Vec<_> = (0..10)
            .map(|n| world.add(places[n % places.len()]))
            .collect();
        world.start();
        world.run_for(200 * MS);
        for a in &hosts {
            for b in hosts.iter().filter(|b| *b != a) {
                world.send(*a, *b);
            }
        }
        world.run_for(2 * FIRST_ECHO);
        assert_eq!(world.ledger.unanswered(), Vec::<u32>::new());
    });
}

#[test]
fn connected_peers_need_no_server() {
    for_each_seed("connected_peers_need_no_server", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::AddressRestricted);
        world.server.is_up = false;
        for _ in 0..30 {
            world.run_for(10 * SECOND);
            let id = world.send(a, b);
            world.run_for(SECOND);
            assert!(
                world.ledger.round_trip(id).is_some(),
                "lost with the server"
            );
        }
    });
}

#[test]
fn a_peer_that_is_switched_off_and_on_again_is_dialled_anew() {
    for_each_seed("a_peer_that_is_switched_off", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::PortRestricted);
        world.switch_off(b);
        for _ in 0..60 {
            world.send(a, b);
            world.run_for(SECOND);
        }
        assert_eq!(world.endpoint(a, b), None, "still thinks that it is there");
        world.restart(b);
        let took = world.ping_until_answered((a, b), 200 * MS, 6 * SECOND);
        assert!(took.is_some(), "not back");
    });
}

#[test]
fn a_path_that_breaks_for_a_minute_heals() {
    for_each_seed("a_path_that_breaks_for_a_minute", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::PortRestricted);
        let whole = world.hosts[a].up.shape;
        world.hosts[a].reshape(Shape { loss: 1.0, ..whole });
        world.run_for(60 * SECOND);
        world.hosts[a].reshape(whole);
        let took = world.ping_until_answered((b, a), 200 * MS, 6 * SECOND);
        assert!(took.is_some(), "not back");
    });
}

#[test]
fn a_peer_that_lost_its_keys_behind_our_back_gets_new_ones() {
    for_each_seed("a_peer_that_lost_its_keys", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::FullCone);
        let whole = world.hosts[a].up.shape;
        world.hosts[a].reshape(Shape { loss: 1.0, ..whole });
        world.run_for(40 * SECOND);
        world.hosts[a].reshape(whole);
        let entry = world.entry(b, a);
        world.tell(b, Command::SetPeers(Vec::new()));
        world.tell(b, Command::SetPeers(vec![entry]));
        // WireGuard notices after 15 s of silence: Keepalive-Timeout and Rekey-Timeout.
        let took = world.ping_until_answered((a, b), SECOND, 20 * SECOND);
        assert!(took.is_some(), "speaks with dead keys for ever");
    });
}

#[test]
fn pings_between_daemons_are_answered() {
    for_each_seed("pings_between_daemons", |seed| {
        let (mut world, a, b) = two(seed, Place::PortRestricted, Place::Open);
        world.start();
        world.run_for(200 * MS);
        let node = world.hosts[b].identity.node_id;
        world.tell(a, Command::Ping { node, id: 1 });
        world.run_for(FIRST_ECHO);
        world.tell(a, Command::Ping { node, id: 2 });
        world.run_for(SECOND);
        let pongs = &world.hosts[a].pongs;
        assert_eq!(pongs.iter().map(|pong| pong.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(pongs[1].1, 40 * MS, "round trip on a standing path");
    });
}

#[test]
fn packets_of_full_size_pass_and_keep_their_order_of_bytes() {
    for_each_seed("packets_of_full_size", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::Cgnat);
        let ids: Vec<_> = [1400, 1399, 64, 1400]
            .map(|len| world.send_sized(a, b, len))
            .into();
        let too_long = world.send_sized(a, b, 1500 - 28 - 32 + 1);
        world.run_for(SECOND);
        for id in ids {
            assert_eq!(world.ledger.round_trip(id), Some(40 * MS));
        }
        assert_eq!(
            world.ledger.one_way(too_long),
            None,
            "the link's MTU is 1500"
        );
    });
}

#[test]
fn duplicated_and_reordered_datagrams_are_delivered_once() {
    for_each_seed("duplicated_and_reordered", |seed| {
        let (mut world, a, b) = connected(seed, Place::PortRestricted, Place::FullCone);
        let shape = Shape {
            jitter: 5 * MS,
            duplicate: 0.3,
            reorder: 0.3,
            ..world.hosts[a].up.shape
        };
        world.hosts[a].reshape(shape);
        for _ in 0..300 {
            world.send(a, b);
            world.run_for(5 * MS);
        }
        world.run_for(SECOND);
        assert_eq!(world.ledger.unanswered(), Vec::<u32>::new());
        assert!(
            world.drops(b, DropReason::RefusedMessage) > 0,
            "nothing was doubled"
        );
    });
}

#[test]
fn garbage_is_counted_and_harms_nobody() {
    for_each_seed("garbage_is_counted", |seed| {
        let (mut world, a, b) = connected(seed, Place::Open, Place::PortRestricted);
        let stranger = SocketAddr::from(([192, 0, 2, 66], 6666));
        let mut stun = vec![0; 32];
        stun[1] = 1;
        stun[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
        let pieces = [vec![], vec![0xFF; 1400], vec![4, 0, 0, 0], stun];
        let messages = (1..=4).map(|kind| {
            let mut bytes = vec![kind; 148];
            bytes[1..4].fill(0);
            bytes
        });
        for bytes in pieces.into_iter().chain(messages) {
            world.inject(a, stranger, bytes);
        }
        world.run_for(10 * MS);
        // The empty one is no datagram of a train, and costs nothing.
        assert_eq!(world.drops(a, DropReason::UnknownDatagram), 2);
        assert_eq!(world.drops(a, DropReason::RefusedStun), 1);
        assert_eq!(world.drops(a, DropReason::RefusedMessage), 4);
        let id = world.send(a, b);
        world.run_for(SECOND);
        assert!(world.ledger.round_trip(id).is_some());
    });
}

#[test]
fn a_forged_source_or_a_foreign_destination_is_dropped_and_counted() {
    for_each_seed("a_forged_source", |seed| {
        let (mut world, a, b) = connected(seed, Place::Open, Place::FullCone);
        let [mine, theirs] = [a, b].map(|host| world.hosts[host].identity.virtual_ip);
        let foreign = [10, 100, 7, 7].into();
        let echo = |source, destination| Echo {
            source,
            destination,
            request: true,
            id: 1_000_000,
        };
        world.from_tun(a, &echo(foreign, theirs).packet(100));
        world.from_tun(a, &echo(theirs, theirs).packet(100));
        // The sender's table lies: the receiver owns no such address.
        let mut entry = world.entry(a, b);
        entry.virtual_ips.push(foreign.into());
        world.tell(a, Command::SetPeers(vec![entry]));
        world.from_tun(a, &echo(mine, foreign).packet(100));
        world.from_tun(a, &echo(mine, [10, 100, 8, 8].into()).packet(100));
        world.run_for(SECOND);
        assert_eq!(world.drops(b, DropReason::ForgedSource), 2);
        assert_eq!(world.drops(b, DropReason::WrongDestination), 1);
        assert_eq!(world.drops(a, DropReason::NoSuchDestination), 1);
    });
}

#[test]
fn a_peer_that_left_the_network_is_not_heard_any_more() {
    for_each_seed("a_peer_that_left", |seed| {
        let (mut world, a, b) = connected(seed, Place::Open, Place::Open);
        world.tell(a, Command::SetPeers(Vec::new()));
        let id = world.send(b, a);
        world.run_for(5 * SECOND);
        assert_eq!(world.ledger.one_way(id), None);
        assert!(world.drops(a, DropReason::RefusedMessage) > 0);
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let run = |seed| {
        let (mut world, a, b) = connected(seed, Place::Symmetric, Place::FullCone);
        let shape = Shape {
            jitter: 20 * MS,
            loss: 0.1,
            reorder: 0.1,
            ..world.hosts[a].up.shape
        };
        world.hosts[a].reshape(shape);
        for _ in 0..150 {
            world.send(a, b);
            world.run_for(SECOND);
        }
        (world.trace(), world.ledger.delivered_count())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}
