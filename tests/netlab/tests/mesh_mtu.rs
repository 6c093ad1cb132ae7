//! What happens on a path that does not carry full packets, whether it says so or not? Judges: curl, iperf3, ping, tcpdump.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use netlab::{Capture, Daemon, Host, Nat, Pair, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
const HOMES: [Nat; 2] = [Nat::PortRestricted; 2];
/// What UDP over IPv4 and WireGuard put around an inner packet.
const AROUND: u64 = 28 + 32;
/// Headers of an inner echo.
const ECHO: u64 = 20 + 8;
const MIB: usize = 1 << 20;
/// Seconds of a transfer until it must be as fast as it gets, and seconds that are then judged.
const GRACE: usize = 3;
const JUDGED: usize = 3;

/// Two members whose machines send single frames, as cards do: a length means something to the routers between them. One
/// of them shares a file of 1 MiB. Nothing was sent between the two yet.
fn pair(name: &str) -> Pair {
    let pair = Pair::new(name, HOMES).unwrap();
    for member in [&pair.alice, &pair.bob] {
        let host = member.host();
        host.sh("ethtool -K eth0 tso off gso off tx-udp-segmentation off")
            .unwrap();
    }
    let bob = pair.bob.host();
    bob.sh(&format!(
        "mkdir documents && head -c {MIB} /dev/urandom > documents/one"
    ))
    .unwrap();
    let folder = bob.dir().join("documents");
    let share = [
        "share",
        "add",
        "docs",
        folder.to_str().unwrap(),
        "--to",
        "all",
    ];
    pair.bob.ask(&share).unwrap();
    pair
}

/// From now on the internet drops datagrams to those members that are longer than `mtu`, without a word.
fn swallow(pair: &Pair, members: &[&Daemon], mtu: u64) {
    let rule = |member: &&Daemon| {
        let home = public_address(pair, member);
        format!("ip daddr {home} udp length > {} drop\n", mtu - 20)
    };
    let rules: String = members.iter().map(rule).collect();
    let table = format!(
        "table ip narrow {{ chain forward {{ type filter hook forward priority filter;\n{rules}}}\n}}"
    );
    pair.lab
        .internet()
        .router()
        .namespace()
        .nft(&table)
        .unwrap();
}

/// Where a member's home is on the internet.
fn public_address(pair: &Pair, member: &Daemon) -> Ipv4Addr {
    let home = &pair.homes[usize::from(member.name == "bob")];
    home.outermost().address()
}

/// What `member` believes that the path to `other` carries.
fn mtu(member: &Daemon, other: &Daemon) -> u64 {
    member.peer(&other.name).unwrap()["mtu"]
        .as_u64()
        .unwrap_or(0)
}

fn known(member: &Daemon, other: &Daemon, size: u64) {
    let what = format!("{} knows that {size} bytes pass", member.name);
    wait_until(&what, LIMIT, || Ok(mtu(member, other) == size)).unwrap();
}

fn refused_icmp(member: &Daemon) -> u64 {
    let status = member.status().unwrap();
    status["counters"]["refused_icmp"].as_u64().unwrap()
}

/// Fetches the file; returns how long that took from the very beginning, connecting included.
fn fetch(pair: &Pair) -> Duration {
    let start = Instant::now();
    let line = format!(
        "curl -sS -f --max-time 20 -O http://{}/docs/one",
        pair.bob.virtual_ip
    );
    pair.alice.host().sh(&line).unwrap();
    let took = start.elapsed();
    let sums = [
        (pair.alice.host(), "one"),
        (pair.bob.host(), "documents/one"),
    ]
    .map(|(host, file)| host.sh(&format!("sha256sum < {file}")).unwrap().stdout);
    assert_eq!(sums[0], sums[1]);
    took
}

/// Bits per second in each second of a download by alice from bob.
fn download(pair: &Pair) -> Vec<f64> {
    let server = pair
        .bob
        .host()
        .spawn("iperf3", ["-s", "-1", "--forceflush"]);
    server.unwrap().wait_for_line("listening", LIMIT).unwrap();
    let seconds = (GRACE + JUDGED).to_string();
    let args = ["-J", "-R", "-t", &seconds, "-c", &pair.bob.virtual_ip];
    let told = pair.alice.host().run("iperf3", args).unwrap().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let rate = |interval: &serde_json::Value| interval["sum"]["bits_per_second"].as_f64().unwrap();
    told["intervals"]
        .as_array()
        .unwrap()
        .iter()
        .map(rate)
        .collect()
}

/// The median of the seconds that count.
fn settled(rates: &[f64]) -> f64 {
    let mut late = rates[GRACE..].to_vec();
    late.sort_by(f64::total_cmp);
    late[late.len() / 2]
}

