//! Do daemons that have no UDP reach the others through a TURN server over TCP or TLS, within 5 s, and go back to UDP when
//! it passes? The servers are our own and coturn; all kinds of NAT are in `mesh_matrix.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use netlab::{
    COTURN_PASSWORD, Certificate, Daemon, Discovery, Host, Lab, Nat, Pair, Pings, Process, binary,
    coturn, wait_until,
};

const SECOND: Duration = Duration::from_secs(1);
/// Within so much time two members meet, whatever their networks do to UDP.
const SOON: Duration = Duration::from_secs(5);
/// What a router of a network without UDP does.
const BLOCK: &str = "nft 'table ip blocked { chain forward { type filter hook forward priority -10; \
                     meta l4proto udp drop; }; }'";
const UNBLOCK: &str = "nft delete table ip blocked";

/// A file of `bytes` comes over whole.
fn check_bulk(from: &Daemon, to: &Daemon, bytes: u32) {
    let took = from.check_bulk(to, bytes).unwrap();
    println!("{bytes} bytes: {:.1} s", took.as_secs_f64());
}

#[test]
fn two_hosts_without_udp_meet_by_the_servers_turn_over_tcp_and_say_so() {
    let pair = Pair::new("tcp2", [Nat::UdpBlocked; 2]).unwrap();
    let took = pair.alice.first_echo(&pair.bob, SOON).unwrap();
    println!("first echo: {} ms", took.as_millis());
    for (one, other) in [(&pair.alice, "bob"), (&pair.bob, "alice")] {
        one.wait_for_way(other, "turn tcp", SOON).unwrap();
    }
    let pong = pair.bob.ask(&["ping", "alice", "-c", "1"]).unwrap();
    assert!(pong.contains("via turn over tcp "), "{pong}");
    let peers = pair.bob.ask(&["peers"]).unwrap();
    assert!(peers.contains("turn over tcp"), "{peers}");
    // Everything is as good as it can be: nothing is to be mended at the server.
    sleep(15 * SECOND);
    assert!(
        !pair.alice.health().unwrap().contains("turn-"),
        "{}",
        pair.alice.health().unwrap()
    );
    assert_eq!(pair.alice.peer("bob").unwrap()["mtu"], 1400);
    check_bulk(&pair.alice, &pair.bob, 20_000_000);
}

#[test]
fn a_server_that_was_restarted_relays_over_tcp_again_within_seconds() {
    let pair = Pair::new("tcpagain", [Nat::UdpBlocked; 2]).unwrap();
    pair.alice.first_echo(&pair.bob, SOON).unwrap();
    sleep(7 * SECOND);
    let _discovery = pair.discovery.restart().unwrap();
    let took = pair.alice.first_echo(&pair.bob, 30 * SECOND).unwrap();
    println!("again after {:.1} s", took.as_secs_f64());
    assert!(took < 15 * SECOND, "{took:?}");
    let report = pair.bob.host().ping(pair.alice.ip().unwrap(), 5).unwrap();
    assert_eq!(report.received(), 5);
}

/// UDP is blocked while pings run, and let through again.
fn check_blocked_meanwhile(name: &str, nats: [Nat; 2], path: &str) {
    let pair = Pair::new(name, nats).unwrap();
    pair.alice.first_echo(&pair.bob, SOON).unwrap();
    pair.alice.wait_for_way("bob", path, 20 * SECOND).unwrap();
    let router = pair.homes[0].router();
    router.sh(BLOCK).unwrap();
    let took = pair.alice.first_echo(&pair.bob, 2 * SOON).unwrap();
    println!(
        "{name}: an echo again {:.1} s after UDP was blocked",
        took.as_secs_f64()
    );
    assert!(took < SOON, "{took:?}");
    pair.alice.wait_for_way("bob", "turn tcp", SOON).unwrap();
    let pings = [
        Pings::start(&pair.alice, &pair.bob).unwrap(),
        Pings::start(&pair.bob, &pair.alice).unwrap(),
    ];
    sleep(10 * SECOND);
    router.sh(UNBLOCK).unwrap();
    let took = pair.alice.wait_for_way("bob", path, 120 * SECOND).unwrap();
    println!("{name}: {path} {} s after UDP passes", took.as_secs());
    sleep(20 * SECOND);
    for ping in &pings {
        let (sent, lost) = ping.end().unwrap();
        println!("{name}: {lost} of {sent} lost");
        assert!(sent > 100 && lost <= 5, "{lost} of {sent}: {}", ping.log());
    }
    assert_eq!(pair.alice.way("bob").unwrap(), path);
}

#[test]
fn a_direct_pair_outlives_that_udp_is_blocked_and_is_direct_again_afterwards() {
    check_blocked_meanwhile("tcpdirect", [Nat::FullCone, Nat::PortRestricted], "direct ");
}

#[test]
fn a_relayed_pair_outlives_that_udp_is_blocked_and_goes_back_to_udp_afterwards() {
    check_blocked_meanwhile("tcprelayed", [Nat::Symmetric; 2], "turn udp");
}

/// Coturn, a discovery server that relays nothing, alice without UDP and bob behind a symmetric NAT.
struct Coturn {
    alice: Daemon,
    bob: Daemon,
    host: Host,
    process: Process,
    certificate: Option<Certificate>,
    _discovery: Discovery,
    _lab: Lab,
}

/// What is between a host and the server's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// There is none.
    Plain,
    /// It is for the server's address, by an authority that the host trusts.
    Valid,
    /// It is for the server's address, by one that the host knows nothing of.
    Unknown,
    /// It is for another address.
    OtherName,
}

