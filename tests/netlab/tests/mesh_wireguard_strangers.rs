//! What can somebody do with a member's port who sees all packets and has no key: send them again, or handshakes without end?
//! The edges of all this are in `mesh-core`; here it meets the real sockets. `docs/TESTING.md` says which scenario is where.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use mesh_core::wireguard::{mac::Stamp, noise::public_key};
use mesh_wire::{
    WireGuardKey,
    wireguard::{COOKIE_REPLY, INITIATION, NOISE_INITIATION, initiation},
};
use netlab::{Capture, Daemon, Discovery, Host, Lab, wait_until};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

const LIMIT: Duration = Duration::from_secs(10);
const PORT: u16 = 7081;
/// The header of a pcap file, of a packet in it, and of an Ethernet frame.
const HEADERS: [usize; 3] = [24, 16, 14];
/// Of IPv4 without options, and of UDP.
const OUTER: [usize; 2] = [20, 8];

/// Two members with public addresses, a stranger, and a server.
struct Scene {
    alice: Daemon,
    bob: Daemon,
    stranger: Host,
    _discovery: Discovery,
    /// Last, so that it is dropped last.
    _lab: Lab,
}

/// `prepare` is called with alice's and bob's host before anything runs there.
fn scene(name: &str, prepare: impl FnOnce([&Host; 2])) -> Scene {
    let lab = Lab::new(name).unwrap();
    let hosts = ["server", "alice", "bob", "stranger"];
    let [server, a, b, stranger] = hosts.map(|name| lab.internet().public_host(name).unwrap());
    let discovery = Discovery::start(&server).unwrap();
    prepare([&a, &b]);
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    Scene {
        alice,
        bob,
        stranger,
        _discovery: discovery,
        _lab: lab,
    }
}

/// Pings fifty times a second; every one must be answered. As fast as answers come, ping would wait for the last one no longer than
/// two round trips, which is too short on a machine that is busy.
fn flood(from: &Daemon, to: &Daemon, count: u32) {
    let line = format!("ping -n -i 0.02 -q -c {count} {}", to.virtual_ip);
    let told = from.host().try_sh(&line).unwrap().stdout;
    assert!(told.contains(" 0% packet loss"), "{line}: {told}");
}

fn counter(of: &Daemon, name: &str) -> u64 {
    of.status().unwrap()["counters"][name].as_u64().unwrap()
}

fn at(daemon: &Daemon) -> SocketAddrV4 {
    SocketAddrV4::new(daemon.host().address(), PORT)
}

/// The WireGuard messages of a capture, with the headers before them: those whose UDP header is behind one of IPv4.
fn messages(host: &Host) -> Vec<Vec<u8>> {
    let file = std::fs::read(host.dir().join("eth0-in.pcap")).unwrap();
    let [begin, record, frame] = HEADERS;
    let mut rest = &file[begin..];
    let mut found = Vec::new();
    while rest.len() >= record {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let packet = &rest[record + frame..record + len];
        let message = payload(packet);
        let is_stun = message.get(4..8) == Some(&[0x21, 0x12, 0xA4, 0x42]);
        if (1..=4).contains(&message[0]) && !is_stun {
            found.push(packet.to_vec());
        }
        rest = &rest[record + len..];
    }
    found
}

/// Sends IP packets again, exactly as they were: from the machine that they came from, and thus with its address.
fn replay(from: &Host, to: Ipv4Addr, packets: &[Vec<u8>]) {
    let raw = || {
        let raw = SockProtocol::Raw;
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), raw)
    };
    let socket = from.namespace().enter(raw).unwrap().unwrap();
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    for packet in packets {
        let sent = sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty()).unwrap();
        assert_eq!(sent, packet.len());
    }
}

/// Packets that the daemon has given to its interface.
fn delivered(to: &Daemon) -> u64 {
    to.host().counters("mesh0").unwrap().rx_packets
}

/// What comes after the headers of IP and UDP.
fn payload(packet: &[u8]) -> &[u8] {
    &packet[OUTER[0] + OUTER[1]..]
}

/// A scene in which handshake and packets were captured at alice, and at bob.
fn taped(name: &str) -> (Scene, [Vec<Vec<u8>>; 2]) {
    let mut captures = Vec::new();
    let scene = scene(name, |hosts| {
        for host in hosts {
            // What is captured has crossed the cable with its checksum, one packet a frame.
            host.sh("ethtool -K eth0 tx off tso off gso off gro off tx-udp-segmentation off")
                .unwrap();
            let filter = format!("udp dst port {PORT}");
            captures.push(Capture::start(host, "eth0", "in", &filter).unwrap());
        }
    });
    scene.alice.first_echo(&scene.bob, LIMIT).unwrap();
    flood(&scene.alice, &scene.bob, 50);
    flood(&scene.bob, &scene.alice, 50);
    for capture in captures {
        capture.finish("UDP, length 128", 100).unwrap();
    }
    let tapes = [&scene.alice, &scene.bob].map(|at| messages(at.host()));
    for kind in [1, 2, 4] {
        let mut all = tapes.iter().flatten();
        assert!(
            all.any(|packet| payload(packet)[0] == kind),
            "none of type {kind}"
        );
    }
    (scene, tapes)
}

