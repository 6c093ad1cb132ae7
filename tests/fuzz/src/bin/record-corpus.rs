//! Writes what two nodes, a server and a TUN really exchange into `corpus/`, as the start for mutations.
//!
//! Run it after a format has changed: `cargo run -p fuzz --bin record-corpus`. Files of other names stay as they are.

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use fuzz::{
    node::{PEER, SELF, address, connecting},
    relayed::{channel_data, indication},
};
use mesh_core::queue::ecn::Ecn;
use mesh_core::{Arrival, Command, Event, Node, PacketQueue, TransmitQueue};
use mesh_wire::{
    NodeId, WireGuardKey,
    carrier::{BirthdayStep, Carrier, DirectPath},
    join_link::{Admission, JoinLink, parse_server},
    lan::{
        Announcement, LanKey,
        dns::{Service, question},
    },
    letter::{Content, Letter},
    peer_info::PeerRecord,
    psk::NetworkPsk,
    relay::{Path as RelayPath, RelayHeader},
    trust::{
        Binding, Capability, Certificate, Forwarded, Gossip, Invite, InviteTerms, Issuer, ListView,
        Revocation, Roles, Root, Span, default_mac,
    },
    wireguard::cookie_reply,
};

fn main() -> io::Result<()> {
    let (datagrams, letters) = conversation();
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
    relayed(&to_self)?;
    for (number, letter) in letters.iter().enumerate().take(4) {
        write("letter", &format!("recorded-{number}"), letter)?;
    }
    carriers()?;
    relay_frames()?;
    statements()?;
    let psk = NetworkPsk::from_bytes([42; 32]);
    write("network_psk", "plain", psk.to_text().as_bytes())?;
    write(
        "join_link",
        "without-key",
        format!("http://198.51.100.2:7080/join/my-network#{}", psk.to_text()).as_bytes(),
    )
}

/// What daemons say to each other.
fn carriers() -> io::Result<()> {
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
        (
            "direct",
            Carrier::Direct {
                finding: DirectPath::NoWorse,
            },
        ),
        (
            "birthday",
            Carrier::Birthday {
                step: BirthdayStep::Consent,
                attempt: 1 << 40,
            },
        ),
        ("features", Carrier::Features { bits: 1 }),
        (
            "gossip",
            Carrier::Gossip {
                message: [5; 40].into(),
            },
        ),
    ] {
        write("carrier", name, &message.encode())?;
        write("ip_header", name, &message.encode())?;
    }
    Ok(())
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

/// A link with an invite of these terms, whose key is number 5.
fn join_link(root: &Root, terms: &InviteTerms) -> io::Result<()> {
    let wrong = io::Error::other;
    let signer = |number: u8| SigningKey::from_bytes(&[number; 32]);
    let by_network = Invite::sign(root, &signer(1), None, terms).map_err(wrong)?;
    let link = JoinLink {
        server: parse_server("198.51.100.2").map_err(wrong)?,
        others: Vec::new(),
        network: root.network.clone(),
        admission: Some(Admission {
            network_key: root.key,
            capability: Capability::new(signer(5), by_network).map_err(wrong)?,
        }),
        psk: NetworkPsk::from_bytes([42; 32]),
    };
    write("join_link", "plain", link.to_text().as_bytes())
}

/// Certificates of each kind of issuer and revocations, of the network with key 1.
fn statements() -> io::Result<()> {
    let signer = |number: u8| SigningKey::from_bytes(&[number; 32]);
    let root = Root {
        network: "my-network".parse().map_err(io::Error::other)?,
        key: NodeId::of(&signer(1)),
    };
    let binding = |number: u8| Binding {
        node_id: NodeId::of(&signer(number)),
        wireguard_key: WireGuardKey::from_bytes([number; 32]),
        name: format!("node-{number}"),
        virtual_ips: vec![[10, 100, 0, number].into()],
        mac: default_mac(&NodeId::of(&signer(number))),
        roles: Roles::all(),
        subnets: Vec::new(),
        span: Span {
            from: 100,
            until: 200,
        },
        serial: 7,
    };
    let terms = InviteTerms {
        key: NodeId::of(&signer(5)),
        uses: Some(1),
        roles: Roles::all(),
        span: Span {
            from: 100,
            until: 200,
        },
    };
    let wrong = io::Error::other;
    join_link(&root, &terms)?;
    let admin =
        Certificate::sign(&root, &signer(1), &Issuer::Network, &binding(9)).map_err(wrong)?;
    let invite = Invite::sign(&root, &signer(9), Some(&admin), &terms).map_err(wrong)?;
    for (name, key, issuer) in [
        ("network", 1, Issuer::Network),
        ("invite", 5, Issuer::Invite(Box::new(invite))),
        ("admin", 9, Issuer::Admin(Box::new(admin.clone()))),
    ] {
        let made = Certificate::sign(&root, &signer(key), &issuer, &binding(2)).map_err(wrong)?;
        write("certificate", name, made.as_bytes())?;
        let letter = Letter {
            number: (7, 1),
            content: Content::Certificate(made.to_text()),
        };
        write("letter", &format!("certificate-{name}"), &letter.to_bytes())?;
        write("certificate", "cut", &made.as_bytes()[..80])?;
        on_the_lan(&root, name, &made)?;
    }
    gossip(&root, &admin)
}

