//! Do members without any path between them reach each other over others, through the built programs, and does a stream outlive
//! who carries it?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::{fs, thread::sleep, time::Duration};

use netlab::{Capture, Daemon, Discovery, Home, Host, Lab, Nat, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(30);
/// Nothing but direct paths, and other members.
const CONFIG: &str = "mesh: {connection: {relay_enabled: false, relay_via_peers: true}}";

/// Members at homes of their own, of which only some pairs have a path.
struct Mesh {
    members: Vec<Daemon>,
    _discovery: Discovery,
    _lab: Lab,
}

impl Mesh {
    fn new(name: &str, count: usize, linked: &[(usize, usize)]) -> Self {
        let lab = Lab::new(name).unwrap();
        let internet = lab.internet();
        let discovery = Discovery::start(&internet.public_host("server").unwrap()).unwrap();
        let file = lab.dir().join("mesh.yaml");
        fs::write(&file, CONFIG).unwrap();
        let file = file.to_str().unwrap();
        let homes: Vec<Home> = (0..count)
            .map(|number| {
                internet
                    .home(&format!("h{number}"), Nat::PortRestricted)
                    .unwrap()
            })
            .collect();
        let address = |number: usize| homes[number].outermost().address();
        let mut rules = String::new();
        for a in 0..count {
            for b in (0..count).filter(|b| *b != a) {
                if !linked.contains(&(a.min(b), a.max(b))) {
                    rules += &format!("ip saddr {} ip daddr {} drop; ", address(a), address(b));
                }
            }
        }
        let table = format!(
            "table ip apart {{ chain forward {{ type filter hook forward priority 0; {rules} }}; }}"
        );
        internet.router().sh(&format!("nft '{table}'")).unwrap();
        let mut members: Vec<Daemon> = Vec::new();
        for (number, home) in homes.iter().enumerate() {
            let host = home.host("pc").unwrap();
            let member = format!("m{number}");
            let way = match members.first() {
                None => ["--server".to_owned(), discovery.url()],
                Some(first) => ["--join".to_owned(), first.join_link().unwrap()],
            };
            let arguments = [&way[0], &way[1], "--name", &member, "--config", file];
            members.push(Daemon::up(&host, &arguments).unwrap());
        }
        Self {
            members,
            _discovery: discovery,
            _lab: lab,
        }
    }

    fn route(&self, from: usize, to: usize) -> Option<serde_json::Value> {
        let routes = self.members[from].ask(&["routes", "--json"]).unwrap();
        let routes: Vec<serde_json::Value> = serde_json::from_str(&routes).unwrap();
        let name = &self.members[to].name;
        routes
            .into_iter()
            .find(|route| route["name"] == name.as_str())
    }

    fn wait_for_route(&self, from: usize, to: usize, hops: usize) -> serde_json::Value {
        wait_until(&format!("a route of {hops} hops"), LIMIT, || {
            Ok(self
                .route(from, to)
                .is_some_and(|route| route["hops"] == hops))
        })
        .unwrap();
        self.route(from, to).unwrap()
    }
}

#[test]
fn whoever_has_no_path_is_reached_over_two_others_at_once_and_they_see_nothing() {
    let mesh = Mesh::new("routetwo", 4, &[(0, 1), (1, 2), (2, 3)]);
    let route = mesh.wait_for_route(0, 3, 3);
    assert_eq!(route["path"], serde_json::json!(["m1", "m2"]), "{route}");
    let [a, b, .., d] = &mesh.members[..] else {
        unreachable!()
    };
    // The first packet is answered at once: it waits for no attempt at a path.
    let took = a.host().first_reply(d.ip().unwrap(), 5 * SECOND).unwrap();
    let took = took.expect("an answer");
    println!(
        "the first reply over two relays took {} ms",
        took.as_millis()
    );
    assert!(took < SECOND, "{took:?}");
    let report = a.host().ping_each(SECOND / 5, d.ip().unwrap(), 25).unwrap();
    assert_eq!(report.received(), 25);
    let peer = a.peer("m3").unwrap();
    assert_eq!(
        (&peer["path"], &peer["via"]),
        (&"relay".into(), &serde_json::json!(["m1", "m2"])),
        "{peer}"
    );
    let pong = a.ask(&["ping", "m3", "-c", "1"]).unwrap();
    assert!(
        pong.contains("via relay m1") && pong.contains("m2"),
        "{pong}"
    );
    // What passes those who carry holds none of it; what comes out at the end does.
    let carried = Capture::start(b.host(), "eth0", "inout", "udp").unwrap();
    let opened = Capture::start(d.host(), "mesh0", "in", "icmp").unwrap();
    let marked = ["-n", "-c", "10", "-i", "0.2", "-p", MARK, &d.virtual_ip];
    a.host().run("ping", marked).unwrap();
    carried.finish("UDP", 20).unwrap();
    opened.finish("ICMP", 10).unwrap();
    assert!(!holds_mark(b.host(), "eth0-inout.pcap"));
    assert!(holds_mark(d.host(), "mesh0-in.pcap"));
}

/// In the payload of echoes, in hexadecimal digits.
const MARK: &str = "6d61726b6f66746865726f757465";

fn holds_mark(host: &Host, capture: &str) -> bool {
    let bytes = fs::read(host.dir().join(capture)).unwrap();
    bytes.windows(14).any(|part| part == b"markoftheroute")
}

#[test]
fn a_stream_goes_on_over_another_member_when_the_one_that_carries_it_dies() {
    let mesh = Mesh::new("routedies", 4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    mesh.wait_for_route(0, 3, 2);
    mesh.wait_for_route(3, 0, 2);
    let [a, .., d] = &mesh.members[..] else {
        unreachable!()
    };
    a.host()
        .first_reply(d.ip().unwrap(), 5 * SECOND)
        .unwrap()
        .expect("an answer");
    sleep(2 * SECOND);
    let peer = a.peer("m3").unwrap();
    let carrier = peer["via"][0].as_str().unwrap().to_owned();
    let carrier = mesh
        .members
        .iter()
        .find(|member| member.name == carrier)
        .unwrap();
    let ping = a
        .host()
        .spawn(
            "ping",
            ["-n", "-i", "0.05", "-c", "200", "-D", &d.virtual_ip],
        )
        .unwrap();
    sleep(2 * SECOND);
    carrier.kill().unwrap();
    ping.wait(30 * SECOND).unwrap();
    let lost = 200 - ping.log().matches(" bytes from ").count();
    println!("{lost} of 200 echoes were lost: {} ms", lost * 50);
    assert!(lost <= 24, "{}", ping.log());
}
