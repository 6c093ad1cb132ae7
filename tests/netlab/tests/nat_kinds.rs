//! Is each NAT what it is called? The judge is coturn's `turnutils_natdiscovery` (RFC 5780)
//! against coturn's server with two public addresses; what it cannot see is tested with sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use netlab::{Host, Lab, Nat};

const SOON: Duration = Duration::from_secs(20);
/// The tool waits four seconds for each answer that a NAT filters, two at most.
const VERDICT: Duration = Duration::from_secs(60);
/// How long a datagram may take that is expected to be dropped: it would take microseconds.
const SILENCE: Duration = Duration::from_millis(300);

const SAME_MAPPING: &str = "NAT with Endpoint Independent Mapping!";
const MAPPING_BY_PORT: &str = "NAT with Address and Port Dependent Mapping!";
const NO_FILTER: &str = "NAT with Endpoint Independent Filtering!";
const FILTER_BY_ADDRESS: &str = "NAT with Address Dependent Filtering!";
const FILTER_BY_PORT: &str = "NAT with Address and Port Dependent Filtering!";
const NO_NAT: &str = "No NAT! (Endpoint Independent Mapping)";

#[test]
fn an_open_home_has_no_nat_and_no_filter() {
    let verdict = judge(Nat::Open);
    verdict.expect(SAME_MAPPING, NO_FILTER);
    assert!(verdict.mapping.contains(NO_NAT), "{verdict:?}");
}

#[test]
fn a_one_to_one_nat_maps_and_filters_endpoint_independently() {
    judge(Nat::OneToOne).expect(SAME_MAPPING, NO_FILTER);
}

#[test]
fn a_full_cone_nat_maps_and_filters_endpoint_independently() {
    judge(Nat::FullCone).expect(SAME_MAPPING, NO_FILTER);
}

#[test]
fn an_address_restricted_nat_filters_by_address() {
    judge(Nat::AddressRestricted).expect(SAME_MAPPING, FILTER_BY_ADDRESS);
}

#[test]
fn a_port_restricted_nat_filters_by_address_and_port() {
    judge(Nat::PortRestricted).expect(SAME_MAPPING, FILTER_BY_PORT);
}

#[test]
fn a_symmetric_nat_maps_and_filters_by_address_and_port() {
    judge(Nat::Symmetric).expect(MAPPING_BY_PORT, FILTER_BY_PORT);
}

#[test]
fn a_carrier_nat_keeps_the_mapping_of_the_home_behind_it() {
    judge(Nat::Cgnat).expect(SAME_MAPPING, FILTER_BY_PORT);
}

#[test]
fn a_symmetric_carrier_nat_makes_the_home_behind_it_symmetric() {
    judge(Nat::CgnatSymmetric).expect(MAPPING_BY_PORT, FILTER_BY_PORT);
}

#[test]
fn a_home_without_udp_gets_no_answer_by_udp_but_connects_by_tcp() {
    let lab = Lab::new("noudp").unwrap();
    let server = rfc5780_server(&lab);
    let host = lab
        .internet()
        .home("home", Nat::UdpBlocked)
        .unwrap()
        .host("a")
        .unwrap();
    let printed = discover(&host, &server, "-m");
    assert!(printed.contains("STUN receive timeout"), "{printed}");
    assert!(!printed.contains("UDP reflexive addr"), "{printed}");
    let target = SocketAddr::from((server.address(), 3478));
    host.namespace()
        .enter(|| TcpStream::connect_timeout(&target, SOON))
        .unwrap()
        .unwrap();
}

#[test]
fn a_leaky_nat_looks_port_restricted_to_whoever_speaks_first() {
    judge(Nat::Leaky).expect(SAME_MAPPING, FILTER_BY_PORT);
}

#[test]
fn a_leaky_nat_maps_elsewhere_towards_whoever_has_spoken_unasked() {
    let lab = Lab::new("leaky").unwrap();
    let [first, second] = ["first", "second"].map(|name| public_socket(&lab, name));
    let home = lab.internet().home("home", Nat::Leaky).unwrap();
    let inside = socket_on(&home.host("a").unwrap(), 5000);
    let mapped = mapping_seen(&inside, &first);
    second.send_to(b"unasked", mapped).unwrap();
    assert!(receive(&inside, SILENCE).is_none(), "APDF");
    let elsewhere = mapping_seen(&inside, &second);
    assert_eq!(elsewhere.ip(), mapped.ip());
    assert_ne!(elsewhere.port(), mapped.port());
    // The NAT has forgotten: it is again as it was.
    home.forget_flows().unwrap();
    assert_eq!(mapping_seen(&inside, &second), mapped);
}

/// What the opening shots of the daemon rely on.
#[test]
fn a_packet_with_a_low_hop_limit_opens_our_own_nat_and_leaves_a_leaky_one_alone() {
    let lab = Lab::new("shots").unwrap();
    let outside = public_socket(&lab, "outside");
    let [a, b] = ["alice", "bob"].map(|name| {
        let home = lab.internet().home(name, Nat::Leaky).unwrap();
        socket_on(&home.host("a").unwrap(), 5000)
    });
    let [to_a, to_b] = [&a, &b].map(|inside| mapping_seen(inside, &outside));
    for hop_limit in 2..=4 {
        a.set_ttl(hop_limit).unwrap();
        a.send_to(b"shot", to_b).unwrap();
    }
    assert!(receive(&b, SILENCE).is_none());
    b.send_to(b"check", to_a).unwrap();
    assert_eq!(
        receive(&a, SOON),
        Some(to_b),
        "and from the mapping that others see"
    );
}

