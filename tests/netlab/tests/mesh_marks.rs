//! How do congestion marks (ECN) and priorities (DSCP) cross the mesh? As RFC 6040 and WireGuard have it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{Capture, Host, Nat, Pair, Traffic, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
const OPEN: [Nat; 2] = [Nat::Open; 2];
/// Pings of one kind.
const PINGS: usize = 10;

/// Sends pings from alice to bob with that type of service. Whether they arrive is for others to say: ping itself does
/// not wait for answers that are late.
fn ping(pair: &Pair, tos: u8) {
    let line = format!(
        "ping -n -c {PINGS} -i 0.05 -W 1 -Q {tos} {}",
        pair.bob.virtual_ip
    );
    let told = pair.alice.host().try_sh(&line).unwrap();
    let sent = format!("{PINGS} packets transmitted");
    assert!(told.stdout.contains(&sent), "{told:?}");
}

/// What tcpdump says of a packet with that type of service.
fn shown(tos: u8) -> String {
    let mark = ["", ",ECT(1)", ",ECT(0)", ",CE"][usize::from(tos & 3)];
    format!("(tos {tos:#x}{mark}, ")
}

/// From now on the routers between the homes do that to datagrams of the mesh on their way to bob.
fn treat(pair: &Pair, rule: &str) {
    let bob = pair.bob.host().address();
    let table = format!(
        "table ip marks {{ chain forward {{ type filter hook forward priority filter;\n\
         ip daddr {bob} udp dport 7081 {rule}\n}}\n}}"
    );
    pair.lab
        .internet()
        .router()
        .namespace()
        .nft(&table)
        .unwrap();
}

fn congestion_drops(pair: &Pair) -> u64 {
    let status = pair.bob.status().unwrap();
    status["counters"]["congestion"].as_u64().unwrap()
}