/// Pings with echoes of `len` bytes that no router may fragment, or all may.
fn ping(from: &Daemon, to: &Daemon, len: u64, whole: bool) -> String {
    let fragments = if whole { "do" } else { "dont" };
    let size = len - ECHO;
    let target = &to.virtual_ip;
    let line = format!("ping -n -c 3 -i 0.2 -W 1 -M {fragments} -s {size} {target}");
    from.host().try_sh(&line).unwrap().stdout
}

#[test]
fn a_path_that_swallows_long_packets_carries_everything_at_half_the_speed_or_more() {
    let clean = pair("clean");
    let took = fetch(&clean);
    let whole = settled(&download(&clean));
    assert_eq!(mtu(&clean.alice, &clean.bob), 1400);
    println!("clean: 1 MiB in {took:?}, {:.0} Mbit/s", whole / 1e6);
    drop(clean);
    for width in [1280, 1124] {
        let pair = pair(&format!("swallow{width}"));
        swallow(&pair, &[&pair.alice, &pair.bob], width);
        let took = fetch(&pair);
        let rates = download(&pair);
        println!(
            "{width}: 1 MiB in {took:?}, {:.0} Mbit/s, by seconds {rates:.0?}",
            settled(&rates) / 1e6
        );
        assert!(
            took < Duration::from_secs(GRACE as u64),
            "{width}: {took:?}"
        );
        // The machine may be busier than it was before; one good second shows what the path carries.
        let best = rates[GRACE..].iter().copied().fold(0.0, f64::max);
        assert!(best > whole / 2.0, "{width}: {rates:.0?} of {whole:.0}");
        known(&pair.alice, &pair.bob, width - AROUND);
        known(&pair.bob, &pair.alice, width - AROUND);
        let told = ping(&pair.alice, &pair.bob, width - AROUND, true);
        assert!(told.contains(" 3 received"), "{told}");
        assert_eq!(refused_icmp(&pair.alice), 0);
    }
}

#[test]
fn inner_hosts_are_told_what_passes_and_may_send_fragments() {
    let pair = pair("told");
    swallow(&pair, &[&pair.alice, &pair.bob], 1280);
    pair.alice.first_echo(&pair.bob, LIMIT).unwrap();
    known(&pair.alice, &pair.bob, 1220);
    known(&pair.bob, &pair.alice, 1220);
    let capture = Capture::start(pair.alice.host(), "mesh0", "in", "icmp").unwrap();
    // The system has not heard of it and lets the first one go.
    let told = ping(&pair.alice, &pair.bob, 1400, true);
    let who = format!("From {} ", pair.bob.virtual_ip);
    assert!(told.contains(&who), "{told}");
    assert!(
        told.contains("Frag needed and DF set (mtu = 1220)"),
        "{told}"
    );
    let told = capture.finish("need to frag (mtu 1220)", 1).unwrap();
    assert!(!told.contains("wrong icmp cksum"), "{told}");
    // The system cuts what it may by what it was told; this one goes whole to the daemon, which cuts it.
    let daemon = pair.bob.host();
    daemon.sh("ip route flush cache").unwrap();
    let told = ping(&pair.bob, &pair.alice, 1400, false);
    assert!(told.contains(" 3 received"), "{told}");
    let told = ping(&pair.bob, &pair.alice, 1220, true);
    assert!(told.contains(" 3 received"), "{told}");
}

#[test]
fn new_tcp_connections_agree_on_segments_that_pass() {
    let pair = pair("mss");
    swallow(&pair, &[&pair.alice, &pair.bob], 1280);
    pair.alice.first_echo(&pair.bob, LIMIT).unwrap();
    known(&pair.alice, &pair.bob, 1220);
    known(&pair.bob, &pair.alice, 1220);
    let syn = "tcp[tcpflags] & tcp-syn != 0";
    let captures = [&pair.alice, &pair.bob]
        .map(|member| Capture::start(member.host(), "mesh0", "in", syn).unwrap());
    fetch(&pair);
    for capture in captures {
        let told = capture.finish("mss 1180", 1).unwrap();
        assert!(!told.contains("incorrect"), "{told}");
    }
}

#[test]
fn only_the_direction_that_is_narrow_is_taken_for_narrow() {
    let pair = pair("oneway");
    swallow(&pair, &[&pair.alice], 1124);
    let took = fetch(&pair);
    assert!(took < Duration::from_secs(3), "{took:?}");
    known(&pair.bob, &pair.alice, 1064);
    known(&pair.alice, &pair.bob, 1400);
    let told = ping(&pair.bob, &pair.alice, 1400, true);
    assert!(told.contains("(mtu = 1064)"), "{told}");
}

