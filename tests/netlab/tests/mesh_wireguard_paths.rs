//! By which address and which way do packets go: that of WireGuard's own test of namespaces which is about the host's addresses,
//! its routes, and tunnels in tunnels. `docs/TESTING.md` says which scenario is where.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Traffic, wait_until};

const LIMIT: Duration = Duration::from_secs(20);
/// The promise of a move is a second; this is what it may take on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(4);
/// Nothing but direct paths.
const DIRECT: &str = "mesh: {connection: {relay_enabled: false}}";

/// Two members with public addresses, and a server.
struct Members {
    alice: Daemon,
    bob: Daemon,
    discovery: Discovery,
    /// Last, so that it is dropped last.
    lab: Lab,
}

impl Members {
    /// `prepare` is called with alice's and bob's host before anything runs there.
    fn new(name: &str, prepare: impl FnOnce(&Lab, [&Host; 2])) -> Self {
        let lab = Lab::new(name).unwrap();
        let internet = lab.internet();
        let discovery = Discovery::start(&internet.public_host("server").unwrap()).unwrap();
        let [a, b] = ["alice", "bob"].map(|name| internet.public_host(name).unwrap());
        prepare(&lab, [&a, &b]);
        let file = lab.dir().join("direct.yaml");
        fs::write(&file, DIRECT).unwrap();
        let file = file.to_str().unwrap();
        let url = discovery.url();
        let arguments = ["--server", &url, "--name", "alice", "--config", file];
        let alice = Daemon::up(&a, &arguments).unwrap();
        let link = alice.join_link().unwrap();
        let bob = Daemon::up(&b, &["--join", &link, "--name", "bob", "--config", file]).unwrap();
        Self {
            alice,
            bob,
            discovery,
            lab,
        }
    }

    fn router(&self) -> &Host {
        self.lab.internet().router()
    }

    fn echo(&self) {
        self.alice.first_echo(&self.bob, LIMIT).unwrap();
    }
}

/// Where `from` sends what is for `to`.
fn endpoint(from: &Daemon, to: &Daemon) -> Option<SocketAddr> {
    let peer = from.peer(&to.name).unwrap();
    peer["endpoint"].as_str()?.parse().ok()
}

fn is_at(from: &Daemon, to: &Daemon, wanted: IpAddr) {
    wait_until(&format!("{} is at {wanted}", to.name), LIMIT, || {
        Ok(endpoint(from, to).is_some_and(|at| at.ip() == wanted))
    })
    .unwrap();
}

/// Pings fifty times a second; every one must be answered. As fast as answers come, ping would wait for the last one no longer than
/// two round trips, which is too short on a machine that is busy.
fn flood(from: &Daemon, to: &Daemon, count: u32) {
    let line = format!("ping -n -i 0.02 -q -c {count} {}", to.virtual_ip);
    let told = from.host().try_sh(&line).unwrap().stdout;
    assert!(told.contains(" 0% packet loss"), "{line}: {told}");
}

/// The name of a public host's port at the internet's router.
fn port(host: &Host) -> String {
    format!("p{}", host.address().octets()[3])
}

/// Bob has six addresses, on his link and behind it, of which UDP may come from one at a time: an answer from another one than
/// was written to would be lost.
#[test]
fn answers_come_from_the_address_that_was_written_to() {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let members = Members::new("wgreply", |lab, [a, b]| {
        let internet = lab.internet();
        internet.give_ipv6(a).unwrap();
        let IpAddr::V6(first) = IpAddr::from(internet.give_ipv6(b).unwrap()) else {
            return;
        };
        let v6 = |number: u128| Ipv6Addr::from_bits(first.to_bits() + number);
        addresses = vec![
            b.address().into(),
            [198, 51, 100, 210].into(),
            [198, 51, 100, 211].into(),
            first.into(),
            v6(8).into(),
            v6(9).into(),
        ];
        // An interface that leads nowhere, as containers have.
        b.sh("ip link add aside type veth peer name other && ip link set aside up && ip link set other up")
            .unwrap();
        for (number, device) in [(1, "eth0"), (2, "aside")] {
            let (four, six) = (addresses[number], addresses[number + 3]);
            let line =
                format!("ip addr add {four}/32 dev {device}; ip addr add {six}/128 dev {device}");
            b.sh(&line).unwrap();
            let router = internet.router();
            let line = format!(
                "ip route add {four}/32 via {} dev {}; ip -6 route add {six}/128 via {first}",
                addresses[0],
                port(b)
            );
            router.sh(&line).unwrap();
        }
    });
    members.echo();
    for allowed in addresses {
        let version = if allowed.is_ipv6() { "ip6" } else { "ip" };
        let bob = port(members.bob.host());
        let rules = format!(
            "table inet only {{}}
            delete table inet only
            table inet only {{ chain forward {{ type filter hook forward priority 0;
                iifname {bob} udp sport 7081 {version} saddr {allowed} accept
                oifname {bob} udp dport 7081 {version} daddr {allowed} accept
                iifname {bob} udp sport 7081 drop
                oifname {bob} udp dport 7081 drop
            }}
            }}"
        );
        members.router().namespace().nft(&rules).unwrap();
        members.echo();
        is_at(&members.alice, &members.bob, allowed);
        flood(&members.alice, &members.bob, 20);
        flood(&members.bob, &members.alice, 20);
    }
}

