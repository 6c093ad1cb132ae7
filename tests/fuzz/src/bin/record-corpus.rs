//! Writes what two nodes, a server and a TUN really exchange into `corpus/`, as the start for mutations.
//!
//! Run it after a format has changed: `cargo run -p fuzz --bin record-corpus`. Files of other names stay as they are.

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use fuzz::node::{PEER, SELF, address, connecting};
use mesh_core::queue::ecn::Ecn;
use mesh_core::{Arrival, Command, Event, Node, PacketQueue, TransmitQueue};
use mesh_wire::{
    NodeId,
    carrier::Carrier,
    psk::NetworkPsk,
    relay::{Path as RelayPath, RelayHeader},
    wireguard::cookie_reply,
};

fn main() -> io::Result<()> {
    let (datagrams, signals) = conversation();
    let to_self: Vec<_> = datagrams.iter().filter(|(to, _)| *to == SELF).collect();
    for (number, (_, bytes)) in datagrams.iter().enumerate().take(12) {
        write("frame", &format!("recorded-{number:02}"), bytes)?;
        write("stun_answer", &format!("recorded-{number:02}"), bytes)?;
        write("wireguard", &format!("recorded-{number:02}"), bytes)?;
    }
    write("wireguard", "cookie", &cookie_reply(7, &[1; 24], &[2; 32]))?;
    for (number, (_, bytes)) in to_self.iter().enumerate().take(12) {
        write("node", &format!("recorded-{number:02}"), &framed(bytes))?;
    }
    let all: Vec<u8> = to_self
        .iter()
        .take(12)
        .flat_map(|(_, bytes)| framed(bytes))
        .collect();
    write("node", "recorded-all", &all)?;
    for (number, signal) in signals.iter().enumerate().take(4) {
        write("signal", &format!("recorded-{number}"), signal.as_bytes())?;
    }
    for (name, message) in [
        (
            "ping",
            Carrier::Ping {
                id: 7,
                sent: 1 << 40,
            },
        ),
        (
            "pong",
            Carrier::Pong {
                id: 7,
                sent: 1 << 40,
            },
        ),
        ("features", Carrier::Features { bits: 1 }),
    ] {
        write("carrier", name, &message.encode())?;
        write("ip_header", name, &message.encode())?;
    }
    relay_frames()?;
    let psk = NetworkPsk::from_bytes([42; 32]);
    write("network_psk", "plain", psk.to_text().as_bytes())?;
    let link = format!(
        "http://198.51.100.2:7080/join/my-network?key={}#{}",
        NodeId::from_bytes([3; 32]),
        psk.to_text()
    );
    write("join_link", "plain", link.as_bytes())
}

/// Frames for a relay, with and without an explicit path.
fn relay_frames() -> io::Result<()> {
    for (name, path) in [("routed", None), ("explicit", RelayPath::new(&[7, 8]))] {
        let header = RelayHeader {
            hop_limit: 8,
            source: 1,
            destination: 2,
            frame: 3,
            path,
        };
        let mut frame = vec![0; header.frame_len(48)];
        header.write(&[4; 48], &mut frame);
        write("relay", name, &frame)?;
        write("frame", name, &frame)?;
        write("node", name, &framed(&frame))?;
    }
    Ok(())
}

/// All that two nodes send each other until an echo has passed, each datagram with its receiver, and their signals.
/// Only [`SELF`] is made as the target makes it, so that the target understands what was sent to it.
fn conversation() -> (Vec<(u8, Vec<u8>)>, Vec<String>) {
    let mut now = Instant::now();
    let mut nodes = [
        (SELF, connecting(SELF, PEER, now)),
        (PEER, connecting(PEER, SELF, now)),
    ];
    let (mut datagrams, mut signals) = (Vec::new(), Vec::new());
    let mut transmit = TransmitQueue::new();
    let mut waiting = VecDeque::new();
    for _ in 0..400 {
        for (number, node) in &mut nodes {
            node.handle_timeout(now, &mut transmit);
            take(*number, node, &mut transmit, (&mut waiting, &mut signals));
        }
        while let Some((to, what)) = waiting.pop_front() {
            let (number, node) = &mut nodes[usize::from(to != SELF)];
            match what {
                Message::Datagram(mut bytes) => {
                    let arrival = Arrival {
                        from: address(SELF + PEER - to),
                        to: address(to),
                        ecn: Ecn::NotEct,
                    };
                    let mut packets = PacketQueue::new();
                    datagrams.push((to, bytes.clone()));
                    let train = (&mut bytes[..], usize::MAX);
                    node.handle_train(arrival, train, now, &mut transmit, &mut packets);
                }
                Message::Command(command) => node.handle_command(command, now, &mut transmit),
            }
            take(*number, node, &mut transmit, (&mut waiting, &mut signals));
        }
        now += Duration::from_millis(5);
    }
    (datagrams, signals)
}

enum Message {
    Datagram(Vec<u8>),
    Command(Command),
}

/// Takes what a node wants to send to the other one.
fn take(
    number: u8,
    node: &mut Node,
    transmit: &mut TransmitQueue,
    (waiting, signals): (&mut VecDeque<(u8, Message)>, &mut Vec<String>),
) {
    let other = SELF + PEER - number;
    for train in transmit.trains() {
        for bytes in train.datagrams() {
            waiting.push_back((other, Message::Datagram(bytes.to_vec())));
        }
    }
    transmit.clear();
    while let Some(event) = node.poll_event() {
        if let Event::Signal { signal, .. } = event {
            signals.push(signal.encode());
            let from = NodeId::from_bytes([number; 32]);
            waiting.push_back((other, Message::Command(Command::Signal { from, signal })));
        }
    }
}

/// A datagram behind its length, as the target `node` reads it.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), bytes)
}
