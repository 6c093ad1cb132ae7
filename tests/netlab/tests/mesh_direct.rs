//! Two machines behind home routers: do they become one LAN, directly and at once, and come back after any end?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Output, Pair, wait_until};
use nix::sys::signal::Signal;

/// Runs a shell line on a host; it must succeed.
fn sh(host: &Host, line: &str) -> Output {
    host.sh(line).unwrap()
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_until(what, limit, || Ok(holds())).unwrap();
}

fn server_bytes(pair: &Pair) -> u64 {
    let counters = pair.server.counters("eth0").unwrap();
    counters.rx_bytes + counters.tx_bytes
}

#[test]
fn port_restricted_homes_are_linked_directly_within_three_seconds() {
    let lab = Lab::new("direct").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let a = lab
        .internet()
        .home("alice", Nat::PortRestricted)
        .unwrap()
        .host("pc")
        .unwrap();
    let b = lab
        .internet()
        .home("bob", Nat::PortRestricted)
        .unwrap()
        .host("pc")
        .unwrap();
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();

    let start = Instant::now();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    bob.first_echo(&alice, Duration::from_secs(3)).unwrap();
    let took = start.elapsed();
    println!("meshd up to first echo: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(3), "{took:?}");

    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let report = from
            .host()
            .ping_each(Duration::from_millis(20), to.ip().unwrap(), 50)
            .unwrap();
        assert_eq!(report.received(), 50, "{report:?}");
        let peer = from.peer(&to.name).unwrap();
        assert_eq!(peer["path"], "direct", "{peer:#}");
    }
}

#[test]
fn tcp_runs_both_ways_and_no_payload_crosses_the_server() {
    let pair = Pair::linked("tcp", [Nat::PortRestricted; 2]).unwrap();
    let before = server_bytes(&pair);
    let iperf = pair
        .bob
        .host()
        .spawn("iperf3", ["-s", "--forceflush"])
        .unwrap();
    iperf
        .wait_for_line("listening", Duration::from_secs(5))
        .unwrap();
    for direction in [&["-t2"][..], &["-t2", "-R"]] {
        let mut command = pair.alice.host().command("iperf3");
        command
            .args(["-c", &pair.bob.virtual_ip, "-J"])
            .args(direction);
        let output = pair
            .alice
            .host()
            .run_command(command, Duration::from_secs(30))
            .unwrap();
        let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        let bits = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .unwrap();
        println!("iperf3 {direction:?}: {:.2} Gbit/s", bits / 1e9);
        assert!(bits > 50e6, "{report:#}");
    }
    let crossed = server_bytes(&pair) - before;
    assert!(
        crossed < 200_000,
        "{crossed} bytes crossed the discovery server"
    );
}

#[test]
fn a_long_conversation_over_tcp_goes_either_way() {
    let pair = Pair::linked("talk", [Nat::PortRestricted; 2]).unwrap();
    for (from, to) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        let address = (to.ip().unwrap(), 2222);
        let listener = to
            .host()
            .namespace()
            .enter(move || TcpListener::bind(address).unwrap())
            .unwrap();
        let mut near = from
            .host()
            .namespace()
            .enter(move || TcpStream::connect(address).unwrap())
            .unwrap();
        let (mut far, _) = listener.accept().unwrap();
        for stream in [&near, &far] {
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
        }
        for turn in 0..200_u32 {
            let word = turn.to_be_bytes();
            let mut heard = [0; 4];
            near.write_all(&word).unwrap();
            far.read_exact(&mut heard).unwrap();
            assert_eq!(heard, word);
            far.write_all(&heard).unwrap();
            near.read_exact(&mut heard).unwrap();
            assert_eq!(heard, word);
        }
    }
}

/// ChannelData of each first byte that it has, of several lengths; returns how many.
fn send_channel_data(target: (Ipv4Addr, u16)) -> u64 {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut sent = 0;
    for first in 0x40..=0x4F {
        for length in [0_u16, 1, 40, 1200] {
            let mut message = vec![first, 0, 0, 0];
            message[2..].copy_from_slice(&length.to_be_bytes());
            message.resize(4 + usize::from(length), first);
            socket.send_to(&message, target).unwrap();
            sent += 1;
        }
    }
    sent
}

