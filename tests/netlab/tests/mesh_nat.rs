//! Which pairs of routers let two daemons meet, what does the daemon say of the others, and does it follow a peer that
//! moves? The expected column is that of `sim::oracle`: direct unless one side's mapping depends on the destination and
//! the other filters by port.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{Nat, Pair, wait_until};

#[allow(
    clippy::print_stdout,
    reason = "a figure for the reader of the test's output"
)]
fn meet(name: &str, nats: [Nat; 2]) {
    let pair = Pair::new(name, nats).unwrap();
    let took = pair
        .bob
        .first_echo(&pair.alice, Duration::from_secs(5))
        .unwrap();
    println!("{nats:?}: {} ms", took.as_millis());
    // The first echo may have come by the relay.
    pair.alice
        .ask(&["ping", "bob", "-c", "3", "--until-direct"])
        .unwrap();
}

fn do_not_meet(name: &str, nats: [Nat; 2]) {
    let without_relay = "mesh: {connection: {relay_enabled: false}}";
    let pair = Pair::configured(name, nats, [without_relay; 2]).unwrap();
    let ping = pair.bob.cli(&["ping", "alice", "-c", "1"]).unwrap();
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    assert!(
        !ping.stderr.is_empty(),
        "a failure says what, why and the fix"
    );
    let peer = pair.bob.peer("alice").unwrap();
    assert_eq!(
        (&peer["path"], &peer["online"]),
        (&"none".into(), &true.into()),
        "{peer:#}"
    );
    let report = pair.bob.host().ping(pair.alice.ip().unwrap(), 2).unwrap();
    assert_eq!(report.received(), 0);
}

#[test]
fn open_meets_port_restricted() {
    meet("open-port", [Nat::Open, Nat::PortRestricted]);
}

#[test]
fn full_cone_meets_symmetric() {
    meet("full-sym", [Nat::FullCone, Nat::Symmetric]);
}

#[test]
fn address_restricted_meets_symmetric() {
    meet("addr-sym", [Nat::AddressRestricted, Nat::Symmetric]);
}

#[test]
fn address_restricted_meets_port_restricted() {
    meet("addr-port", [Nat::AddressRestricted, Nat::PortRestricted]);
}

#[test]
fn a_carriers_nat_meets_port_restricted() {
    meet("cgnat-port", [Nat::Cgnat, Nat::PortRestricted]);
}

#[test]
fn two_carriers_nats_meet() {
    meet("cgnat-cgnat", [Nat::Cgnat; 2]);
}

#[test]
fn symmetric_and_port_restricted_do_not_meet_without_a_relay_and_the_daemon_says_so() {
    do_not_meet("sym-port", [Nat::Symmetric, Nat::PortRestricted]);
}

#[test]
fn without_udp_nobody_is_met_and_the_daemon_says_so() {
    do_not_meet("noudp", [Nat::UdpBlocked, Nat::FullCone]);
}

#[test]
fn a_peer_that_moves_to_another_network_is_followed_without_a_new_session() {
    let pair = Pair::linked("moves", [Nat::PortRestricted; 2]).unwrap();
    let before = pair.alice.peer("bob").unwrap()["endpoint"].clone();
    let cafe = pair
        .lab
        .internet()
        .home("cafe", Nat::PortRestricted)
        .unwrap();
    cafe.connect(pair.bob.host()).unwrap();
    let took = pair
        .bob
        .first_echo(&pair.alice, Duration::from_secs(10))
        .unwrap();
    println!("moved: {} ms", took.as_millis());
    pair.alice
        .first_echo(&pair.bob, Duration::from_secs(5))
        .unwrap();
    wait_until(
        "the status shows the new endpoint",
        Duration::from_secs(5),
        || {
            let after = pair.alice.peer("bob")?["endpoint"].clone();
            Ok(after.is_string() && after != before)
        },
    )
    .unwrap();
}