/// The judge always speaks first, so it cannot see a router that keeps an unasked packet's
/// ports and then maps the answer elsewhere.
#[test]
fn being_punched_first_does_not_change_a_mapping() {
    for nat in [Nat::PortRestricted, Nat::Cgnat, Nat::AddressRestricted] {
        let lab = Lab::new("punched").unwrap();
        let first = public_socket(&lab, "first");
        let second = public_socket(&lab, "second");
        let host = lab.internet().home("home", nat).unwrap().host("a").unwrap();
        let inside = socket_on(&host, 5000);
        let mapped = mapping_seen(&inside, &first);
        second.send_to(b"unasked", mapped).unwrap();
        assert!(receive(&inside, SILENCE).is_none(), "{nat:?}");
        assert_eq!(mapping_seen(&inside, &second), mapped, "{nat:?}");
    }
}

#[test]
fn two_hosts_with_one_port_get_two_mappings_and_each_its_own_packets() {
    for nat in [Nat::FullCone, Nat::AddressRestricted, Nat::PortRestricted] {
        let lab = Lab::new("shared").unwrap();
        let outside = public_socket(&lab, "outside");
        let home = lab.internet().home("home", nat).unwrap();
        let a = socket_on(&home.host("a").unwrap(), 5000);
        let b = socket_on(&home.host("b").unwrap(), 5000);
        let (to_a, to_b) = (mapping_seen(&a, &outside), mapping_seen(&b, &outside));
        assert_ne!(to_a, to_b, "{nat:?}");
        home.forget_flows().unwrap();
        let open = nat == Nat::FullCone || nat == Nat::AddressRestricted;
        for (inside, mapped) in [(&a, to_a), (&b, to_b)] {
            outside.send_to(b"again", mapped).unwrap();
            assert_eq!(receive(inside, SILENCE).is_some(), open, "{nat:?}");
        }
    }
}

#[derive(Debug)]
struct Verdict {
    mapping: String,
    filtering: String,
}

impl Verdict {
    fn expect(&self, mapping: &str, filtering: &str) {
        assert_eq!(last_words(&self.mapping), mapping, "{}", self.mapping);
        assert_eq!(last_words(&self.filtering), filtering, "{}", self.filtering);
    }
}

/// The tool's answers from behind `nat`; both must show the home's public address.
fn judge(nat: Nat) -> Verdict {
    let lab = Lab::new("nat").unwrap();
    let server = rfc5780_server(&lab);
    let home = lab.internet().home("home", nat).unwrap();
    let host = home.host("a").unwrap();
    let public = if nat == Nat::Open {
        host.address()
    } else {
        home.outermost().address()
    };
    let (mapping, filtering) = (
        discover(&host, &server, "-m"),
        discover(&host, &server, "-f"),
    );
    for printed in [&mapping, &filtering] {
        assert!(
            printed.contains(&format!("UDP reflexive addr: {public}:")),
            "{printed}"
        );
    }
    Verdict { mapping, filtering }
}

/// What the tool prints when asked with `flag`: `-m` mapping, `-f` filtering.
fn discover(host: &Host, server: &Host, flag: &str) -> String {
    let mut command = host.command("turnutils_natdiscovery");
    command.args([
        flag,
        "-L",
        &host.address().to_string(),
        &server.address().to_string(),
    ]);
    host.run_command(command, VERDICT).unwrap().stdout
}

fn last_words(printed: &str) -> &str {
    printed
        .lines()
        .rev()
        .find(|line| line.contains("NAT"))
        .unwrap_or("")
}

/// Starts a server that can answer from two addresses and two ports.
fn rfc5780_server(lab: &Lab) -> Host {
    let server = lab.internet().public_host("stun").unwrap();
    let second = lab.internet().add_address(&server).unwrap();
    let mut command = server.command("turnserver");
    command
        .args([
            "-n",
            "--stun-only",
            "--no-tls",
            "--no-dtls",
            "--no-cli",
            "--log-file",
            "stdout",
        ])
        .arg("--pidfile")
        .arg(server.dir().join("pid"))
        .arg("--userdb")
        .arg(server.dir().join("turndb"))
        .args([
            "-L",
            &server.address().to_string(),
            "-L",
            &second.to_string(),
        ]);
    server.spawn_command(command).unwrap();
    // It opens its sockets after its last log line; the kernel's list is the truth.
    for address in [server.address(), second] {
        for port in [3478, 3479] {
            wait_for_socket(&server, address, port);
        }
    }
    server
}

fn wait_for_socket(server: &Host, address: Ipv4Addr, port: u16) {
    let wanted = format!("{address}:{port} ");
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let sockets = server.run("ss", ["-Hnul"]).unwrap().stdout;
        if sockets.contains(&wanted) {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "no socket at {wanted}in:\n{sockets}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn public_socket(lab: &Lab, name: &str) -> UdpSocket {
    socket_on(&lab.internet().public_host(name).unwrap(), 7000)
}

fn socket_on(host: &Host, port: u16) -> UdpSocket {
    let address = (host.address(), port);
    host.namespace()
        .enter(|| UdpSocket::bind(address))
        .unwrap()
        .unwrap()
}

/// Sends a datagram from `inside` to `outside` and returns the source that arrives there.
fn mapping_seen(inside: &UdpSocket, outside: &UdpSocket) -> SocketAddr {
    inside
        .send_to(b"hello", outside.local_addr().unwrap())
        .unwrap();
    receive(outside, SOON).unwrap()
}

fn receive(socket: &UdpSocket, limit: Duration) -> Option<SocketAddr> {
    socket.set_read_timeout(Some(limit)).unwrap();
    socket
        .recv_from(&mut [0; 64])
        .ok()
        .map(|(_, source)| source)
}
