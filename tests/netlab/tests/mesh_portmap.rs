//! Does the daemon get its port mapped by the router, in each of three protocols; do peers then come in; and is the port
//! given back? The judge is miniupnpd and the router's nftables.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use netlab::{Asking, Daemon, Discovery, Home, Host, Lab, MiniUpnp, Nat, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A server, and a home whose router can be asked. Its NAT is symmetric: without a mapping nobody behind a port-restricted
/// one comes in.
struct Scene {
    router: MiniUpnp,
    host: Host,
    other: Host,
    discovery: Discovery,
    lab: Lab,
}

impl Scene {
    fn new(name: &str, asking: Asking) -> Self {
        Self::leasing(name, asking, 86_400)
    }

    /// The router maps for at most so many seconds at a time.
    fn leasing(name: &str, asking: Asking, seconds: u32) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let discovery = Discovery::start(&server).unwrap();
        let home = lab.internet().home("alice", Nat::Symmetric).unwrap();
        let router = MiniUpnp::leasing(lab.internet(), &home, asking, seconds).unwrap();
        let host = home.host("pc").unwrap();
        let bobs = lab.internet().home("bob", Nat::PortRestricted).unwrap();
        Self {
            router,
            host,
            other: bobs.host("pc").unwrap(),
            discovery,
            lab,
        }
    }

    fn up(&self) -> Daemon {
        let url = self.discovery.url();
        Daemon::up(&self.host, &["--server", &url, "--name", "alice"]).unwrap()
    }
}

fn mapping(daemon: &Daemon) -> Value {
    daemon.status().unwrap()["nat"]["port_mapping"].clone()
}

fn until_state(daemon: &Daemon, state: &str, limit: u64) -> Value {
    let what = format!("the port mapping is {state}");
    wait_until(&what, Duration::from_secs(limit), || {
        Ok(mapping(daemon)["state"] == state)
    })
    .unwrap();
    mapping(daemon)
}

#[allow(
    clippy::print_stdout,
    reason = "a figure for the reader of the test's output"
)]
fn is_reached_by(asking: Asking, protocol: &str) {
    let scene = Scene::new(&format!("map-{protocol}"), asking);
    let alice = scene.up();
    let mapped = until_state(&alice, "mapped", 10);
    assert_eq!(mapped["protocol"], protocol, "{mapped:#}");
    let external = format!("{}:7081", scene.router.external);
    assert_eq!(mapped["external"], external.as_str(), "{mapped:#}");
    assert!(mapped["lease_s"].as_u64().unwrap() <= 600, "{mapped:#}");
    assert_eq!(scene.router.mappings().unwrap().len(), 1);

    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&scene.other, &["--join", &link, "--name", "bob"]).unwrap();
    let took = bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
    println!("{protocol}: {} ms to the first echo", took.as_millis());
    bob.ask(&["ping", "alice", "-c", "3", "--until-direct"])
        .unwrap();
    wait_until(
        "bob's path is alice's mapping",
        Duration::from_secs(3),
        || Ok(bob.peer("alice")?["endpoint"] == external.as_str()),
    )
    .unwrap();

    alice.process.signal(Signal::SIGTERM).unwrap();
    let ended = alice.process.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(ended.code(), Some(0));
    assert_eq!(scene.router.mappings().unwrap(), [""; 0]);
}

#[test]
fn pcp_lets_a_port_restricted_peer_in_behind_a_symmetric_nat() {
    is_reached_by(Asking::Pcp, "pcp");
}

#[test]
fn nat_pmp_lets_a_port_restricted_peer_in_behind_a_symmetric_nat() {
    is_reached_by(Asking::NatPmp, "nat-pmp");
}

#[test]
fn upnp_lets_a_port_restricted_peer_in_behind_a_symmetric_nat() {
    is_reached_by(Asking::Upnp, "upnp");
}

