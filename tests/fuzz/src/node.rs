//! The parsers of `mesh-core`, and a whole node in the middle of connecting.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::queue::ecn::Ecn;
use mesh_core::{
    Arrival, Command, Event, Node, NodeConfig, PacketQueue, PeerEntry, TransmitQueue,
    lan::{
        ip::IpHeader,
        segment::{Checksums, Segments},
    },
    path::gather::Gatherer,
    wireguard::noise::public_key,
};
use mesh_wire::NodeId;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// The number of the node that is fed, and of its peer. The smaller one begins handshakes.
pub const SELF: u8 = 2;
/// See [`SELF`].
pub const PEER: u8 = 1;

/// `IpHeader::parse`.
pub fn ip_header(bytes: &[u8]) {
    if let Some(header) = IpHeader::parse(bytes) {
        assert!(header.header_len >= 20 && header.header_len <= bytes.len());
        assert_eq!(header.source.is_ipv4(), header.destination.is_ipv4());
    }
}

/// `Segments::parse`, and every segment.
pub fn segments(bytes: &[u8]) {
    let mut frame = bytes.to_vec();
    let Ok(segments) = Segments::parse(&mut frame) else {
        return;
    };
    let ip = segments.ip();
    for index in 0..segments.count() {
        let mut packet = vec![0; segments.len_of(index)];
        segments.write(index, Checksums::Open, &mut packet);
        segments.write(index, Checksums::Complete, &mut packet);
        assert!(
            packet.len() <= bytes.len(),
            "a segment is no longer than the whole"
        );
        let header = IpHeader::parse(&packet).expect("a segment has the header of the whole");
        assert_eq!(
            (header.source, header.destination),
            (ip.source, ip.destination)
        );
    }
}

/// What a STUN server, or whoever stands in its place, answers to our request; with the right transaction id and
/// with its own.
pub fn stun_answer(bytes: &[u8]) {
    let now = Instant::now();
    let server = SocketAddr::from(([198, 51, 100, 2], 3478));
    let mut gatherer = Gatherer::default();
    gatherer.set_hosts(vec![address(SELF)], now);
    gatherer.set_servers(&[server], now);
    let mut transmit = TransmitQueue::new();
    gatherer.handle_timeout(now, &mut ChaCha8Rng::seed_from_u64(1), &mut transmit);
    let request: Vec<u8> = transmit
        .trains()
        .iter()
        .flat_map(|t| t.contents().to_vec())
        .collect();
    gatherer.handle_response((server, address(SELF)), bytes, now);
    let mut answer = bytes.to_vec();
    if let (Some(id), Some(asked)) = (answer.get_mut(8..20), request.get(8..20)) {
        id.copy_from_slice(asked);
    }
    gatherer.handle_response((server, address(SELF)), &answer, now);
    assert!(gatherer.reflexive().len() <= 1, "one server, one address");
    assert!(gatherer.poll_timeout().is_some_and(|at| at > now));
}

/// Datagrams, each behind its length in two bytes, for a node that is connecting to one peer: two from the peer's
/// address, then one from a stranger's.
pub fn datagrams(bytes: &[u8]) {
    feed(bytes);
}

/// Does what [`datagrams`] says and returns the node.
pub fn feed(bytes: &[u8]) -> Node {
    let mut now = Instant::now();
    let mut node = signalled(now);
    let (mut transmit, mut packets) = (TransmitQueue::new(), PacketQueue::new());
    let peer = node.peer_ids().next();
    let mut rest = bytes;
    for from in [PEER, PEER, 99].into_iter().cycle() {
        let Some((length, behind)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (datagram, behind) = behind.split_at(length);
        rest = behind;
        let arrival = Arrival {
            from: address(from),
            to: address(SELF),
            ecn: Ecn::NotEct,
        };
        let mut train = datagram.to_vec();
        let stride = train.len();
        node.handle_train(
            arrival,
            (&mut train, stride),
            now,
            &mut transmit,
            &mut packets,
        );
        let sent: usize = transmit
            .trains()
            .iter()
            .map(|t| t.datagrams().count())
            .sum();
        assert!(sent <= 8, "{sent} datagrams for one");
        transmit.clear();
        now += Duration::from_millis(10);
        if node.poll_timeout().is_some_and(|(at, _)| at <= now) {
            node.handle_timeout(now, &mut transmit);
        }
        transmit.clear();
        assert!(
            packets
                .iter(&train)
                .all(|packet| IpHeader::parse(packet).is_some())
        );
        packets.clear();
        while node.poll_event().is_some() {}
    }
    assert_eq!(
        node.peer_ids().next(),
        peer,
        "no datagram changes who is a member"
    );
    node
}

/// The node [`SELF`] in the middle of connecting: it knows the credentials and candidates of [`PEER`].
pub(crate) fn signalled(now: Instant) -> Node {
    let mut node = connecting(SELF, PEER, now);
    let mut peer = connecting(PEER, SELF, now);
    while let Some(event) = peer.poll_event() {
        if let Event::Signal { signal, .. } = event {
            let from = NodeId::from_bytes([PEER; 32]);
            let command = Command::Signal { from, signal };
            node.handle_command(command, now, &mut TransmitQueue::new());
        }
    }
    node
}

/// A node that has just dialled its only peer. The same numbers give the same credentials.
pub fn connecting(number: u8, peer: u8, now: Instant) -> Node {
    let config = NodeConfig {
        node_id: NodeId::from_bytes([number; 32]),
        virtual_ips: vec![virtual_ip(number)],
        cidr: "10.100.0.0/16".parse().expect("a constant"),
        connect_timeout: Duration::from_secs(30),
        keepalive: Duration::from_secs(25),
        mtu: 1400,
        allow_gcm: true,
        open_checksums: true,
        relay: true,
        unix_time: Duration::from_secs(1_700_000_000),
    };
    let mut node = Node::new(config, [number; 32], [number; 32], now);
    let mut transmit = TransmitQueue::new();
    let entry = PeerEntry {
        node_id: NodeId::from_bytes([peer; 32]),
        wireguard_key: public_key(&[peer; 32]),
        virtual_ips: vec![virtual_ip(peer)],
        instance: 1,
        online: true,
        psk: [9; 32],
    };
    let ping = Command::Ping {
        node: entry.node_id,
        id: 1,
    };
    for command in [
        Command::SetHosts(vec![address(number)]),
        Command::SetPeers(vec![entry]),
        ping,
    ] {
        node.handle_command(command, now, &mut transmit);
    }
    node
}

/// Where the node of this number is.
pub fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 7081))
}

fn virtual_ip(number: u8) -> IpAddr {
    IpAddr::from([10, 100, 0, number])
}