impl Coturn {
    /// With the text of the URL behind the host.
    fn new(name: &str, (scheme, rest): (&str, &str), trust: Trust) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let discovery = Discovery::start_with(&server, &["--no-turn"]).unwrap();
        let host = lab.internet().public_host("turn").unwrap();
        let certificate = (trust != Trust::Plain).then(|| {
            let address = match trust {
                Trust::OtherName => server.address(),
                Trust::Plain | Trust::Valid | Trust::Unknown => host.address(),
            };
            Certificate::new(&host, "turn", address).unwrap()
        });
        let process = coturn(&host, certificate.as_ref()).unwrap();
        let text = format!(
            "mesh: {{turn: {{servers: [{{url: '{scheme}:{}{rest}', username: ann, password: '{COTURN_PASSWORD}'}}]}}}}",
            host.address()
        );
        let authority = match (&certificate, trust) {
            (Some(certificate), Trust::Valid | Trust::OtherName) => certificate.authority.clone(),
            (Some(_), Trust::Unknown | Trust::Plain) | (None, _) => {
                // An authority, but not the one.
                Certificate::new(&server, "other", server.address())
                    .unwrap()
                    .authority
            }
        };
        let up = |name: &str, nat: Nat, rest: [&str; 2]| {
            let home = lab.internet().home(name, nat).unwrap();
            let host = home.host("pc").unwrap();
            let file = host.dir().join("mesh.yaml");
            fs::write(&file, &text).unwrap();
            let file = file.to_str().unwrap();
            let more = ["--name", name, "--config", file];
            let program = trusting(&host, &authority);
            let mut daemon =
                Daemon::launch_program(&program, &host, &[&rest[..], &more].concat()).unwrap();
            daemon.wait_ready().unwrap();
            daemon
        };
        let alice = up("alice", Nat::UdpBlocked, ["--server", &discovery.url()]);
        let link = alice.join_link().unwrap();
        let bob = up("bob", Nat::Symmetric, ["--join", &link]);
        Self {
            alice,
            bob,
            host,
            process,
            certificate,
            _discovery: discovery,
            _lab: lab,
        }
    }
}

/// `meshd` on a host whose system trusts this authority alone.
fn trusting(host: &Host, authority: &Path) -> PathBuf {
    let file = host.dir().join("meshd");
    let program = binary("meshd").unwrap();
    let script = format!(
        "#!/bin/sh\nSSL_CERT_FILE='{}' exec '{}' \"$@\"\n",
        authority.display(),
        program.display()
    );
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// Alice meets bob, and again after coturn was restarted.
fn check_coturn(scene: &Coturn, wanted: &str) {
    let took = scene.alice.first_echo(&scene.bob, SOON).unwrap();
    println!("first echo: {} ms", took.as_millis());
    scene.alice.wait_for_way("bob", wanted, SOON).unwrap();
    // Its nonces are stale after 20 s.
    let ping = Pings::start(&scene.alice, &scene.bob).unwrap();
    sleep(45 * SECOND);
    let (sent, lost) = ping.end().unwrap();
    assert!(sent > 150 && lost == 0, "{lost} of {sent}");
    assert_eq!(scene.alice.way("bob").unwrap(), wanted);
    assert!(
        !scene.alice.health().unwrap().contains("turn-"),
        "{}",
        scene.alice.health().unwrap()
    );
    check_bulk(&scene.alice, &scene.bob, 10_000_000);

    scene.process.kill().unwrap();
    let _process = coturn(&scene.host, scene.certificate.as_ref()).unwrap();
    let took = scene.alice.first_echo(&scene.bob, 30 * SECOND).unwrap();
    println!("after a restart of coturn: {:.1} s", took.as_secs_f64());
    assert!(took < 15 * SECOND, "{took:?}");
}

#[test]
fn coturn_relays_over_tcp_where_the_configuration_leaves_the_transport_open() {
    let scene = Coturn::new("coturntcp", ("turn", ":3478"), Trust::Plain);
    check_coturn(&scene, "turn tcp");
    scene.bob.wait_for_way("alice", "turn udp", SOON).unwrap();
}

#[test]
fn coturn_relays_over_tls_on_the_port_of_https() {
    let scene = Coturn::new("coturntls", ("turns", ":443"), Trust::Valid);
    check_coturn(&scene, "turn tls");
    // Bob has UDP, and so reaches alice's relayed address by himself.
    wait_until("bob is relayed too", SOON, || {
        Ok(scene.bob.way("alice")?.starts_with("turn "))
    })
    .unwrap();
}

/// Whoever cannot prove to be the server gets no credentials, and the health says what is wrong.
fn check_untrusted(name: &str, trust: Trust) {
    let scene = Coturn::new(name, ("turns", ":443"), trust);
    let ping = Pings::start(&scene.alice, &scene.bob).unwrap();
    wait_until("the health says it", 2 * SOON, || {
        Ok(scene.alice.health()?.contains("turn-untrusted"))
    })
    .unwrap();
    let told = scene.alice.health().unwrap();
    assert!(
        told.contains("certificate") && told.contains("over TLS"),
        "{told}"
    );
    sleep(5 * SECOND);
    assert_eq!(scene.alice.way("bob").unwrap(), "none ");
    let log = scene.process.log();
    assert!(!log.contains("user <ann>"), "its user name was sent: {log}");
    drop(ping);
}

#[test]
fn a_certificate_that_nobody_here_trusts_is_refused() {
    check_untrusted("tlsunknown", Trust::Unknown);
}

#[test]
fn a_certificate_for_another_address_is_refused() {
    check_untrusted("tlsother", Trust::OtherName);
}