#[allow(
    clippy::print_stdout,
    reason = "a figure for the reader of the test's output"
)]
#[test]
fn a_router_that_was_restarted_maps_the_port_again() {
    // By PCP the router says so itself; by UPnP the next renewal notices.
    for (asking, limit) in [(Asking::Pcp, 15), (Asking::Upnp, 70)] {
        let mut scene = Scene::new(&format!("map-again-{asking:?}"), asking);
        let alice = scene.up();
        until_state(&alice, "mapped", 10);
        scene.router = scene.router.restart().unwrap();
        let limit = Duration::from_secs(limit);
        let took = wait_until("the port is mapped again", limit, || {
            Ok(scene.router.mappings()?.len() == 1)
        });
        println!("{asking:?}: {} ms", took.unwrap().as_millis());
        drop(scene.lab);
    }
}

/// NAT-PMP's renewal is the same code, and miniupnpd gives it whatever time it asks for; UPnP's is seen by a router that was
/// restarted.
#[test]
fn a_lease_is_renewed_before_it_ends_and_ends_when_nobody_renews_it() {
    let scene = Scene::leasing("map-lease", Asking::Pcp, 10);
    let alice = scene.up();
    let mapped = until_state(&alice, "mapped", 10);
    assert!(mapped["lease_s"].as_u64().unwrap() <= 10, "{mapped:#}");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(25) {
        assert_eq!(scene.router.mappings().unwrap().len(), 1);
        assert_eq!(mapping(&alice)["state"], "mapped");
        thread::sleep(Duration::from_millis(200));
    }
    alice.kill().unwrap();
    wait_until("the lease ends", Duration::from_secs(15), || {
        Ok(scene.router.mappings()?.is_empty())
    })
    .unwrap();
}

#[test]
fn a_killed_daemon_leaves_a_lease_that_ends_and_the_next_one_takes_it_over() {
    for asking in [Asking::Pcp, Asking::NatPmp, Asking::Upnp] {
        let scene = Scene::new(&format!("map-crash-{asking:?}"), asking);
        let alice = scene.up();
        until_state(&alice, "mapped", 10);
        alice.kill().unwrap();
        assert_eq!(scene.router.mappings().unwrap().len(), 1);
        let alice = Daemon::up(&scene.host, &[]).unwrap();
        until_state(&alice, "mapped", 10);
        assert_eq!(scene.router.mappings().unwrap().len(), 1);
        alice.ask(&["down"]).unwrap();
        assert_eq!(scene.router.mappings().unwrap(), [""; 0], "{asking:?}");
    }
}

#[test]
fn a_host_that_moves_to_another_home_asks_the_router_there() {
    let scene = Scene::new("map-moves", Asking::Pcp);
    let internet = scene.lab.internet();
    let cafe: Home = internet.home("cafe", Nat::Symmetric).unwrap();
    let there = MiniUpnp::start(internet, &cafe, Asking::Upnp).unwrap();
    let alice = scene.up();
    until_state(&alice, "mapped", 10);
    cafe.connect(&scene.host).unwrap();
    wait_until("the other router maps it", Duration::from_secs(10), || {
        Ok(mapping(&alice)["external"] == format!("{}:7081", there.external))
    })
    .unwrap();
    assert_eq!(mapping(&alice)["protocol"], "upnp");
    assert_eq!(there.mappings().unwrap().len(), 1);
}

/// Counts the packets to a machine that a rule's match takes.
fn count(host: &Host, matching: &str) {
    let script = format!(
        "table ip counted {{\nchain input {{\ntype filter hook input priority filter;\n{matching} counter\n}}\n}}\n"
    );
    host.namespace().nft(&script).unwrap();
}

fn counted(host: &Host) -> u32 {
    let listed = host.sh("nft list table ip counted").unwrap().stdout;
    let packets = listed.split("packets ").nth(1).unwrap();
    packets.split(' ').next().unwrap().parse().unwrap()
}