/// What the member with this certificate, whose key is number 2, says on its LAN.
fn on_the_lan(root: &Root, name: &str, certificate: &Certificate) -> io::Result<()> {
    let wrong = io::Error::other;
    let key = LanKey::of(&NetworkPsk::from_bytes([42; 32]));
    let signer = SigningKey::from_bytes(&[2; 32]);
    let words = ("alice", Some(certificate));
    let wireguard_key = certificate.binding.wireguard_key;
    let record = PeerRecord::sign_with(&signer, &root.network, wireguard_key, words, (7, 8));
    let announcement = Announcement {
        count: 1,
        ports: vec![7081, 7082],
        addresses: vec![
            [192, 168, 1, 2].into(),
            [0xfd00_u16, 0, 0, 0, 0, 0, 0, 2].into(),
        ],
        record: record.map_err(wrong)?,
    };
    let plain = announcement.to_bytes().map_err(wrong)?;
    write("lan_announcement", name, &plain)?;
    write("lan_announcement", "cut", &plain[..60])?;
    let instance = key.instance(&announcement.record.node_id, 20_000);
    let service = Service {
        sealed: key
            .seal(&instance, &announcement, (&signer, [9; 24]))
            .map_err(wrong)?,
        instance: instance.clone(),
        port: 7081,
        addresses: announcement.addresses,
    };
    write("lan_packet", name, &service.answer())?;
    write("lan_packet", "goodbye", &service.goodbye())?;
    write("lan_packet", "question", &question(&[instance]))
}

/// Revocations and a letter, alone and as members pass them on.
fn gossip(root: &Root, admin: &Certificate) -> io::Result<()> {
    let wrong = io::Error::other;
    let signer = |number: u8| SigningKey::from_bytes(&[number; 32]);
    let letter = Forwarded {
        hops: 3,
        from: NodeId::of(&signer(2)),
        to: NodeId::of(&signer(9)),
        sealed: [6; 80].into(),
    };
    write("gossip", "letter", &Gossip::Letter(letter).to_bytes())?;
    let list = ListView::whole([NodeId::of(&signer(2))].iter());
    write("gossip", "list", &Gossip::List(list).to_bytes())?;
    let revoked = (&NodeId::of(&signer(2)), 150);
    for (name, key, admin) in [("network", 1, None), ("admin", 9, Some(admin))] {
        let made = Revocation::sign(root, &signer(key), admin, revoked).map_err(wrong)?;
        write("revocation", name, made.as_bytes())?;
        let gossip = Gossip::Revocation(made.clone());
        write("gossip", name, &gossip.to_bytes())?;
        write("revocation", "cut", &made.as_bytes()[..40])?;
    }
    Ok(())
}

/// The same by way of a TURN server: all in indications, and all but the first on the channel that this one binds.
fn relayed(to_self: &[&(u8, Bytes)]) -> io::Result<()> {
    let mut mixed = Vec::new();
    for (number, (_, bytes)) in to_self.iter().enumerate().take(12) {
        let [wrapped, on_channel] = [indication(bytes), channel_data(bytes)].map(|b| framed(&b));
        write("turn_relayed", &format!("indication-{number:02}"), &wrapped)?;
        write("turn_relayed", &format!("channel-{number:02}"), &on_channel)?;
        mixed.extend(match number {
            0 => wrapped,
            _ => on_channel,
        });
    }
    write("turn_relayed", "mixed", &mixed)?;
    let twice = indication(&indication(to_self.first().map_or(&[][..], |(_, b)| b)));
    write("turn_relayed", "twice", &framed(&twice))?;
    let long = [&channel_data(&[1; 9])[..], &[0; 3]].concat();
    write("turn_relayed", "padded", &framed(&long))?;
    write("turn_relayed", "short", &framed(&[0x40, 0, 0, 9, 1]))
}

type Bytes = Vec<u8>;

/// All that two nodes send each other until an echo has passed, each datagram with its receiver, and their letters.
/// Only [`SELF`] is made as the target makes it, so that the target understands what was sent to it.
fn conversation() -> (Vec<(u8, Bytes)>, Vec<Bytes>) {
    let mut now = Instant::now();
    let mut nodes = [
        (SELF, connecting(SELF, PEER, now)),
        (PEER, connecting(PEER, SELF, now)),
    ];
    let (mut datagrams, mut letters) = (Vec::new(), Vec::new());
    let mut transmit = TransmitQueue::new();
    let mut waiting = VecDeque::new();
    for _ in 0..400 {
        for (number, node) in &mut nodes {
            node.handle_timeout(now, &mut transmit);
            take(*number, node, &mut transmit, (&mut waiting, &mut letters));
        }
        while let Some((to, what)) = waiting.pop_front() {
            let (number, node) = &mut nodes[usize::from(to != SELF)];
            match what {
                Message::Datagram(mut bytes) => {
                    let arrival = Arrival {
                        from: address(SELF + PEER - to),
                        to: address(to),
                        ecn: Ecn::NotEct,
                        stream: None,
                    };
                    let mut packets = PacketQueue::new();
                    datagrams.push((to, bytes.clone()));
                    let train = (&mut bytes[..], usize::MAX);
                    node.handle_train(arrival, train, now, &mut transmit, &mut packets);
                }
                Message::Command(command) => node.handle_command(command, now, &mut transmit),
            }
            take(*number, node, &mut transmit, (&mut waiting, &mut letters));
        }
        now += Duration::from_millis(5);
    }
    (datagrams, letters)
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
    (waiting, letters): (&mut VecDeque<(u8, Message)>, &mut Vec<Vec<u8>>),
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
            let letter = Letter {
                number: (7, 0),
                content: Content::Signal(signal.clone()),
            };
            letters.push(letter.to_bytes());
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
