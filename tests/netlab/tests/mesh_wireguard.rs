//! What WireGuard's own test of namespaces does with a tunnel, done with two daemons: floods and streams at several MTUs over both
//! IP versions, exact counters, addresses that go away, a route into the tunnel itself, and what is left at the end.
//! `docs/TESTING.md` says which scenario is where.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use netlab::{Daemon, Discovery, Host, Lab, Process, Traffic, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
/// The largest MTU of that test's underlay, and the largest that a mesh interface can have.
const JUMBO: (u32, usize) = (34_816, 8_908);

/// Two members with public addresses.
struct Members {
    alice: Daemon,
    bob: Daemon,
    _discovery: Discovery,
    /// Last, so that it is dropped last.
    lab: Lab,
}

impl Members {
    /// Over IPv4 alone, or over IPv6 where both have that.
    fn new(name: &str, ipv6: bool) -> Self {
        let lab = Lab::new(name).unwrap();
        let internet = lab.internet();
        let server = internet.public_host("server").unwrap();
        let discovery = Discovery::start(&server).unwrap();
        let [a, b] = ["alice", "bob"].map(|name| internet.public_host(name).unwrap());
        for host in [&a, &b] {
            fs::write(configuration(host), "").unwrap();
            if ipv6 {
                internet.give_ipv6(host).unwrap();
            }
        }
        let alice = up(&a, &["--server", &discovery.url(), "--name", "alice"]);
        let bob = up(
            &b,
            &["--join", &alice.join_link().unwrap(), "--name", "bob"],
        );
        let members = Self {
            alice,
            bob,
            _discovery: discovery,
            lab,
        };
        members.meet(ipv6);
        members
    }

    /// Waits until both reach each other directly over that IP version.
    fn meet(&self, ipv6: bool) {
        self.alice.first_echo(&self.bob, LIMIT).unwrap();
        for (from, to) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            wait_until("the path is direct", LIMIT, || {
                let at = endpoint(from, to);
                Ok(at.is_some_and(|at| at.is_ipv6() == ipv6))
            })
            .unwrap();
        }
    }

    /// Both start again with interfaces of this MTU, on links that carry more than that.
    fn enlarge(&mut self, (link, mesh): (u32, usize)) {
        for member in [&mut self.alice, &mut self.bob] {
            let host = member.host().clone();
            let port = format!("p{}", host.address().octets()[3]);
            host.sh(&format!("ip link set eth0 mtu {link}")).unwrap();
            let router = self.lab.internet().router();
            router
                .sh(&format!("ip link set {port} mtu {link}"))
                .unwrap();
            fs::write(
                configuration(&host),
                format!("mesh: {{device: {{mtu: {mesh}}}}}"),
            )
            .unwrap();
            member.ask(&["down"]).unwrap();
            member.process.wait(LIMIT).unwrap();
            *member = up(&host, &[]);
        }
    }
}

fn configuration(host: &Host) -> String {
    host.dir().join("mesh.yaml").display().to_string()
}

fn up(host: &Host, args: &[&str]) -> Daemon {
    let file = configuration(host);
    Daemon::up(host, &[args, &["--config", &file]].concat()).unwrap()
}

/// Where `from` sends what is for `to`.
fn endpoint(from: &Daemon, to: &Daemon) -> Option<SocketAddr> {
    let peer = from.peer(&to.name).unwrap();
    peer["endpoint"].as_str()?.parse().ok()
}

/// Pings as fast as answers come, and then twenty at leisure; every one must be answered. For the last answer of a flood ping waits
/// no longer than two round trips, which is too short on a machine that is busy: that one may be missing.
fn flood(from: &Daemon, to: &Daemon, (count, size): (u32, usize)) {
    let line = format!("ping -n -f -q -c {count} -s {size} {}", to.virtual_ip);
    let told = from.host().try_sh(&line).unwrap().stdout;
    let received = |count: u32| told.contains(&format!(" {count} received"));
    assert!(
        received(count) || count > 1 && received(count - 1),
        "{line}: {told}"
    );
    let line = format!("ping -n -i 0.02 -q -c 20 -s {size} {}", to.virtual_ip);
    let told = from.host().try_sh(&line).unwrap().stdout;
    assert!(told.contains(" 0% packet loss"), "{line}: {told}");
}

