//! What can a member do that says what no daemon would say?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::time::{Duration, Instant};

use netlab::{Capture, Daemon, Discovery, Lab, binary, wait_until};

/// Where no peer can be, the mesh's own range among it.
const FORBIDDEN: [&str; 11] = [
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",
    "224.0.0.251",
    "239.1.2.3",
    "255.255.255.255",
    "0.0.0.0",
    "10.100.7.7",
    "::1",
    "fe80::1",
    "ff02::fb",
];
/// All of them and their neighbours; not what a machine asks its LAN itself: multicast DNS, and where a router is (SSDP).
const THERE: &str = "udp and not port 5353 and not port 1900 and (dst net 127.0.0.0/8 or dst net 169.254.0.0/16 \
    or dst net 224.0.0.0/4 or dst net 10.100.0.0/16 or dst host 255.255.255.255 or dst net 0.0.0.0/8 \
    or dst host ::1 or dst net fe80::/10 or dst net ff00::/8)";
/// Of a quarter of a second each.
const LETTERS: usize = 80;
/// What is sent in any second to an address that does not answer, and what in all until one in twenty seconds is.
const A_SECOND: usize = 5;
const LASTING: usize = 20;

fn refused(daemon: &Daemon) -> u64 {
    let status = daemon.status().unwrap();
    status["counters"]["refused_candidate"].as_u64().unwrap()
}

/// The second of the day at which each packet came, as tcpdump begins its line.
fn times(told: &str) -> Vec<f64> {
    let time = |line: &str| {
        let (time, _) = line.split_once(" IP ")?;
        let mut parts = time.split(':').map(|part| part.parse::<f64>());
        let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
        Some(hour * 3600.0 + minute * 60.0 + parts.next()?.ok()?)
    };
    told.lines().filter_map(time).collect()
}

#[test]
fn a_member_that_names_addresses_where_no_peer_can_be_has_nothing_sent_there() {
    let lab = Lab::new("hostile").unwrap();
    let [server, victim, a, b] =
        ["server", "victim", "a", "b"].map(|name| lab.internet().public_host(name).unwrap());
    let discovery = Discovery::start(&server).unwrap();
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    bob.first_echo(&alice, Duration::from_secs(10)).unwrap();
    // From here on somebody else is bob.
    bob.kill().unwrap();
    let before = refused(&alice);
    let sent = ["eth0", "lo", "mesh0"].map(|device| Capture::start(&a, device, "out", THERE));
    let heard = Capture::start(&victim, "eth0", "in", "udp").unwrap();
    let start = Instant::now();
    let victim_ip = victim.address().to_string();
    let state = bob.state_dir().to_str().unwrap();
    let named = FORBIDDEN.iter().copied().chain([victim_ip.as_str()]);
    let arguments = [state, "alice"].into_iter().chain(named);
    let hostile = b
        .spawn(binary("hostile-member").unwrap(), arguments)
        .unwrap();
    let limit = Duration::from_secs(60);
    hostile
        .wait_for_line(&format!("wrote {LETTERS}"), limit)
        .unwrap();
    // She has read them, and refused all candidates but the victim's.
    let in_a_letter = 32 - 32_usize.div_ceil(FORBIDDEN.len() + 1);
    let wanted = before + u64::try_from(in_a_letter * LETTERS * 9 / 10).unwrap();
    wait_until("alice refuses", limit, || Ok(refused(&alice) >= wanted)).unwrap();

    let told = heard.finish("proto UDP", A_SECOND).unwrap();
    let (times, elapsed) = (times(&told), start.elapsed().as_secs_f64());
    println!("the victim heard {} in {elapsed:.1} s", times.len());
    assert!(times.len() >= 2 * A_SECOND, "{told}");
    let most = LASTING + 1 + (elapsed / 20.0) as usize;
    assert!(times.len() <= most, "{} of {most}", times.len());
    for seconds in [1, 2, 4] {
        for (number, from) in times.iter().enumerate() {
            let until = from + f64::from(seconds);
            let count = times[number..].iter().filter(|time| **time < until).count();
            let most = A_SECOND * seconds as usize + 1;
            assert!(count <= most, "{count} in {seconds} s: {told}");
        }
    }
    for capture in sent {
        let told = capture.unwrap().finish("", 0).unwrap();
        assert!(!told.contains("UDP"), "{told}");
    }
}