/// A better way out appears, as when a cable is plugged in beside Wi-Fi: its address at once, and its route after `pause`. Behind
/// it, as behind all, nothing passes that comes from an address that is not of there (RFC 2827).
#[allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]
fn a_better_route_is_taken(name: &str, pause: Duration) {
    let members = Members::new(name, |_, _| {});
    members.echo();
    let host = members.alice.host();
    let (old, new) = (host.address(), IpAddr::from([198, 51, 100, 220]));
    let router = members.router().namespace();
    let spoofed = format!(
        "table ip spoofed {{ chain forward {{ type filter hook forward priority 0;
            iifname p220 ip saddr != {new} drop
            iifname {} ip saddr != {old} drop
        }}
        }}",
        port(host)
    );
    router.nft(&spoofed).unwrap();
    let cable = format!(
        "link add p220 type veth peer name eth1 netns {}
        addr add 198.51.100.1/32 dev p220
        link set p220 up
        route add {new}/32 dev p220",
        host.namespace().path().display()
    );
    router.ip(&cable).unwrap();
    host.sh(&format!(
        "ip addr add {new}/32 dev eth1; ip link set eth1 up"
    ))
    .unwrap();
    std::thread::sleep(pause);
    let begin = Instant::now();
    let routes = format!(
        "ip route add default via 198.51.100.1 dev eth1 onlink src {new} metric 10
        ip route del default dev eth0
        ip route add default via 198.51.100.1 dev eth0 onlink src {old} metric 100"
    );
    host.sh(&routes).unwrap();
    members.echo();
    let took = begin.elapsed();
    println!("by the better route after {took:?}");
    assert!(took < SOON, "{took:?}");
    is_at(&members.bob, &members.alice, new);
    // The old one is of no account any more.
    host.sh("ip link set eth0 down").unwrap();
    flood(&members.alice, &members.bob, 50);
    flood(&members.bob, &members.alice, 50);
}

#[test]
fn a_better_route_by_another_interface_is_taken_with_its_address() {
    a_better_route_is_taken("wgroute", Duration::ZERO);
}

/// By then all that the new address brought about is done, over the old way.
#[test]
fn a_better_route_that_comes_well_after_its_address_is_taken_too() {
    a_better_route_is_taken("wglater", Duration::from_millis(500));
}

/// A network over another one, and what comes of it when each is the only way for the other.
#[test]
fn a_network_over_another_one_works_and_a_circle_of_two_ends_in_nothing() {
    let members = Members::new("wgnested", |_, _| {});
    members.echo();
    let hosts = [members.alice.host(), members.bob.host()];
    for host in hosts {
        only_inside(host, 7091);
    }
    let (upper_alice, upper_bob) = upper(&members);
    upper_alice.first_echo(&upper_bob, LIMIT).unwrap();
    is_at(&upper_alice, &upper_bob, members.bob.ip().unwrap().into());
    flood(&upper_alice, &upper_bob, 100);
    let way = Traffic::between(&upper_alice, &upper_bob).unwrap();
    way.stream(&[65_536; 32]).unwrap();
    way.datagrams(&[1, 577, 1_300]).unwrap();
    // The lower one has seen the upper one's addresses appear.
    flood(&members.alice, &members.bob, 100);
    is_at(&members.alice, &members.bob, hosts[1].address().into());
    for host in hosts {
        only_inside(host, 7081);
    }
    let sent = || {
        hosts.map(|host| {
            ["eth0", "mesh0", "mesh1"].map(|device| host.counters(device).unwrap().tx_bytes)
        })
    };
    let before = sent();
    for daemon in [&members.alice, &upper_alice] {
        let bob = if daemon.name == "alice" {
            &members.bob
        } else {
            &upper_bob
        };
        let line = format!("ping -n -q -f -c 10 -w 5 {}", bob.virtual_ip);
        daemon.host().try_sh(&line).unwrap();
    }
    for (after, before) in sent().as_flattened().iter().zip(before.as_flattened()) {
        assert!(after - before < 200_000, "{} bytes", after - before);
    }
    for host in hosts {
        host.sh("nft delete table inet inside7081").unwrap();
    }
    members.echo();
    upper_alice.first_echo(&upper_bob, LIMIT).unwrap();
    for daemon in [&members.alice, &members.bob, &upper_alice, &upper_bob] {
        assert!(daemon.process.ended().unwrap().is_none());
    }
}

/// Nothing of this port passes the machine's own cable.
fn only_inside(host: &Host, port: u16) {
    let rules = format!(
        "table inet inside{port} {{
            chain in {{ type filter hook input priority 0; iifname eth0 udp dport {port} drop
            }}
            chain out {{ type filter hook output priority 0; oifname eth0 udp sport {port} drop
            }}
        }}"
    );
    host.namespace().nft(&rules).unwrap();
}

/// Two more daemons beside the members', of another network.
fn upper(members: &Members) -> (Daemon, Daemon) {
    let file = members.lab.dir().join("direct.yaml");
    let beside = [
        ["--config", file.to_str().unwrap()],
        ["--listen-port", "7091"],
        ["--api", "127.0.0.1:7092"],
    ]
    .concat();
    let url = members.discovery.url();
    let make = [
        "--server",
        &url,
        "--network",
        "upper",
        "--cidr",
        "10.200.0.0/16",
        "--name",
        "upper-alice",
    ];
    let alice = Daemon::up_beside(
        members.alice.host(),
        "mesh1",
        &[&make, &beside[..]].concat(),
    )
    .unwrap();
    let link = alice.join_link().unwrap();
    let join = ["--join", &link, "--name", "upper-bob"];
    let bob =
        Daemon::up_beside(members.bob.host(), "mesh1", &[&join, &beside[..]].concat()).unwrap();
    (alice, bob)
}
