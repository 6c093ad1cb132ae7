//! What of NATs is not a pair of two kinds: one LAN, hairpins, IPv6, mappings that expire, hosts that move. The pairs are in
//! `mesh_matrix.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::Context;
use netlab::{Daemon, Discovery, Home, Host, Lab, Nat, Pair, wait_until};

const SOON: Duration = Duration::from_secs(5);

/// Waits until `from` sends what is for `to` directly to an address of this kind; returns where. The status is made once a
/// second.
fn endpoint(from: &Daemon, to: &Daemon, wanted: impl Fn(IpAddr) -> bool) -> SocketAddr {
    let mut found = None;
    let waited = wait_until("the path is direct and as wanted", SOON, || {
        let peer = from.peer(&to.name)?;
        let endpoint = peer["endpoint"].as_str().unwrap_or_default();
        found = endpoint.parse().ok();
        let is_wanted = found.is_some_and(|at: SocketAddr| wanted(at.ip()));
        Ok(peer["path"] == "direct" && is_wanted)
    });
    waited.with_context(|| format!("{found:?}")).unwrap();
    found.unwrap()
}

/// Two hosts of one home, joined.
struct Neighbours {
    home: Home,
    alice: Daemon,
    bob: Daemon,
    _discovery: Discovery,
    /// Last, so that it is dropped last.
    _lab: Lab,
}

/// `prepare` is called before anything runs on the hosts.
fn neighbours(name: &str, nat: Nat, prepare: impl Fn(&Home)) -> Neighbours {
    let lab = Lab::new(name).unwrap();
    let discovery = Discovery::start(&lab.internet().public_host("server").unwrap()).unwrap();
    let home = lab.internet().home("home", nat).unwrap();
    let [a, b] = ["alice", "bob"].map(|name| home.host(name).unwrap());
    prepare(&home);
    let (alice, bob) = join([&a, &b], &discovery.url());
    Neighbours {
        home,
        alice,
        bob,
        _discovery: discovery,
        _lab: lab,
    }
}

fn join([a, b]: [&Host; 2], server: &str) -> (Daemon, Daemon) {
    let alice = Daemon::up(a, &["--server", server, "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(b, &["--join", &link, "--name", "bob"]).unwrap();
    (alice, bob)
}

/// The hosts of a home do not see each other on the LAN, as guests of a wireless network do not.
fn isolate(home: &Home) {
    let router = home.router().namespace();
    for port in ["l2", "l3"] {
        router
            .ip(&format!("link set {port} type bridge_slave isolated on"))
            .unwrap();
    }
}

#[test]
fn two_on_one_lan_are_linked_across_it() {
    let pair = neighbours("samelan", Nat::PortRestricted, |_| {});
    pair.alice.first_echo(&pair.bob, SOON).unwrap();
    let on_lan = pair.bob.host().address();
    endpoint(&pair.alice, &pair.bob, |ip| ip == on_lan);
}

#[test]
fn hosts_that_do_not_see_each_other_are_linked_through_a_router_that_hairpins() {
    let pair = neighbours("hairpin", Nat::FullCone, |home| {
        isolate(home);
        home.allow_hairpin().unwrap();
    });
    let took = pair.bob.first_echo(&pair.alice, SOON).unwrap();
    println!("hairpin: {} ms", took.as_millis());
    pair.alice.ask(&["ping", "bob", "--until-direct"]).unwrap();
    let public = pair.home.router().address();
    for (from, to) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        endpoint(from, to, |ip| ip == public);
    }
}

#[test]
fn hosts_that_do_not_see_each_other_are_not_linked_directly_without_a_hairpin() {
    let pair = neighbours("nohairpin", Nat::FullCone, isolate);
    let ping = pair
        .bob
        .cli(&["ping", "alice", "-c", "2", "--until-direct"])
        .unwrap();
    assert_eq!(ping.status.code(), Some(1), "{ping:?}");
    let peer = pair.bob.peer("alice").unwrap();
    assert_ne!(peer["path"], "direct", "{peer:#}");
    assert_eq!(peer["online"], true, "{peer:#}");
}

#[test]
fn two_that_have_ipv6_only_meet_through_firewalls() {
    let lab = Lab::new("ipv6only").unwrap();
    let internet = lab.internet();
    let server = internet.public_host("server").unwrap();
    let url = format!("http://[{}]:7080", internet.give_ipv6(&server).unwrap());
    let _discovery = Discovery::start(&server).unwrap();
    let hosts = ["alice", "bob"].map(|name| {
        let home = internet.home(name, Nat::PortRestricted).unwrap();
        let host = home.host("pc").unwrap();
        let address = internet.give_ipv6_to(&home, &[&host]).unwrap()[0];
        host.sh("ip -4 addr flush dev eth0").unwrap();
        (host, address)
    });
    let (alice, bob) = join([&hosts[0].0, &hosts[1].0], &url);
    let took = bob.first_echo(&alice, SOON).unwrap();
    println!("IPv6 only: {} ms", took.as_millis());
    alice.first_echo(&bob, SOON).unwrap();
    endpoint(&alice, &bob, |ip| ip == hosts[1].1);
}

#[test]
fn where_both_have_ipv6_it_is_preferred() {
    let pair = Pair::prepared("ipv6first", [Nat::FullCone; 2], |lab, homes| {
        for (home, host) in homes {
            lab.internet().give_ipv6_to(home, &[host])?;
        }
        Ok(())
    })
    .unwrap();
    pair.bob.first_echo(&pair.alice, SOON).unwrap();
    for (from, to) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        endpoint(from, to, |ip| ip.is_ipv6());
    }
}

