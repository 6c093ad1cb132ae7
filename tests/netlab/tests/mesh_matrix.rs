//! Nine kinds of NAT, all pairs of them: two daemons join, ping each other and fetch a file by curl, directly wherever the
//! oracle that the simulator uses too says so, at once or by birthday probing. `cargo run --release -p netlab --bin matrix` prints the times.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, time::Duration};

use netlab::{MATRIX, Nat, Pair, wait_until};

/// From the first ping to a direct path: far more than it takes, for a machine that is busy with other tests.
const DIRECT: Duration = Duration::from_secs(5);
/// The same by birthday probing, which takes 2 to 5 s and finds nothing once in 500 attempts.
const BY_BIRTHDAY: Duration = Duration::from_secs(10);

#[allow(
    clippy::print_stdout,
    reason = "a figure for the reader of the test's output"
)]
fn meet(name: &str, nats: [Nat; 2]) {
    let mut pair = Pair::new(name, nats).unwrap();
    let (by_birthday, limit) = match nats[0].must_meet_by_birthday(nats[1]) {
        true => (true, BY_BIRTHDAY),
        false => (false, DIRECT),
    };
    if !by_birthday && !nats[0].must_be_direct(nats[1]) {
        share(&pair);
        return check_relayed(&pair, nats);
    }
    let mut meeting = pair.meet(limit).unwrap();
    if by_birthday && meeting.direct.is_none() {
        println!("{nats:?}: chance was against them, {meeting:?}");
        drop(pair);
        pair = Pair::new(name, nats).unwrap();
        meeting = pair.meet(limit).unwrap();
    }
    share(&pair);
    println!(
        "{nats:?}: first reply {:?}, direct {:?}",
        meeting.first_reply, meeting.direct
    );
    assert!(
        meeting.direct.is_some_and(|took| took < limit),
        "{meeting:?}"
    );
    check_traffic(&pair);
    check_shown(&pair, "direct");
}

/// Both show this kind of path soon: the status is made once a second.
fn check_shown(pair: &Pair, path: &str) {
    for (one, other) in [(&pair.alice, "bob"), (&pair.bob, "alice")] {
        wait_until(path, DIRECT, || {
            let peer = one.peer(other)?;
            Ok(peer["path"] == path && peer["online"] == true)
        })
        .unwrap();
    }
}

/// A folder of alice's, shared with everybody.
fn share(pair: &Pair) {
    let folder = pair.alice.host().dir().join("documents");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("hello.txt"), "hello\n").unwrap();
    let path = folder.to_str().unwrap();
    let words = ["share", "add", "docs", path, "--to", "all"];
    pair.alice.ask(&words).unwrap();
}

/// Pings pass both ways, and bob's curl gets alice's file.
fn check_traffic(pair: &Pair) {
    for (from, to) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        let gap = Duration::from_millis(20);
        let report = from.host().ping_each(gap, to.ip().unwrap(), 10).unwrap();
        assert_eq!(report.received(), 10, "{report:?}");
    }
    let url = format!("http://{}/docs/hello.txt", pair.alice.virtual_ip);
    let fetched = pair.bob.host().sh(&format!("curl -sS -f -m 10 {url}"));
    assert_eq!(fetched.unwrap().stdout, "hello\n");
}

/// A pair that no direct path can join is relayed. Whoever has no UDP reaches the server over TCP.
#[allow(
    clippy::print_stdout,
    reason = "a figure for the reader of the test's output"
)]
fn check_relayed(pair: &Pair, nats: [Nat; 2]) {
    let alice = pair.alice.ip().unwrap();
    let first_reply = pair.bob.host().first_reply(alice, DIRECT).unwrap();
    println!("{nats:?}: first reply {first_reply:?}, relayed");
    assert!(
        first_reply.is_some_and(|took| took < DIRECT),
        "{first_reply:?}"
    );
    check_shown(pair, "turn");
    check_traffic(pair);
    for ((daemon, other), nat) in [(&pair.alice, "bob"), (&pair.bob, "alice")]
        .into_iter()
        .zip(nats)
    {
        let peer = daemon.peer(other).unwrap();
        let over = if nat == Nat::UdpBlocked { "tcp" } else { "udp" };
        assert_eq!(peer["transport"], over, "{peer}");
    }
}