/// Answers NAT-PMP on a home's router for ever: every port is mapped, to `external`.
fn lie(home: &Home, external: [u8; 4]) {
    let bound = home
        .router()
        .namespace()
        .enter(|| UdpSocket::bind(("0.0.0.0", 5351)));
    let socket = bound.unwrap().unwrap();
    thread::spawn(move || {
        let mut request = [0; 1100];
        while let Ok((length, from)) = socket.recv_from(&mut request) {
            let epoch = [0, 0, 1, 0];
            let answer = match (length, request[0], request[1]) {
                (2, 0, 0) => [&[0, 128, 0, 0], &epoch[..], &external].concat(),
                // The internal port, the same outside, and the time that was asked for.
                (12, 0, 1) => {
                    let port = &request[4..6];
                    [&[0, 129, 0, 0], &epoch[..], port, port, &request[8..12]].concat()
                }
                // PCP's "unsupported version", in the version that is supported.
                _ => [&[0, 128, 0, 1], &epoch[..]].concat(),
            };
            let _sent = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn a_router_that_names_an_address_that_nobody_reaches_is_not_believed() {
    for (external, word) in [
        ([10, 1, 2, 3], "private"),
        ([224, 0, 0, 1], "no address of a host"),
        ([0, 0, 0, 0], "no address on the internet"),
    ] {
        let lab = Lab::new("map-lie").unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let discovery = Discovery::start(&server).unwrap();
        let home = lab.internet().home("alice", Nat::PortRestricted).unwrap();
        lie(&home, external);
        let alice = home.host("pc").unwrap();
        let alice = Daemon::up(&alice, &["--server", &discovery.url()]).unwrap();
        let mapping = until_state(&alice, "distrusted", 10);
        assert_eq!(mapping["protocol"], "nat-pmp");
        assert!(
            mapping["error"].as_str().unwrap().contains(word),
            "{mapping:#}"
        );
        let text = alice.ask(&["status"]).unwrap();
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_router_sends_nobody_to_another_host() {
    let lab = Lab::new("map-elsewhere").unwrap();
    let internet = lab.internet();
    let server = internet.public_host("server").unwrap();
    let victim = internet.public_host("victim").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let home = internet.home("alice", Nat::PortRestricted).unwrap();
    let router = home.router().namespace();
    let ssdp = router.enter(|| UdpSocket::bind(("0.0.0.0", 1900)));
    let ssdp = ssdp.unwrap().unwrap();
    count(&victim, "ip protocol tcp");
    let location = victim.address();
    thread::spawn(move || {
        let mut search = [0; 1500];
        while let Ok((_, from)) = ssdp.recv_from(&mut search) {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                 LOCATION: http://{location}:8080/description.xml\r\n\r\n"
            );
            let _sent = ssdp.send_to(answer.as_bytes(), from);
        }
    });
    let alice = home.host("pc").unwrap();
    let alice = Daemon::up(&alice, &["--server", &discovery.url()]).unwrap();
    until_state(&alice, "none", 15);
    assert_eq!(counted(&victim), 0);
}

#[test]
fn without_an_answering_router_hardly_anything_is_sent() {
    let lab = Lab::new("map-none").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let home = lab.internet().home("alice", Nat::PortRestricted).unwrap();
    count(home.router(), "iifname lan0 udp dport { 5351, 1900 }");
    let alice = home.host("pc").unwrap();
    let alice = Daemon::up(&alice, &["--server", &discovery.url()]).unwrap();
    let mapping = until_state(&alice, "none", 15);
    assert!(
        mapping["error"].as_str().unwrap().contains("neither PCP"),
        "{mapping:#}"
    );
    thread::sleep(Duration::from_secs(20));
    let packets = counted(home.router());
    assert!((1..=12).contains(&packets), "{packets}");
}

#[test]
fn it_can_be_switched_off() {
    let scene = Scene::new("map-off", Asking::Pcp);
    let file = scene.host.dir().join("mesh.yaml");
    std::fs::write(&file, "mesh:\n  connection:\n    port_mapping: false\n").unwrap();
    let url = scene.discovery.url();
    let args = ["--server", &url, "--config", file.to_str().unwrap()];
    let alice = Daemon::up(&scene.host, &args).unwrap();
    assert_eq!(mapping(&alice)["state"], "off");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(scene.router.mappings().unwrap(), [""; 0]);
}