/// Whether a home's router remembers that something went to another home.
fn knows_a_flow(home: &Home, peer: &Home) -> anyhow::Result<bool> {
    let flows = format!("conntrack -L -p udp -d {}", peer.router().address());
    Ok(home.router().sh(&flows)?.stdout.contains("udp"))
}

#[test]
fn an_idle_pair_stays_reachable_from_both_sides_by_keepalives_alone() {
    // As 25 s to a NAT that forgets after 30 s; and what no packet keeps open.
    let pairs = [("kept", "2s"), ("unkept", "2m")].map(|(name, interval)| {
        let text = format!("mesh:\n  connection:\n    keepalive_interval: {interval}\n");
        let pair = Pair::configured(name, [Nat::PortRestricted; 2], [&text, &text]).unwrap();
        for home in &pair.homes {
            for (key, seconds) in [("timeout", "3"), ("timeout_stream", "4")] {
                let key = format!("net.netfilter.nf_conntrack_udp_{key}");
                home.router().sysctl(&key, seconds).unwrap();
            }
        }
        pair.alice.first_echo(&pair.bob, SOON).unwrap();
        pair
    });
    let [kept, unkept] = &pairs;
    let answers = |from: &Daemon, to: &Daemon| {
        let report = from.host().ping(to.ip().unwrap(), 1).unwrap();
        report.received() == 1
    };
    // A new path is checked for ten seconds. News of the list of members, which are told within thirty and find the NAT
    // closed, have it checked once more; after that nothing passes until, after 35 s of silence, it is checked again.
    let flows = [
        (&unkept.homes[0], &unkept.homes[1]),
        (&unkept.homes[1], &unkept.homes[0]),
    ];
    wait_until("the routers have forgotten", 18 * SOON, || {
        for (home, peer) in flows {
            if knows_a_flow(home, peer)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .unwrap();
    assert!(
        !answers(&unkept.alice, &unkept.bob),
        "the routers have forgotten"
    );
    thread::sleep(Duration::from_secs(35));
    assert!(answers(&kept.alice, &kept.bob) && answers(&kept.bob, &kept.alice));
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
    pair.alice.first_echo(&pair.bob, SOON).unwrap();
    wait_until("the status shows the new endpoint", SOON, || {
        let after = pair.alice.peer("bob")?["endpoint"].clone();
        Ok(after.is_string() && after != before)
    })
    .unwrap();
}