/// Sends long packets until it is known both ways what the path carries: until then such packets may be lost.
fn measured(of: [(&Daemon, &Daemon, usize); 2]) {
    for (from, to, mtu) in of {
        let what = format!("{} knows that {mtu} bytes pass", from.name);
        wait_until(&what, LIMIT, || {
            let line = format!("ping -n -q -M dont -c 1 -W 0.2 -s 8000 {}", to.virtual_ip);
            from.host().try_sh(&line)?;
            Ok(from.peer(&to.name)?["mtu"].as_u64() == Some(mtu as u64))
        })
        .unwrap();
    }
}

/// What an iperf3 server tells of bytes that came by each stream.
fn received(from: &Daemon, to: &Daemon, args: &str) -> Vec<u64> {
    let line = format!("iperf3 -J -c {} {args}", to.virtual_ip);
    let told = from.host().sh(&line).unwrap().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let streams = told["end"]["streams"].as_array().unwrap().iter();
    let bytes = |stream: &serde_json::Value| match stream["receiver"]["bytes"].as_u64() {
        Some(bytes) => bytes,
        // Of UDP it tells packets that were sent, and those that are missing: fewer than none after a late one.
        None => {
            let count = |key: &str| stream["udp"][key].as_i64().unwrap_or_default();
            let came = count("packets") - count("lost_packets");
            u64::try_from(came).unwrap() * 1200
        }
    };
    streams.map(bytes).collect()
}

fn iperf3(host: &Host) -> Process {
    let server = host.spawn("iperf3", ["-s", "--forceflush"]).unwrap();
    server.wait_for_line("listening", LIMIT).unwrap();
    server
}

/// Floods both ways, and TCP and UDP in as many streams as that test makes.
fn everything_arrives(members: &Members, mtu: usize) {
    let (alice, bob) = (&members.alice, &members.bob);
    measured([(alice, bob, mtu), (bob, alice, mtu)]);
    std::thread::scope(|scope| {
        for (from, to) in [(alice, bob), (bob, alice)] {
            scope.spawn(move || {
                flood(from, to, (200, 56));
                flood(from, to, (100, mtu - 28));
            });
        }
    });
    for (from, to, streams) in [(alice, bob, &[1, 4, 50][..]), (bob, alice, &[50])] {
        let server = iperf3(to.host());
        for streams in streams {
            let told = received(from, to, &format!("-P {streams} -t 1"));
            assert_eq!(told.len(), *streams);
            assert!(told.iter().all(|bytes| *bytes > 0), "{told:?}");
        }
        let told = received(from, to, "-u -l 1200 -b 50M -n 1M");
        assert!(told[0] > (1 << 20) / 2, "{told:?}");
        server.kill().unwrap();
    }
    let way = Traffic::between(alice, bob).unwrap();
    way.stream(&[65_536; 32]).unwrap();
    way.datagrams(&[1, 577, mtu - 28, mtu - 27, 65_507])
        .unwrap();
}

/// Ten pings of 84 bytes, and nothing else, on all four counters; and a handshake that was not in 1970.
fn counters_are_exact(members: &Members) {
    let both = [(&members.alice, "bob"), (&members.bob, "alice")];
    let read = || {
        both.map(|(of, peer)| {
            let peer = of.peer(peer).unwrap();
            let handshake = peer["last_handshake_s"].as_f64().unwrap();
            assert!((0.0..600.0).contains(&handshake), "{peer:#}");
            ["tx_bytes", "rx_bytes"].map(|key| peer[key].as_u64().unwrap())
        })
    };
    // The status is made once a second: those of before have been counted when it stands still.
    let mut before = read();
    wait_until("the counters stand still", LIMIT, || {
        std::thread::sleep(Duration::from_millis(1200));
        let now = read();
        let still = before == now;
        before = now;
        Ok(still)
    })
    .unwrap();
    let report = members
        .alice
        .host()
        .ping(members.bob.ip().unwrap(), 10)
        .unwrap();
    assert_eq!(report.received(), 10);
    let after = before.map(|pair| pair.map(|bytes| bytes + 840));
    wait_until("ten pings are counted", LIMIT, || Ok(read() == after)).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(read(), after);
}

