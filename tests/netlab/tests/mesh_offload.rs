//! Does everything arrive unchanged where the kernel, a driver or a card lacks offload, and are all checksums right where it has it?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{Capture, Daemon, Discovery, Host, Lab, Nat, Pair, Traffic};

const OPEN: [Nat; 2] = [Nat::Open; 2];
const WITHOUT: &str = "mesh: {device: {offload: false}}";
const LIMIT: Duration = Duration::from_secs(10);
/// What one TCP segment carries behind an MTU of 1400: less IP, TCP and timestamps.
const SEGMENT: usize = 1400 - 20 - 20 - 12;
/// What one datagram carries behind the same.
const DATAGRAM: usize = 1400 - 20 - 8;
/// A frame of an Ethernet with an MTU of 1500.
const FRAME: u64 = 1514;

/// Sizes around all limits: a byte, odd ones, a full segment and its neighbours, several.
const PIECES: [usize; 11] = [
    1,
    2,
    3,
    1,
    577,
    SEGMENT - 1,
    SEGMENT,
    SEGMENT + 1,
    1,
    5 * SEGMENT - 3,
    65_535,
];

/// The same for datagrams; what does not fit a packet comes in fragments, up to the greatest that there is.
const DATAGRAMS: [usize; 13] = [
    1,
    2,
    3,
    577,
    DATAGRAM - 1,
    DATAGRAM,
    DATAGRAM + 1,
    2 * DATAGRAM + 5,
    65_506,
    65_507,
    9,
    DATAGRAM,
    1,
];

/// Many bytes and odd sizes over TCP and UDP, both ways.
fn everything_arrives(pair: &Pair) {
    let there = Traffic::between(&pair.alice, &pair.bob).unwrap();
    let back = Traffic::between(&pair.bob, &pair.alice).unwrap();
    there.stream(&[65_536; 48]).unwrap();
    there.stream(&PIECES.repeat(20)).unwrap();
    there.datagrams(&DATAGRAMS).unwrap();
    there.datagrams(&[DATAGRAM; 200]).unwrap();
    for way in [there, back] {
        way.cut_datagrams(40 * 1001 + 7, 1001).unwrap();
        way.cut_datagrams(44 * DATAGRAM + 1, DATAGRAM).unwrap();
        way.cut_datagrams(50, 1).unwrap();
    }
    for member in [&pair.alice, &pair.bob] {
        no_checksum_was_wrong(member.host());
    }
}