#[test]
fn a_path_that_gets_narrow_under_a_transfer_carries_it_on() {
    let pair = pair("later");
    fetch(&pair);
    let rates = std::thread::scope(|scope| {
        let transfer = scope.spawn(|| download(&pair));
        std::thread::sleep(Duration::from_millis(500));
        swallow(&pair, &[&pair.alice, &pair.bob], 1280);
        transfer.join().unwrap()
    });
    println!("{rates:.0?}");
    // Half a second before, and the three that it may take, lie in the first four.
    let late = rates[GRACE + 1..].iter().copied().fold(0.0, f64::max);
    assert!(late > rates[0] / 2.0, "{rates:.0?}");
    known(&pair.bob, &pair.alice, 1220);
}

#[test]
fn a_router_that_says_what_it_carries_is_believed() {
    let pair = pair("honest");
    fetch(&pair);
    known(&pair.alice, &pair.bob, 1400);
    let router = pair.lab.internet().router();
    for member in [&pair.alice, &pair.bob] {
        let home = public_address(&pair, member);
        let line = format!("ip route change $(ip -4 route show {home}/32) mtu 1280");
        router.sh(&line).unwrap();
    }
    let errors = Capture::start(pair.alice.host(), "eth0", "in", "icmp").unwrap();
    // The first is lost and brings the error; probes alone would need twice as long as there is until the second.
    let target = &pair.bob.virtual_ip;
    let line = format!("ping -n -c 2 -i 0.2 -W 1 -M do -s 1372 {target}");
    let told = pair.alice.host().try_sh(&line).unwrap().stdout;
    assert!(told.contains("(mtu = 1220)"), "{told}");
    let took = fetch(&pair);
    assert!(took < Duration::from_secs(3), "{took:?}");
    known(&pair.alice, &pair.bob, 1220);
    errors.finish("need to frag (mtu 1280)", 1).unwrap();
    assert_eq!(refused_icmp(&pair.alice), 0);
}

#[test]
fn our_own_system_is_believed_as_well() {
    let pair = pair("own");
    fetch(&pair);
    known(&pair.bob, &pair.alice, 1400);
    let bob = pair.bob.host();
    bob.sh("ip link set eth0 mtu 1280").unwrap();
    let target = &pair.alice.virtual_ip;
    let line = format!("ping -n -c 2 -i 0.2 -W 1 -M do -s 1372 {target}");
    let told = bob.try_sh(&line).unwrap().stdout;
    assert!(told.contains("(mtu = 1220)"), "{told}");
    let took = fetch(&pair);
    assert!(took < Duration::from_secs(3), "{took:?}");
    known(&pair.bob, &pair.alice, 1220);
    // To alice nobody has said anything, so the answers pass once she has found out.
    wait_until("the answers pass", Duration::from_secs(4), || {
        Ok(ping(&pair.bob, &pair.alice, 1220, true).contains(" 3 received"))
    })
    .unwrap();
}

/// Sends ICMP errors about datagrams from one mesh port to another; they quote a WireGuard message that nobody sent.
const FORGER: &str = r"
import socket, struct, sys
victim, other, port, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def total(data):
    words = struct.unpack('!%dH' % (len(data) // 2), data)
    sum_ = sum(words)
    while sum_ >> 16: sum_ = (sum_ & 0xffff) + (sum_ >> 16)
    return ~sum_ & 0xffff
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
for number in range(times):
    payload = bytes([4, 0, 0, 0]) + struct.pack('<IQ', number, number) + bytes(1400)
    udp = struct.pack('!HHHH', port, 7081, 8 + len(payload), 0) + payload
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0, socket.inet_aton(victim), socket.inet_aton(other))
    quoted = (ip + udp)[:548]
    head = struct.pack('!BBHHH', 3, 4, 0, 0, 600)
    head = struct.pack('!BBHHH', 3, 4, total(head + quoted), 0, 600)
    raw.sendto(head + quoted, (victim, 0))
";

#[test]
fn forged_errors_narrow_nothing() {
    // Without NAT, so that nothing stands between the forger and the daemon's socket.
    let pair = Pair::linked("forged", [Nat::Open; 2]).unwrap();
    known(&pair.alice, &pair.bob, 1400);
    let forger: &Host = &pair.server;
    let script = forger.dir().join("forger.py");
    std::fs::write(&script, FORGER).unwrap();
    let [alice, bob] = [&pair.alice, &pair.bob].map(|member| member.host().address().to_string());
    let script = script.to_str().unwrap();
    for times in ["1", "2000"] {
        forger
            .run("python3", [script, &alice, &bob, "7081", times])
            .unwrap();
        wait_until("the forger is noticed", LIMIT, || {
            Ok(refused_icmp(&pair.alice) > 0)
        })
        .unwrap();
        let told = ping(&pair.alice, &pair.bob, 1400, true);
        assert!(told.contains(" 3 received"), "{told}");
        assert_eq!(mtu(&pair.alice, &pair.bob), 1400);
    }
}