#[test]
fn garbage_on_the_mesh_port_is_counted_and_never_logged_or_fatal() {
    let pair = Pair::linked("garbage", [Nat::FullCone, Nat::PortRestricted]).unwrap();
    let target = (pair.alice.host().address(), 7081);
    let before = pair.alice.process.log().len();
    let counter = |reason: &str| {
        let status = pair.alice.status().unwrap();
        status["counters"][reason].as_u64().unwrap()
    };
    // Each channel of TURN from a stranger: no server of alice's relays for it.
    let unknown = counter("unknown_datagram");
    let stranger = pair.alice.host().clone();
    let sent = stranger
        .namespace()
        .enter(move || send_channel_data(target))
        .unwrap();
    until("ChannelData is counted", Duration::from_secs(5), || {
        counter("unknown_datagram") >= unknown + sent
    });
    let neighbour = pair.alice.host().clone();
    neighbour
        .namespace()
        .enter(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let mut byte = 1_u8;
            for len in 0..1400 {
                let datagram: Vec<u8> = (0..len)
                    .map(|_| {
                        byte = byte.wrapping_mul(167).wrapping_add(13);
                        byte
                    })
                    .collect();
                socket.send_to(&datagram, target).unwrap();
                // Each kind of message of the protocols that share the port, damaged.
                for kind in [1, 2, 3, 4] {
                    let mut message = vec![kind, 0, 0, 0];
                    message.extend_from_slice(&datagram);
                    socket.send_to(&message, target).unwrap();
                }
                let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
                stun.extend_from_slice(&datagram);
                socket.send_to(&stun, target).unwrap();
            }
        })
        .unwrap();
    until("the counters rise", Duration::from_secs(5), || {
        ["unknown_datagram", "refused_message", "refused_stun"]
            .iter()
            .all(|reason| counter(reason) > 0)
    });
    let report = pair
        .bob
        .host()
        .ping_each(Duration::from_millis(20), pair.alice.ip().unwrap(), 20)
        .unwrap();
    assert_eq!(report.received(), 20);
    let logged = pair.alice.process.log().len() - before;
    assert!(logged < 2000, "{logged} bytes of log for garbage");
}

#[test]
fn every_way_to_end_leaves_nothing_behind_and_a_restart_needs_no_flag() {
    let mut pair = Pair::linked("restart", [Nat::PortRestricted; 2]).unwrap();
    let host = pair.bob.host().clone();
    for ending in [Some(Signal::SIGINT), Some(Signal::SIGTERM), None] {
        match ending {
            Some(signal) => {
                pair.bob.process.signal(signal).unwrap();
                let status = pair.bob.process.wait(Duration::from_secs(10)).unwrap();
                assert_eq!(status.code(), Some(0), "{signal}");
            }
            None => pair.bob.kill().unwrap(),
        }
        until("the interface is gone", Duration::from_secs(2), || {
            !sh(&host, "ip -o link").stdout.contains("mesh0")
        });
        assert!(
            !sh(&host, "ip route show table all")
                .stdout
                .contains("10.100.0.0")
        );
        let address = pair.bob.virtual_ip.clone();
        let start = Instant::now();
        pair.bob = Daemon::up(&host, &[]).unwrap();
        assert_eq!(pair.bob.virtual_ip, address);
        pair.alice
            .first_echo(&pair.bob, Duration::from_secs(3))
            .unwrap();
        let took = start.elapsed();
        println!("back after {ending:?}: {} ms", took.as_millis());
        assert!(took < Duration::from_secs(3), "{ending:?}: {took:?}");
        pair.bob
            .first_echo(&pair.alice, Duration::from_secs(1))
            .unwrap();
    }
    assert_eq!(pair.alice.ask(&["down"]).unwrap().trim(), "stopped");
}