/// By the kernel's own counters.
fn no_checksum_was_wrong(host: &Host) {
    let told = host
        .sh("nstat -asz TcpInCsumErrors UdpInCsumErrors IcmpInCsumErrors IpInHdrErrors")
        .unwrap()
        .stdout;
    let counts: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("Errors"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(counts, ["0"; 4], "{}: {told}", host.name());
}

/// Whether the kernel may hand this member's daemon many packets as one.
fn has_super_packets(member: &Daemon) -> bool {
    let told = member.host().sh("ethtool -k mesh0").unwrap().stdout;
    told.contains("tcp-segmentation-offload: on") && told.contains("tx-udp-segmentation: on")
}

fn switch(host: &Host, device: &str, features: &str) {
    host.sh(&format!("ethtool -K {device} {features}")).unwrap();
}

#[test]
fn a_card_without_checksums_or_segmentation_loses_and_damages_nothing() {
    let pair = Pair::linked("card", OPEN).unwrap();
    let hosts = [pair.alice.host(), pair.bob.host()];
    let whole = frame_size(&pair);
    assert!(whole > 2 * FRAME, "super-packets cross whole: {whole}");
    for features in [
        // Linux before 6.11 refuses trains (UDP_SEGMENT) on such a card; later it cuts them itself.
        "tx off",
        "tx on tso off gso off tx-udp-segmentation off gro on",
        "gro off",
        "tx off rx off sg off",
    ] {
        for host in hosts {
            switch(host, "eth0", features);
        }
        everything_arrives(&pair);
        let size = frame_size(&pair);
        assert!(
            features.contains("tx off") || size <= FRAME,
            "{features}: frames of {size} bytes"
        );
    }
}

/// Bytes of the average frame that comes to bob while alice sends him a stream.
fn frame_size(pair: &Pair) -> u64 {
    let before = pair.bob.host().counters("eth0").unwrap();
    Traffic::between(&pair.alice, &pair.bob)
        .and_then(|way| way.stream(&[65_536; 48]))
        .unwrap();
    let after = pair.bob.host().counters("eth0").unwrap();
    (after.rx_bytes - before.rx_bytes) / (after.rx_packets - before.rx_packets)
}

#[test]
fn a_kernel_that_refuses_trains_gets_single_datagrams_from_then_on_and_none_is_lost() {
    // A word of the daemons' own may be refused in place of the train.
    let found = (0..5).any(|attempt| first_trains_refused(&format!("refuses{attempt}")));
    assert!(found, "the first train was never the first to be sent");
}

/// Lets a kernel refuse what is sent first; whether that was the train.
fn first_trains_refused(name: &str) -> bool {
    let pair = Pair::linked(name, OPEN).unwrap();
    // The train, and the same once more without its congestion mark; a single datagram passes.
    let file = pair.alice.host().dir().join("calls");
    let strace = pair
        .alice
        .host()
        .spawn(
            "strace",
            [
                "-f",
                "-p",
                &pair.alice.process.pid().to_string(),
                "-e",
                "trace=sendmsg",
                "-e",
                "inject=sendmsg:error=EIO:when=1..2",
                "-s1",
                "-o",
                file.to_str().unwrap(),
            ],
        )
        .unwrap();
    strace.wait_for_line("attached", LIMIT).unwrap();
    let way = Traffic::between(&pair.alice, &pair.bob).unwrap();
    way.cut_datagrams(40 * 1001 + 7, 1001).unwrap();
    way.stream(&[65_536; 16]).unwrap();
    let told = std::fs::read_to_string(&file).unwrap();
    let (refused, later): (Vec<&str>, Vec<&str>) = told
        .lines()
        .filter(|line| line.contains("sendmsg") && line.contains(") = "))
        .partition(|line| line.contains("(INJECTED)"));
    assert_eq!(refused.len(), 2, "{told}");
    let trains = |call: &&str| length(call, "iov_len=") > FRAME;
    if !refused.iter().all(trains) {
        return false;
    }
    let sizes: Vec<u64> = later.iter().map(|line| length(line, ") = ")).collect();
    assert!(sizes.len() > 700, "{} calls", sizes.len());
    assert!(sizes.iter().all(|size| *size < FRAME), "{later:?}");
    true
}

/// The number behind `label`.
fn length(line: &str, label: &str) -> u64 {
    let (_, number) = line.split_once(label).unwrap();
    let digits = number.find(|c: char| !c.is_ascii_digit());
    number[..digits.unwrap_or(number.len())].parse().unwrap()
}

#[test]
fn the_interface_may_lose_its_offload_while_it_runs() {
    let pair = Pair::linked("switched", OPEN).unwrap();
    for features in [
        "tso off tx-udp-segmentation off",
        "gso off",
        "tx off sg off",
        "gro off",
        "tx on sg on tso on gso on tx-udp-segmentation on gro on",
    ] {
        for member in [&pair.alice, &pair.bob] {
            switch(member.host(), "mesh0", features);
        }
        let on = has_super_packets(&pair.alice);
        assert_eq!(on, features.contains("tso on"), "{features}");
        everything_arrives(&pair);
    }
}

#[test]
fn an_interface_without_super_packets_at_one_end_gets_packets_with_right_checksums() {
    let pair = Pair::configured("oneend", OPEN, ["", WITHOUT]).unwrap();
    pair.alice.first_echo(&pair.bob, LIMIT).unwrap();
    assert!(has_super_packets(&pair.alice) && !has_super_packets(&pair.bob));
    // Bob's interface is given complete packets: what tcpdump finds wrong was made wrong by meshd.
    let capture = Capture::start(pair.bob.host(), "mesh0", "in", "tcp or udp").unwrap();
    everything_arrives(&pair);
    let way = Traffic::between(&pair.alice, &pair.bob).unwrap();
    way.datagrams(&[777]).unwrap();
    let told = capture.finish("UDP, length 777", 1).unwrap();
    checksums_are_right(&told);
    assert!(told.matches("(correct)").count() > 2000);
    assert!(told.matches("[udp sum ok]").count() > 300);
}

fn checksums_are_right(told: &str) {
    let wrong = |line: &&str| {
        ["incorrect", "bad udp", "bad cksum"]
            .iter()
            .any(|word| line.contains(word))
    };
    let found: Vec<&str> = told.lines().filter(wrong).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn interfaces_without_super_packets_carry_everything() {
    let pair = Pair::configured("bothends", OPEN, [WITHOUT; 2]).unwrap();
    pair.alice.first_echo(&pair.bob, LIMIT).unwrap();
    assert!(!has_super_packets(&pair.alice) && !has_super_packets(&pair.bob));
    everything_arrives(&pair);
}

/// Bob is a router that passes a port on to a machine behind it, as container hosts do. What was merged for his
/// interface is cut again by his kernel, and the machine behind judges what comes out.
#[test]
fn merged_packets_that_are_passed_on_are_whole() {
    let lab = Lab::new("passed").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let pc = lab.internet().public_host("pc").unwrap();
    let home = lab.internet().home("bob", Nat::Open).unwrap();
    let behind = home.host("pc").unwrap();
    let alice = Daemon::up(&pc, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(home.router(), &["--join", &link, "--name", "bob"]).unwrap();
    alice.first_echo(&bob, LIMIT).unwrap();
    pass_on(home.router(), &behind);
    switch(
        home.router(),
        "l2",
        "tx off tso off gso off tx-udp-segmentation off",
    );
    let capture = Capture::start(&behind, "eth0", "in", "tcp or udp").unwrap();
    let before = home.router().counters("mesh0").unwrap();
    let way = Traffic::through(&pc, &behind, bob.ip().unwrap());
    way.stream(&[65_536; 48]).unwrap();
    way.stream(&PIECES.repeat(20)).unwrap();
    way.datagrams(&[1, 2, 3, DATAGRAM - 1, DATAGRAM, DATAGRAM, 577, 9])
        .unwrap();
    way.cut_datagrams(40 * 1001 + 7, 1001).unwrap();
    way.cut_datagrams(50, 1).unwrap();
    let after = home.router().counters("mesh0").unwrap();
    let size = (after.rx_bytes - before.rx_bytes) / (after.rx_packets - before.rx_packets);
    assert!(size > 1400, "packets were merged: {size}");
    way.datagrams(&[777]).unwrap();
    let told = capture.finish("UDP, length 777", 1).unwrap();
    checksums_are_right(&told);
    for host in [&pc, home.router(), &behind] {
        no_checksum_was_wrong(host);
    }
}

/// What is sent to the mesh address of `router` goes to `host`.
fn pass_on(router: &Host, host: &Host) {
    let target = host.address();
    let table = format!(
        "table ip pass {{ chain in {{ type nat hook prerouting priority dstnat;\n\
         iifname mesh0 dnat to {target}\n}}\n}}"
    );
    router.namespace().nft(&table).unwrap();
}

/// Of a super-packet's datagrams only the last comes through, so that there is nothing to merge it with.
#[test]
fn a_checksum_that_was_left_open_is_completed_where_its_packet_arrives_alone() {
    let pair = Pair::linked("alone", OPEN).unwrap();
    // What each can do is told once there are keys, and both may have begun some.
    let gap = Duration::from_millis(200);
    let report = pair.alice.host().ping_each(gap, pair.bob.ip().unwrap(), 10);
    assert_eq!(report.unwrap().received(), 10);
    for host in [pair.alice.host(), pair.bob.host()] {
        switch(
            host,
            "eth0",
            "tso off gso off tx-udp-segmentation off gro off",
        );
    }
    // 1001 bytes with UDP and IP headers, padded to 1040, then 32 of WireGuard and 28 of the outer headers.
    let rule = "table ip alone { chain passing { type filter hook forward priority 0;\nip length 1100 drop\n}\n}";
    pair.lab.internet().router().namespace().nft(rule).unwrap();
    let capture = Capture::start(pair.bob.host(), "mesh0", "in", "udp").unwrap();
    let way = Traffic::between(&pair.alice, &pair.bob).unwrap();
    let lost = way.cut_datagrams(4 * 1001 + 996, 1001);
    lost.expect_err("four of five datagrams were dropped");
    let told = capture.finish("UDP, length 996", 1).unwrap();
    assert!(told.contains("bad udp cksum"), "it is not open: {told}");
    no_checksum_was_wrong(pair.bob.host());
}