/// One packet must be enough: it leaves from the new address, and the answer comes there.
fn next_packet_leaves_from(members: &Members, new: IpAddr) {
    flood(&members.alice, &members.bob, (1, 56));
    wait_until("bob sends to the new address", LIMIT, || {
        Ok(endpoint(&members.bob, &members.alice).is_some_and(|at| at.ip() == new))
    })
    .unwrap();
    flood(&members.bob, &members.alice, (20, 56));
}

#[test]
fn floods_and_streams_arrive_over_ipv4_and_counters_are_exact() {
    let mut members = Members::new("wg4", false);
    counters_are_exact(&members);
    everything_arrives(&members, 1400);
    a_route_into_the_tunnel_makes_no_storm(&members);
    members.enlarge(JUMBO);
    members.meet(false);
    everything_arrives(&members, JUMBO.1);
    an_ipv4_address_goes_away(&members);
    who_is_gone_is_unreachable(&members);
}

/// Packets for a member that are themselves sent into the tunnel to it.
fn a_route_into_the_tunnel_makes_no_storm(members: &Members) {
    let (alice, bob) = (&members.alice, &members.bob);
    let host = alice.host();
    let sent = || ["eth0", "mesh0"].map(|device| host.counters(device).unwrap().tx_bytes);
    for route in [
        format!("{}/32", bob.host().address()),
        "0.0.0.0/1".into(),
        "128.0.0.0/1".into(),
    ] {
        let before = sent();
        host.sh(&format!("ip route add {route} dev mesh0")).unwrap();
        host.try_sh(&format!("ping -n -q -f -c 10 -w 1 {}", bob.virtual_ip))
            .unwrap();
        host.sh(&format!("ip route del {route} dev mesh0")).unwrap();
        for (after, before) in sent().iter().zip(before) {
            assert!(after - before < 70_000, "{route}: {} bytes", after - before);
        }
        alice.first_echo(bob, LIMIT).unwrap();
    }
    assert!(alice.process.ended().unwrap().is_none());
}

fn an_ipv4_address_goes_away(members: &Members) {
    let (host, router) = (members.alice.host(), members.lab.internet().router());
    let old = host.address();
    let new = IpAddr::from([198, 51, 100, 200]);
    router
        .sh(&format!("ip route add {new}/32 dev p{}", old.octets()[3]))
        .unwrap();
    host.sh(&format!(
        "ip addr add {new}/32 dev eth0
         ip route replace default via 198.51.100.1 dev eth0 onlink src {new}
         ip addr del {old}/32 dev eth0"
    ))
    .unwrap();
    next_packet_leaves_from(members, new);
}

/// A member is put out: who goes on sending to it is told, and waits for nothing.
fn who_is_gone_is_unreachable(members: &Members) {
    let (alice, bob) = (&members.alice, &members.bob);
    alice.ask(&["revoke", "bob"]).unwrap();
    let told = alice
        .host()
        .try_sh(&format!("ping -n -c 6 -W 1 {}", bob.virtual_ip))
        .unwrap();
    assert!(
        told.stdout.contains("Destination Host Unreachable"),
        "{told:?}"
    );
    let told = alice
        .host()
        .try_sh(&format!(
            "curl -sS --max-time 50 http://{}:7083/",
            bob.virtual_ip
        ))
        .unwrap();
    assert_eq!(told.status.code(), Some(7), "it gives up at once: {told:?}");
}

#[test]
fn floods_and_streams_arrive_over_ipv6() {
    let mut members = Members::new("wg6", true);
    everything_arrives(&members, 1400);
    members.enlarge(JUMBO);
    members.meet(true);
    everything_arrives(&members, JUMBO.1);
    let host = members.alice.host();
    let SocketAddr::V6(old) = endpoint(&members.bob, &members.alice).unwrap() else {
        panic!("not over IPv6")
    };
    let old = *old.ip();
    let new = Ipv6Addr::from_bits(old.to_bits() + 5);
    host.sh(&format!(
        "ip addr add {new}/64 dev eth0
         ip addr del {old}/64 dev eth0"
    ))
    .unwrap();
    next_packet_leaves_from(&members, new.into());
}