macro_rules! pairs {
    ($($name:ident: $one:ident, $other:ident;)*) => {
        const PAIRS: &[[Nat; 2]] = &[$([Nat::$one, Nat::$other]),*];
        $(
            #[test]
            fn $name() {
                meet(stringify!($name), [Nat::$one, Nat::$other]);
            }
        )*
    };
}

pairs! {
    one_to_one_with_one_to_one: OneToOne, OneToOne;
    one_to_one_with_full_cone: OneToOne, FullCone;
    one_to_one_with_address_restricted: OneToOne, AddressRestricted;
    one_to_one_with_port_restricted: OneToOne, PortRestricted;
    one_to_one_with_leaky: OneToOne, Leaky;
    one_to_one_with_symmetric: OneToOne, Symmetric;
    one_to_one_with_cgnat: OneToOne, Cgnat;
    one_to_one_with_cgnat_symmetric: OneToOne, CgnatSymmetric;
    one_to_one_with_udp_blocked: OneToOne, UdpBlocked;
    full_cone_with_full_cone: FullCone, FullCone;
    full_cone_with_address_restricted: FullCone, AddressRestricted;
    full_cone_with_port_restricted: FullCone, PortRestricted;
    full_cone_with_leaky: FullCone, Leaky;
    full_cone_with_symmetric: FullCone, Symmetric;
    full_cone_with_cgnat: FullCone, Cgnat;
    full_cone_with_cgnat_symmetric: FullCone, CgnatSymmetric;
    full_cone_with_udp_blocked: FullCone, UdpBlocked;
    address_restricted_with_address_restricted: AddressRestricted, AddressRestricted;
    address_restricted_with_port_restricted: AddressRestricted, PortRestricted;
    address_restricted_with_leaky: AddressRestricted, Leaky;
    address_restricted_with_symmetric: AddressRestricted, Symmetric;
    address_restricted_with_cgnat: AddressRestricted, Cgnat;
    address_restricted_with_cgnat_symmetric: AddressRestricted, CgnatSymmetric;
    address_restricted_with_udp_blocked: AddressRestricted, UdpBlocked;
    port_restricted_with_port_restricted: PortRestricted, PortRestricted;
    port_restricted_with_leaky: PortRestricted, Leaky;
    port_restricted_with_symmetric: PortRestricted, Symmetric;
    port_restricted_with_cgnat: PortRestricted, Cgnat;
    port_restricted_with_cgnat_symmetric: PortRestricted, CgnatSymmetric;
    port_restricted_with_udp_blocked: PortRestricted, UdpBlocked;
    leaky_with_leaky: Leaky, Leaky;
    leaky_with_symmetric: Leaky, Symmetric;
    leaky_with_cgnat: Leaky, Cgnat;
    leaky_with_cgnat_symmetric: Leaky, CgnatSymmetric;
    leaky_with_udp_blocked: Leaky, UdpBlocked;
    symmetric_with_symmetric: Symmetric, Symmetric;
    symmetric_with_cgnat: Symmetric, Cgnat;
    symmetric_with_cgnat_symmetric: Symmetric, CgnatSymmetric;
    symmetric_with_udp_blocked: Symmetric, UdpBlocked;
    cgnat_with_cgnat: Cgnat, Cgnat;
    cgnat_with_cgnat_symmetric: Cgnat, CgnatSymmetric;
    cgnat_with_udp_blocked: Cgnat, UdpBlocked;
    cgnat_symmetric_with_cgnat_symmetric: CgnatSymmetric, CgnatSymmetric;
    cgnat_symmetric_with_udp_blocked: CgnatSymmetric, UdpBlocked;
    udp_blocked_with_udp_blocked: UdpBlocked, UdpBlocked;
}

#[test]
fn every_pair_of_kinds_has_its_test() {
    for (number, one) in MATRIX.iter().enumerate() {
        for other in &MATRIX[number..] {
            assert!(PAIRS.contains(&[*one, *other]), "{one:?} with {other:?}");
        }
    }
    assert_eq!(PAIRS.len(), 45);
}
