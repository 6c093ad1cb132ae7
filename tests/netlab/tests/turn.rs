//! Does the discovery server's relay serve members behind real NATs, and lead nobody into the network it stands in?
//! The judges are coturn's `turnutils_uclient` and `turnutils_peer`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

#[path = "turn/member.rs"]
mod member;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use mesh_wire::discovery::TurnAccess;
use netlab::{Discovery, Host, Lab, Nat, wait_until};

use member::Member;

/// Some seconds of sending at the tool's own pace, on a machine that is busy with other tests.
const RUN: Duration = Duration::from_secs(90);

/// What the tool says when nothing is missing.
const ALL_CAME: &str = "Total lost packets 0 (0.000000%)";

/// Sends from `host` through the relay at `server` to the peer and back.
fn relayed(
    host: &Host,
    server: Ipv4Addr,
    peer: Ipv4Addr,
    access: &TurnAccess,
    arguments: &[&str],
) -> String {
    let mut command = host.command("turnutils_uclient");
    command
        .args(["-c", "-u", &access.username])
        .args(["-w", access.password.expose()])
        .args(["-e", &peer.to_string()])
        .args(arguments)
        .arg(server.to_string());
    let output = host.run_command(command, RUN).unwrap();
    output.stdout + &output.stderr
}

/// A peer that sends back what it gets.
fn echo(host: &Host, address: Ipv4Addr) {
    host.spawn("turnutils_peer", ["-L", &address.to_string()])
        .unwrap();
    let wanted = format!("{address}:3480 ");
    let end = Instant::now() + Duration::from_secs(20);
    while !host.run("ss", ["-Hnul"]).unwrap().stdout.contains(&wanted) {
        assert!(Instant::now() < end, "no peer at {wanted}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn metric(host: &Host, discovery: &Discovery, line: &str) -> u64 {
    let url = format!("{}/metrics", discovery.url());
    let text = host.run("curl", ["-sS", "-f", &url]).unwrap().stdout;
    let value = text
        .lines()
        .find_map(|found| found.strip_prefix(&format!("discovery_turn_{line} ")));
    value.unwrap().parse().unwrap()
}

#[test]
fn members_behind_nats_and_without_udp_are_relayed_and_nothing_is_lost() {
    let lab = Lab::new("turn").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let peer = lab.internet().public_host("peer").unwrap();
    echo(&peer, peer.address());
    let member = Member::join(&server, &discovery);
    let many = ["-m", "2", "-n", "100", "-l", "1200"];
    for (name, nat, transport) in [
        ("restricted", Nat::PortRestricted, &[][..]),
        ("symmetric", Nat::Symmetric, &["-s"]),
        ("blocked", Nat::UdpBlocked, &["-t"]),
        ("blocked2", Nat::UdpBlocked, &["-t", "-s"]),
    ] {
        let home = lab.internet().home(name, nat).unwrap();
        let host = home.host("a").unwrap();
        let arguments = [&many[..], transport].concat();
        let text = relayed(
            &host,
            server.address(),
            peer.address(),
            &member.access,
            &arguments,
        );
        assert!(text.contains(ALL_CAME), "{name}: {text}");
    }
    let sent = metric(&server, &discovery, "bytes_total{to=\"peers\"}");
    assert!(sent >= 4 * 200 * 1_200, "{sent}");
}

/// A server in a home, with a neighbour that must not be reached by way of it.
struct HomeServer {
    _lab: Lab,
    server: Host,
    public: Ipv4Addr,
    discovery: Discovery,
    neighbour: Host,
    stranger: Host,
    outside: Host,
    member: Member,
}

impl HomeServer {
    fn new(name: &str, arguments: &[&str]) -> Self {
        let lab = Lab::new(name).unwrap();
        let home = lab.internet().home("home", Nat::OneToOne).unwrap();
        let server = home.host("server").unwrap();
        let neighbour = home.host("neighbour").unwrap();
        let public = home.outermost().address();
        let told = public.to_string();
        let arguments = [&["--public-ip", &told], arguments].concat();
        let discovery = Discovery::start_with(&server, &arguments).unwrap();
        let stranger = lab.internet().public_host("stranger").unwrap();
        let outside = lab.internet().public_host("outside").unwrap();
        for host in [&server, &neighbour, &outside] {
            echo(host, host.address());
        }
        let member = Member::join(&server, &discovery);
        Self {
            _lab: lab,
            server,
            public,
            discovery,
            neighbour,
            stranger,
            outside,
            member,
        }
    }

    fn relayed_to(&self, peer: Ipv4Addr) -> String {
        let access = &self.member.access;
        relayed(
            &self.stranger,
            self.public,
            peer,
            access,
            &["-v", "-n", "20"],
        )
    }

    fn refused(&self) -> u64 {
        metric(&self.server, &self.discovery, "refused_total{code=\"403\"}")
    }
}

#[test]
fn a_member_reaches_public_peers_from_the_told_address_and_no_private_ones() {
    let scene = HomeServer::new("turnhome", &[]);
    let text = scene.relayed_to(scene.outside.address());
    assert!(text.contains(ALL_CAME), "{text}");
    let told = format!("Received relay addr: {}:", scene.public);
    assert!(text.contains(&told), "{text}");
    for peer in [
        scene.neighbour.address(),
        scene.server.address(),
        scene.public,
        Ipv4Addr::LOCALHOST,
    ] {
        let before = scene.refused();
        let text = scene.relayed_to(peer);
        assert!(text.contains("error 403"), "{peer}: {text}");
        assert!(!text.contains(ALL_CAME), "{peer}: {text}");
        assert!(scene.refused() > before, "{peer}");
    }
}

#[test]
fn private_peers_can_be_allowed_and_the_server_itself_cannot() {
    let scene = HomeServer::new("turnopen", &["--allow-private-peers"]);
    let text = scene.relayed_to(scene.neighbour.address());
    assert!(text.contains(ALL_CAME), "{text}");
    for peer in [scene.server.address(), scene.public, Ipv4Addr::LOCALHOST] {
        let text = scene.relayed_to(peer);
        assert!(text.contains("error 403"), "{peer}: {text}");
    }
}

/// What `docs/OPERATIONS.md` promises: 100 Mbit/s for one member, both ways together, and a quarter of a second of that at
/// once.
const PER_SECOND: f64 = 12_500_000.0;

#[test]
fn a_member_over_its_share_is_held_to_it_and_another_one_loses_nothing() {
    let lab = Lab::new("turnshare").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let [peer, greedy, modest] =
        ["peer", "greedy", "modest"].map(|name| lab.internet().public_host(name).unwrap());
    echo(&peer, peer.address());
    let members = [1, 2].map(|number| Member::join_as(number, &server, &discovery));
    let [of_greedy, of_modest] = members.each_ref().map(|member| &member.access);
    let relay = |host: &Host, access: &TurnAccess, arguments: &[&str]| {
        relayed(host, server.address(), peer.address(), access, arguments)
    };
    let bytes = || -> u64 {
        let ways = ["peers", "clients"].map(|to| format!("bytes_total{{to=\"{to}\"}}"));
        ways.iter()
            .map(|line| metric(&server, &discovery, line))
            .sum()
    };
    let held = || metric(&server, &discovery, "dropped_total{reason=\"rate\"}");
    assert_eq!(held(), 0);
    std::thread::scope(|scope| {
        // Five flows of up to 4 MB/s, there and back.
        let arguments = ["-m", "5", "-n", "1500", "-l", "8000", "-z", "2"];
        let over = scope.spawn(move || relay(&greedy, of_greedy, &arguments));
        wait_until("it is over its share", RUN, || Ok(held() > 0)).unwrap();
        let (start, before) = (Instant::now(), bytes());
        let text = relay(&modest, of_modest, &["-n", "150", "-l", "200"]);
        assert!(text.contains(ALL_CAME), "{text}");
        let (seconds, moved) = (start.elapsed().as_secs_f64(), bytes() - before);
        println!("{moved} bytes in {seconds:.1} s");
        let most = PER_SECOND * (seconds + 0.25) + 100_000.0;
        assert!(moved as f64 <= most, "{moved} in {seconds} s");
        let text = over.join().unwrap();
        assert!(!text.contains(ALL_CAME), "{text}");
    });
}
