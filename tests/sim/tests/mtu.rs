//! Do packets pass where the links are narrower than the interface, and say nothing?

use std::time::Duration;

use mesh_core::DropReason;
use sim::{
    inner::too_big, link::Shape, network::HostId, oracle::Place, seeds::for_each_seed, world::World,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// What the world's links carry, and what is left of that for an inner packet.
const WIDTHS: [(usize, usize); 3] = [(1280, 1220), (1124, 1064), (1300, 1240)];

/// Two hosts that know each other, the first behind a cable that drops longer packets than `up` on their way out, and
/// than `down` on their way in. Nothing has been sent between the two yet.
fn narrow(seed: u64, up: usize, down: usize) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    let (a, b) = (world.add(Place::PortRestricted), world.add(Place::FullCone));
    world.hosts[a].up.shape.mtu = up;
    world.hosts[a].down.shape.mtu = down;
    world.start();
    world.run_for(200 * MS);
    (world, a, b)
}

/// Sends echoes as a program does that wants long packets and listens to ICMP errors: 50 a second. Returns how many of
/// those in the last second were answered.
fn stream(world: &mut World, (from, to): (HostId, HostId), duration: Duration) -> usize {
    let (mut len, end) = (1400, world.now() + duration);
    let mut last = Vec::new();
    while world.now() < end {
        let id = world.send_sized(from, to, len);
        let told = world.hosts[from].messages.drain(..);
        len = told
            .filter_map(|message| too_big(&message))
            .fold(len, |len, (_, mtu)| len.min(mtu));
        if world.now() + SECOND >= end {
            last.push(id);
        }
        world.run_for(20 * MS);
    }
    world.run_for(SECOND);
    let answered = last
        .iter()
        .filter(|id| world.ledger.round_trip(**id).is_some());
    answered.count()
}

#[test]
fn long_packets_pass_a_narrow_link_within_three_seconds_of_the_first_one() {
    for_each_seed("long_packets_pass_a_narrow_link", |seed| {
        for (width, mtu) in WIDTHS {
            let (mut world, a, b) = narrow(seed, width, width);
            let answered = stream(&mut world, (a, b), 4 * SECOND);
            assert!(answered >= 49, "{width}: {answered}");
            for (at, of) in [(a, b), (b, a)] {
                assert_eq!(world.path_mtu(at, of), Some(mtu), "{width}");
                let whole = world.send_sized(at, of, mtu);
                world.run_for(SECOND);
                assert!(world.ledger.round_trip(whole).is_some(), "{width}");
            }
        }
    });
}

#[test]
fn who_sends_too_much_is_told_and_nobody_else() {
    for_each_seed("who_sends_too_much", |seed| {
        let (mut world, a, b) = narrow(seed, 1280, 1500);
        stream(&mut world, (a, b), 4 * SECOND);
        let id = world.send_sized(a, b, 1221);
        world.run_for(SECOND);
        assert_eq!(world.ledger.one_way(id), None);
        let sender = world.hosts[a].identity.virtual_ip.into();
        let told = world.hosts[a].messages.iter().map(|m| too_big(m));
        assert_eq!(told.collect::<Vec<_>>(), [Some((sender, 1220))]);
        assert!(world.hosts[b].messages.is_empty());
        assert!(world.drops(a, DropReason::PacketTooBig) > 0);
    });
}

#[test]
fn only_the_narrow_direction_is_taken_for_narrow() {
    for_each_seed("only_the_narrow_direction", |seed| {
        for (up, down, there, back) in [(1124, 1500, 1064, 1400), (1500, 1280, 1400, 1220)] {
            let (mut world, a, b) = narrow(seed, up, down);
            assert!(
                world
                    .ping_until_answered((a, b), SECOND, 5 * SECOND)
                    .is_some()
            );
            world.run_for(3 * SECOND);
            assert_eq!(world.path_mtu(a, b), Some(there));
            assert_eq!(world.path_mtu(b, a), Some(back));
            let id = world.send_sized(a, b, there);
            world.run_for(SECOND);
            assert!(world.ledger.one_way(id).is_some());
        }
    });
}

#[test]
fn a_link_that_gets_narrow_under_a_stream_carries_it_on_and_so_does_another_path() {
    for_each_seed("a_link_that_gets_narrow", |seed| {
        let (mut world, a, b) = narrow(seed, 1500, 1500);
        assert_eq!(stream(&mut world, (a, b), 20 * SECOND), 50);
        assert!(
            world.hosts[a].messages.is_empty(),
            "a clean path was taken for narrow"
        );
        let clean = world.hosts[a].up.shape;
        world.hosts[a].reshape(Shape { mtu: 1124, ..clean });
        let answered = stream(&mut world, (a, b), 4 * SECOND);
        assert!(answered >= 49, "{answered}");
        world.hosts[a].reshape(clean);
        // Another path is another matter.
        world.move_host(a, ([192, 168, 1, 77], 7081).into());
        world.rebind_nat(a, None);
        stream(&mut world, (a, b), 20 * SECOND);
        assert_eq!(world.path_mtu(a, b), Some(1400));
    });
}

#[test]
fn a_bad_link_is_measured_as_well() {
    for_each_seed("a_bad_link_is_measured", |seed| {
        let (mut world, a, b) = narrow(seed, 1500, 1500);
        let bad = Shape {
            loss: 0.05,
            jitter: 20 * MS,
            reorder: 0.05,
            duplicate: 0.05,
            mtu: 1280,
            ..world.hosts[a].up.shape
        };
        world.hosts[a].reshape(bad);
        stream(&mut world, (a, b), 15 * SECOND);
        let found = world.path_mtu(a, b).unwrap();
        assert!((1190..=1220).contains(&found), "{found}");
    });
}
