//! Two daemons meet though the NAT of one gives each destination another port and that of the other filters by port, and
//! neither router is flooded by what they try for that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{thread::sleep, time::Duration};

use netlab::{Host, Meeting, Nat, Pair, wait_until};

const SECOND: Duration = Duration::from_secs(1);
/// From the first ping to a direct path. On a quiet machine it takes 2 to 3 s.
const LIMIT: Duration = Duration::from_secs(10);
/// Flows of a router that have other reasons: TURN, STUN, checks, what asks the router for a mapping.
const OTHERS: usize = 64;
/// Sockets of a host that come and go for the same reasons.
const OTHER_SOCKETS: usize = 4;
const NATS: [Nat; 2] = [Nat::Symmetric, Nat::PortRestricted];

fn path(pair: &Pair) -> [String; 2] {
    [(&pair.alice, "bob"), (&pair.bob, "alice")].map(|(daemon, other)| {
        let peer = daemon.peer(other).unwrap();
        peer["path"].as_str().unwrap().to_owned()
    })
}

fn number(host: &Host, line: &str) -> usize {
    let output = host.sh(line).unwrap().stdout;
    output.trim().parse().unwrap_or_else(|_| panic!("{output}"))
}

/// UDP flows between the two homes that a router remembers.
fn flows(pair: &Pair, of: usize) -> usize {
    let other = pair.homes[1 - of].router().address();
    let line = format!("conntrack -L -p udp -d {other} 2>/dev/null | wc -l");
    number(pair.homes[of].router(), &line)
}

fn sockets(host: &Host) -> usize {
    number(host, "ss -Huan | wc -l")
}

/// Counts the datagrams that leave each home for the other.
fn count(pair: &Pair) {
    let [a, b] = [0, 1].map(|of| pair.homes[of].router().address());
    for (of, to) in [(0, b), (1, a)] {
        let rule = format!(
            "nft 'table ip probes {{ chain out {{ type filter hook postrouting priority 300; \
             oifname wan ip daddr {to} meta l4proto udp counter; }}; }}'"
        );
        pair.homes[of].router().sh(&rule).unwrap();
    }
}

fn counted(pair: &Pair, of: usize) -> usize {
    let list = "nft list table ip probes | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'";
    number(pair.homes[of].router(), list)
}

/// The most sockets that a host has while the two meet, and how they do.
fn meet(pair: &Pair) -> (Meeting, usize) {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                most = most.max(sockets(pair.alice.host()));
                sleep(SECOND / 20);
            }
            most
        });
        let meeting = pair.meet(LIMIT);
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        (meeting.unwrap(), watch.join().unwrap())
    })
}

#[test]
fn symmetric_and_port_restricted_meet_and_no_router_is_flooded() {
    // One attempt in 500 finds nothing.
    let tries = (0..2).map(|_| {
        let pair = Pair::new("bday", NATS).unwrap();
        pair.acquaint().unwrap();
        count(&pair);
        let before = sockets(pair.alice.host());
        let (meeting, most) = meet(&pair);
        println!("{meeting:?}, {before} sockets before, {most} at most");
        assert!(most <= before + 256 + OTHER_SOCKETS, "{most}");
        (pair, meeting, before)
    });
    let mut met = tries.filter(|(_, meeting, _)| meeting.direct.is_some());
    let (pair, _, before) = met.next().expect("a direct path");
    wait_until("both are direct", 5 * SECOND, || {
        Ok(path(&pair) == ["direct", "direct"])
    })
    .unwrap();
    let [symmetric, restricted] = [0, 1].map(|of| flows(&pair, of));
    let [shots, probes] = [0, 1].map(|of| counted(&pair, of));
    println!("flows: {symmetric} and {restricted}; datagrams: {shots} and {probes}");
    assert!((256..=256 + OTHERS).contains(&symmetric), "{symmetric}");
    assert!(restricted <= 1536 + OTHERS, "{restricted}");
    // Pings and checks go the same way.
    assert!(shots + probes <= 2048 + 512, "{shots} and {probes}");
    // The attempt is over, and one socket of it carries the path.
    wait_until("the sockets are closed", 5 * SECOND, || {
        Ok(sockets(pair.alice.host()) <= before + 1 + OTHER_SOCKETS)
    })
    .unwrap();
    for (from, to) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        let gap = Duration::from_millis(20);
        let report = from.host().ping_each(gap, to.ip().unwrap(), 200).unwrap();
        assert_eq!(report.received(), 200, "{report:?}");
    }
    assert_eq!(path(&pair), ["direct", "direct"]);
}

#[test]
fn where_one_side_does_not_allow_it_the_pair_stays_relayed() {
    let off = "mesh: {connection: {birthday_probing: false}}";
    for (name, texts) in [("bdayoff1", [off, ""]), ("bdayoff2", ["", off])] {
        let pair = Pair::configured(name, NATS, texts).unwrap();
        pair.alice.first_echo(&pair.bob, 5 * SECOND).unwrap();
        let before = sockets(pair.alice.host());
        for _ in 0..10 {
            let report = pair.alice.host().ping(pair.bob.ip().unwrap(), 5).unwrap();
            assert_eq!(report.received(), 5);
        }
        assert_eq!(path(&pair), ["turn", "turn"]);
        assert!(sockets(pair.alice.host()) <= before + OTHER_SOCKETS);
        assert!([0, 1].iter().all(|of| flows(&pair, *of) <= OTHERS));
    }
}