#[test]
fn packets_that_are_sent_again_do_nothing_while_it_runs_and_after_a_restart() {
    let (mut scene, tapes) = taped("wgreplay");
    let both = [(&scene.alice, &scene.bob), (&scene.bob, &scene.alice)];
    for ((at, peer), packets) in both.into_iter().zip(&tapes) {
        assert!(packets.len() > 100, "{}", packets.len());
        let before = (delivered(at), counter(at, "refused_message"));
        is_there(at, peer);
        replay(peer.host(), at.host().address(), packets);
        shout(&scene.stranger, at, packets);
        wait_until("all are refused", LIMIT, || {
            let refused = counter(at, "refused_message") - before.1;
            Ok(refused >= 2 * packets.len() as u64)
        })
        .unwrap();
        assert_eq!(delivered(at), before.0);
        // By the status that has counted them all, or a later one.
        is_there(at, peer);
    }
    flood(&scene.alice, &scene.bob, 20);
    // Whoever is started again has forgotten what it has heard; the one who repeats it gains nothing by that.
    for (started, packets) in tapes.iter().enumerate() {
        let daemon = match started {
            0 => &mut scene.alice,
            _ => &mut scene.bob,
        };
        daemon.kill().unwrap();
        *daemon = Daemon::up(&daemon.host().clone(), &[]).unwrap();
        shout(&scene.stranger, daemon, packets);
        scene.alice.first_echo(&scene.bob, LIMIT).unwrap();
        flood(&scene.bob, &scene.alice, 20);
    }
    is_there(&scene.alice, &scene.bob);
    is_there(&scene.bob, &scene.alice);
}

/// Waits until the status, which is made once a second, shows the peer where it is.
fn is_there(from: &Daemon, to: &Daemon) {
    let place = at(to).to_string();
    wait_until(&format!("{} is at {place}", to.name), LIMIT, || {
        Ok(from.peer(&to.name)?["endpoint"] == place.as_str())
    })
    .unwrap();
}

/// Sends what packets hold once more, from a stranger's own address.
fn shout(from: &Host, to: &Daemon, packets: &[Vec<u8>]) {
    let socket = from
        .namespace()
        .enter(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    for packet in packets {
        socket
            .send_to(payload(packet), SocketAddr::from(at(to)))
            .unwrap();
    }
}

/// What a member's handshakes are addressed to. A network's members know it of each other.
fn key_of(daemon: &Daemon) -> WireGuardKey {
    let text = std::fs::read_to_string(daemon.state_dir().join("identity.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let private = file["wireguard_key"].as_str().unwrap();
    let private = BASE64.decode(private.as_bytes()).unwrap();
    public_key(&private.try_into().unwrap())
}

/// What a stranger has sent, and has been sent.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    came: usize,
    cookies: usize,
}

/// Sends two members a thousand initiations a second each, and of a length now and then that no message has, until told to stop.
fn besiege(from: &Host, targets: [(SocketAddrV4, WireGuardKey); 2], stop: &AtomicBool) -> Tally {
    let socket = from
        .namespace()
        .enter(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut tally, mut stamps) = (Tally::default(), targets.map(|(_, key)| Stamp::new(&key)));
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..10 {
            for ((to, _), stamp) in targets.iter().zip(&mut stamps) {
                let mut message = initiation(9, &[7; NOISE_INITIATION]);
                stamp.stamp(&mut message, Instant::now());
                // A full buffer of its own loses the stranger's datagrams, not the members'.
                let _lost = socket.send_to(&message, SocketAddr::from(*to));
                tally.sent += INITIATION;
            }
        }
        for (to, _) in &targets {
            let _lost = socket.send_to(&[4; 65_507], SocketAddr::from(*to));
        }
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            tally.came += len;
            tally.cookies += usize::from(buffer[0] == 3 && len == COOKIE_REPLY);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tally
}

#[test]
fn a_flood_of_handshakes_and_of_giant_datagrams_keeps_nobody_out() {
    let mut scene = scene("wgflood", |_| {});
    scene.alice.first_echo(&scene.bob, LIMIT).unwrap();
    let targets = [&scene.alice, &scene.bob].map(|daemon| (at(daemon), key_of(daemon)));
    let (stop, stranger) = (AtomicBool::new(false), scene.stranger.clone());
    let tally = std::thread::scope(|scope| {
        let siege = scope.spawn(|| besiege(&stranger, targets, &stop));
        // Set also when this panics: the scope waits for the siege.
        let end = Ending(&stop);
        wait_until("both are busy", LIMIT, || {
            let refused = |daemon| counter(daemon, "refused_message") > 300;
            Ok(refused(&scene.alice) && refused(&scene.bob))
        })
        .unwrap();
        flood(&scene.alice, &scene.bob, 200);
        for _ in 0..2 {
            scene.bob.kill().unwrap();
            scene.bob = Daemon::up(&scene.bob.host().clone(), &[]).unwrap();
            let took = scene.bob.first_echo(&scene.alice, LIMIT).unwrap();
            println!("back under a flood after {} ms", took.as_millis());
            flood(&scene.bob, &scene.alice, 50);
        }
        drop(end);
        siege.join().unwrap()
    });
    assert!(
        tally.cookies > 100,
        "nobody was asked for a proof: {tally:?}"
    );
    assert!(tally.came < tally.sent / 2, "{tally:?}");
}

/// Ends the siege when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
