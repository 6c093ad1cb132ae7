//! Do members without a path to each other meet over those in between, at once, and whatever becomes of these?

use std::time::Duration;

use sim::{network::HostId, oracle::Place, seeds::for_each_seed, world::World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Hosts that route, of which only these pairs have a path.
fn linked(seed: u64, count: usize, pairs: &[(HostId, HostId)]) -> World {
    let mut world = World::new(seed);
    for _ in 0..count {
        let host = world.add(Place::PortRestricted);
        world.hosts[host].means.routes = true;
    }
    let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    world.network.apart = all.filter(|pair| !pairs.contains(pair)).collect();
    world.start();
    world
}

/// Three hosts, of which the first and the last have met over the one in between.
fn met_over_one(seed: u64) -> World {
    let mut world = linked(seed, 3, &[(0, 1), (1, 2)]);
    world.run_for(10 * SECOND);
    let met = world.ping_until_answered((0, 2), 100 * MS, 2 * SECOND);
    assert!(met.is_some(), "never met");
    assert_eq!(via(&world, 0, 2), [1]);
    world
}

fn via(world: &World, at: HostId, of: HostId) -> Vec<HostId> {
    let node_id = world.hosts[of].identity.node_id;
    let status = world.status(at);
    let peer = status.peers.iter().find(|peer| peer.node_id == node_id);
    let member = |host: &HostId| world.hosts[*host].identity.virtual_ip.to_bits();
    let named = |id: &u32| (0..world.hosts.len()).find(|host| member(host) == *id);
    let peer = peer.expect("each is a member of the others");
    peer.via.iter().filter_map(named).collect()
}

#[test]
fn whoever_has_no_path_is_reached_over_two_others_at_once() {
    for_each_seed("over_two_others", |seed| {
        let mut world = linked(seed, 4, &[(0, 1), (1, 2), (2, 3)]);
        world.run_for(10 * SECOND);
        let id = world.send(0, 3);
        // Three links of 40 ms there and back, for a handshake and an echo.
        let took = world.run_until(SECOND, |world| world.ledger.round_trip(id).is_some());
        let took = took.expect("an answer within a second");
        assert!(took <= 300 * MS, "{took:?}");
        assert_eq!(via(&world, 0, 3), [1, 2]);
        assert_eq!(via(&world, 3, 0), [2, 1]);
    });
}

#[test]
fn a_stream_goes_on_when_the_member_that_carries_it_dies() {
    for_each_seed("carrier_dies", |seed| {
        let mut world = linked(seed, 4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        world.run_for(10 * SECOND);
        assert!(
            world
                .ping_until_answered((0, 3), 100 * MS, 2 * SECOND)
                .is_some()
        );
        let mut ids = Vec::new();
        for _ in 0..50 {
            ids.push(world.send(0, 3));
            world.run_for(20 * MS);
        }
        let carrier = via(&world, 0, 3)[0];
        world.hosts[carrier].node = None;
        let mut gap = Duration::ZERO;
        let mut silent = Duration::ZERO;
        for _ in 0..200 {
            let id = world.send(0, 3);
            world.run_for(20 * MS);
            world.run_for(120 * MS);
            silent += 140 * MS;
            if world.ledger.round_trip(id).is_some() {
                gap = gap.max(silent);
                silent = Duration::ZERO;
            }
        }
        assert!(gap <= 1200 * MS && silent < SECOND, "{gap:?} {silent:?}");
        assert_ne!(via(&world, 0, 3), [carrier]);
    });
}

#[test]
fn a_direct_path_is_taken_once_there_is_one_and_nothing_is_lost() {
    for_each_seed("direct_at_last", |seed| {
        let mut world = met_over_one(seed);
        world.run_for(2 * SECOND);
        world.network.apart.clear();
        let mut ids = Vec::new();
        for _ in 0..700 {
            ids.push(world.send(0, 2));
            world.run_for(100 * MS);
        }
        world.run_for(SECOND);
        let lost = ids
            .iter()
            .filter(|id| world.ledger.round_trip(**id).is_none());
        assert_eq!(lost.count(), 0);
        assert_eq!(via(&world, 0, 2), [0; 0]);
        assert!(world.endpoint(0, 2).is_some());
    });
}

#[test]
fn who_is_carried_and_has_nothing_to_say_keeps_its_way_and_nobody_busy() {
    for_each_seed("carried_and_idle", |seed| {
        let mut world = met_over_one(seed);
        // Timers that run out too often end the run.
        world.run_for(600 * SECOND);
        let id = world.send(0, 2);
        let took = world.run_until(SECOND, |world| world.ledger.round_trip(id).is_some());
        assert!(took.is_some(), "an answer after ten minutes");
        assert_eq!(via(&world, 0, 2), [1]);
    });
}

#[test]
fn whoever_carries_may_go_and_come_back() {
    for_each_seed("carrier_returns", |seed| {
        let mut world = met_over_one(seed);
        world.network.apart.insert((1, 2));
        for _ in 0..40 {
            world.send(0, 2);
            world.run_for(100 * MS);
        }
        world.network.apart.remove(&(1, 2));
        let back = world.ping_until_answered((0, 2), 100 * MS, 30 * SECOND);
        assert!(back.is_some(), "never back");
        world.run_for(5 * SECOND);
        let id = world.send(0, 2);
        let took = world.run_until(SECOND, |world| world.ledger.round_trip(id).is_some());
        assert!(took.is_some(), "an answer at once");
    });
}

#[test]
fn who_is_carried_and_idle_is_a_neighbour_once_there_is_a_path() {
    for_each_seed("idle_gets_a_path", |seed| {
        let mut world = met_over_one(seed);
        world.run_for(200 * SECOND);
        world.network.apart.clear();
        // As long as the longest pause between attempts, and one attempt.
        world.run_for(330 * SECOND);
        assert_eq!(via(&world, 0, 2), [0; 0]);
        assert!(world.endpoint(0, 2).is_some());
    });
}