fn counter(host: &Host, name: &str) -> u64 {
    let told = host.sh(&format!("nstat -asz {name}")).unwrap().stdout;
    let line = told.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_the_sender_wrote_arrives_inside_and_priorities_do_not_show_outside() {
    let pair = Pair::linked("tos", OPEN).unwrap();
    let router = pair.lab.internet().router();
    for tos in [0x00, 0x01, 0x02, 0x03, 0xB8, 0x2E, 0xFF] {
        let inside = Capture::start(pair.bob.host(), "mesh0", "in", "icmp").unwrap();
        let outside = Capture::start(router, "any", "in", "udp port 7081").unwrap();
        ping(&pair, tos);
        inside.finish(&shown(tos), PINGS).unwrap();
        // An echo and its answer each; two that wait for one another may leave as one train.
        let told = outside.finish(".7081: ", PINGS).unwrap();
        let packets = told.lines().filter(|line| line.contains("(tos "));
        let high: Vec<&str> = packets
            .filter(|line| !(0..4).any(|ecn| line.contains(&shown(ecn))))
            .collect();
        assert!(high.is_empty(), "{high:?}");
    }
}

#[test]
fn tcp_keeps_the_priority_that_iperf3_asked_for() {
    let pair = Pair::linked("iperf", OPEN).unwrap();
    let server = pair
        .bob
        .host()
        .spawn("iperf3", ["-s", "-1", "--forceflush"])
        .unwrap();
    server.wait_for_line("listening", LIMIT).unwrap();
    let bulk = "tcp dst port 5201 and greater 1000";
    let inside = Capture::start(pair.bob.host(), "mesh0", "in", bulk).unwrap();
    let target = pair.bob.virtual_ip.as_str();
    let args = ["-c", target, "-n", "2M", "-S", "0xB8"];
    pair.alice.host().run("iperf3", args).unwrap();
    let told = inside.finish(&shown(0xB8), 20).unwrap();
    let other = told
        .lines()
        .filter(|line| line.contains("(tos ") && !line.contains(&shown(0xB8)));
    assert_eq!(other.count(), 0, "{told}");
}

#[test]
fn the_mark_of_a_router_reaches_the_packet_inside_and_drops_one_that_cannot_carry_it() {
    let pair = Pair::linked("marked", OPEN).unwrap();
    single_frames(&pair);
    treat(&pair, "ip ecn set ce");
    let inside = Capture::start(pair.bob.host(), "mesh0", "in", "icmp").unwrap();
    for tos in [0x01, 0x02, 0x03, 0xBA, 0x00, 0xB8] {
        ping(&pair, tos);
    }
    wait_until("the drops are counted", LIMIT, || {
        Ok(congestion_drops(&pair) == 2 * PINGS as u64)
    })
    .unwrap();
    pair.lab
        .internet()
        .router()
        .sh("nft delete table ip marks")
        .unwrap();
    // Nothing is marked any more.
    ping(&pair, 0);
    let told = inside.finish(&shown(0), PINGS).unwrap();
    for (tos, times) in [(0x03, 3 * PINGS), (0xBB, PINGS), (0x00, PINGS)] {
        let found = told.matches(&shown(tos)).count();
        assert_eq!(found, times, "{tos:#x}: {told}");
    }
    assert_eq!(told.matches("(tos ").count(), 5 * PINGS, "and no other");
    // Keepalives and handshakes carry no packet inside, so the marks have not hurt them.
    assert_eq!(pair.alice.peer("bob").unwrap()["path"], "direct");
}

/// From now on a mark hits one packet and not forty.
fn single_frames(pair: &Pair) {
    for member in [&pair.alice, &pair.bob] {
        let line = "ethtool -K eth0 tso off gso off tx-udp-segmentation off";
        member.host().sh(line).unwrap();
    }
}

/// Sends a stream with ECN from alice to bob while the routers do that to full packets.
fn stream_under(pair: &Pair, rule: &str) {
    for member in [&pair.alice, &pair.bob] {
        member.host().sysctl("net.ipv4.tcp_ecn", "1").unwrap();
    }
    treat(pair, &format!("ip length > 1000 {rule}"));
    let way = Traffic::between(&pair.alice, &pair.bob).unwrap();
    way.stream(&[65_536; 128]).unwrap();
}

#[test]
fn tcp_hears_of_congestion_without_losing_a_packet() {
    let pair = Pair::linked("tcpecn", OPEN).unwrap();
    single_frames(&pair);
    stream_under(&pair, "numgen inc mod 100 == 0 counter ip ecn set ce");
    for (host, name) in [
        (pair.bob.host(), "IpExtInCEPkts"),
        (pair.alice.host(), "TcpExtTCPDeliveredCE"),
    ] {
        assert!(counter(host, name) > 0, "{name} of {}", host.name());
    }
    assert_eq!(congestion_drops(&pair), 0);
}

/// What a router sees of alice's datagrams while she pings bob with that type of service.
fn outside(pair: &Pair, tos: u8) -> String {
    let alice = pair.alice.host().address();
    let filter = format!("udp dst port 7081 and src host {alice}");
    let capture = Capture::start(pair.lab.internet().router(), "any", "in", &filter).unwrap();
    ping(pair, tos);
    // Two that wait for one another may leave as one train.
    capture.finish(".7081: ", PINGS / 2).unwrap()
}

#[test]
fn the_mark_of_the_packet_inside_shows_outside_and_its_priority_does_not() {
    let pair = Pair::linked("outer", OPEN).unwrap();
    for tos in [0x00, 0x01, 0x02, 0x03, 0xB8, 0xBA] {
        let told = outside(&pair, tos);
        let (marked, plain) = (shown(tos & 3), shown(0));
        assert!(
            told.matches(&marked).count() >= PINGS / 2,
            "{tos:#x}: {told}"
        );
        // What meshd says for itself is not marked.
        let other = |line: &&str| {
            line.contains("(tos ") && !line.contains(&marked) && !line.contains(&plain)
        };
        assert_eq!(told.lines().find(other), None, "{tos:#x}");
    }
}

#[test]
fn a_router_that_marks_only_who_listens_is_heard() {
    let pair = Pair::linked("polite", OPEN).unwrap();
    single_frames(&pair);
    stream_under(&pair, "ip ecn ect0 numgen inc mod 100 == 0 ip ecn set ce");
    assert!(counter(pair.alice.host(), "TcpExtTCPDeliveredCE") > 0);
    assert_eq!(congestion_drops(&pair), 0);
}

#[test]
fn a_mark_on_a_train_reaches_each_of_its_packets() {
    let pair = Pair::linked("train", OPEN).unwrap();
    let full = format!(
        "tcp and src host {} and greater 1000",
        pair.alice.virtual_ip
    );
    let inside = Capture::start(pair.bob.host(), "mesh0", "in", &full).unwrap();
    stream_under(&pair, "ip ecn set ce");
    let told = inside.finish(&shown(3), 10).unwrap();
    let unmarked: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("(tos ") && !line.contains(&shown(3)))
        .collect();
    assert!(unmarked.is_empty(), "{unmarked:#?}");
}

#[test]
fn marks_show_outside_after_an_error_of_the_system_as_well() {
    let pair = Pair::linked("error", OPEN).unwrap();
    let pid = pair.alice.process.pid().to_string();
    let strace = pair
        .alice
        .host()
        .spawn(
            "strace",
            [
                "-f",
                "-p",
                &pid,
                "-e",
                "trace=sendmsg",
                "-e",
                "inject=sendmsg:error=EINVAL:when=1",
            ],
        )
        .unwrap();
    strace.wait_for_line("attached", LIMIT).unwrap();
    ping(&pair, 0x02);
    strace.wait_for_line("(INJECTED)", LIMIT).unwrap();
    let told = outside(&pair, 0x02);
    assert!(told.matches(&shown(2)).count() >= PINGS / 2, "{told}");
}