#[test]
fn without_ipv6_and_at_both_ends_of_the_mtu_everything_arrives() {
    let lab = Lab::new("wgmtu").unwrap();
    let internet = lab.internet();
    let discovery = Discovery::start(&internet.public_host("server").unwrap()).unwrap();
    let hosts = ["alice", "bob"].map(|name| internet.public_host(name).unwrap());
    let mtus = [576, JUMBO.1];
    for (host, mtu) in hosts.iter().zip(mtus) {
        for which in ["all", "default", "eth0", "lo"] {
            host.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "1")
                .unwrap();
        }
        fs::write(
            configuration(host),
            format!("mesh: {{device: {{mtu: {mtu}}}}}"),
        )
        .unwrap();
    }
    let alice = up(
        &hosts[0],
        &["--server", &discovery.url(), "--name", "alice"],
    );
    let bob = up(
        &hosts[1],
        &["--join", &alice.join_link().unwrap(), "--name", "bob"],
    );
    alice.first_echo(&bob, LIMIT).unwrap();
    bob.first_echo(&alice, LIMIT).unwrap();
    assert!(!hosts[0].sh("ip -6 addr").unwrap().stdout.contains("inet6"));
    // What a link of 1,500 bytes leaves, or the own interface.
    measured([(&alice, &bob, mtus[0]), (&bob, &alice, 1_500 - 60)]);
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        flood(from, to, (50, 56));
        // In pieces: the smaller MTU is that of the sender, or of the path.
        let line = format!("ping -n -q -M dont -i 0.01 -c 20 -s 2000 {}", to.virtual_ip);
        let told = from.host().try_sh(&line).unwrap().stdout;
        assert!(told.contains(" 0% packet loss"), "{line}: {told}");
        Traffic::between(from, to)
            .unwrap()
            .stream(&[65_536; 16])
            .unwrap();
    }
    for (daemon, mtu) in [&alice, &bob].into_iter().zip(mtus) {
        let shown = daemon.host().sh("ip -o link show mesh0").unwrap().stdout;
        assert!(shown.contains(&format!("mtu {mtu} ")), "{shown}");
    }
}

/// Everything that the kernel shows of a machine's network, but for numbers that change by themselves.
fn network_of(host: &Host) -> String {
    let look = "ip -o link | sed -E 's/^[0-9]+: //'
        ip -4 -o addr | sed -E 's/^[0-9]+: //'
        ip -6 -o addr show scope global | sed -E 's/^[0-9]+: //'
        ip route show table all | sed -E 's/ expires [0-9]+sec//' | grep -v fe80 | sort
        ip rule; ip -6 rule; nft list ruleset; ip maddress show dev eth0 | sort
        ss -H -l -n -t -u -x -w 2>&1 | grep -v '^u_' | sort
        cat /proc/net/igmp | grep -c 224 || true";
    host.sh(look).unwrap().stdout
}

#[test]
fn whatever_ends_it_nothing_that_it_made_is_left() {
    let lab = Lab::new("wgend").unwrap();
    let host = lab.internet().public_host("alone").unwrap();
    let before = network_of(&host);
    let daemon = Daemon::up(&host, &["--name", "alone"]).unwrap();
    assert_ne!(network_of(&host), before, "it makes something");
    let mut daemon = Some(daemon);
    for ending in ["down", "TERM", "KILL"] {
        let running = match daemon.take() {
            Some(daemon) => daemon,
            None => Daemon::up(&host, &[]).unwrap(),
        };
        match ending {
            "down" => {
                running.ask(&["down"]).unwrap();
            }
            signal => {
                host.sh(&format!("kill -{signal} {}", running.process.pid()))
                    .unwrap();
            }
        }
        running.process.wait(LIMIT).unwrap();
        wait_until("all is gone", LIMIT, || Ok(network_of(&host) == before)).unwrap_or_else(
            |error| {
                panic!(
                    "{ending}: {error:#}\n{before}\nis now\n{}",
                    network_of(&host)
                )
            },
        );
    }
}
