//! The parsers of `mesh-core`, and a whole node in the middle of connecting.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::queue::ecn::Ecn;
use mesh_core::{
    Arrival, Command, Event, Node, NodeConfig, PacketQueue, PeerEntry, RoutingConfig,
    TransmitQueue,
    lan::{
        errors::{Messages, Reason},
        fragments::Fragments,
        ip::IpHeader,
        mss,
        segment::{Checksums, Segments, VNET_HEADER},
    },
    path::{
        gather::Gatherer,
        stun_question::{Reply, read},
    },
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

/// A packet behind the length that its path carries, in two bytes: the MSS is lowered, the packet fragmented, its sender
/// told, and it is cut as TCP is.
pub fn narrow(bytes: &[u8]) {
    let Some((mtu, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let mtu = usize::from(u16::from_be_bytes(*mtu));
    let mut packet = bytes.to_vec();
    let Some(ip) = IpHeader::parse(&packet) else {
        return;
    };
    mss::clamp(&mut packet, &ip, mtu);
    let changed = packet.iter().zip(bytes).filter(|(now, then)| now != then);
    assert!(
        changed.count() <= 4,
        "an MSS and a checksum have two bytes each"
    );
    assert_eq!(packet[..ip.header_len], bytes[..ip.header_len]);
    if let Some(fragments) = Fragments::new(&packet, &ip, mtu) {
        let mut payload = Vec::new();
        for index in 0..fragments.count() {
            let mut piece = vec![0; fragments.len_of(index)];
            fragments.write(index, &mut piece);
            assert!(piece.len() <= mtu.max(ip.header_len));
            payload.extend_from_slice(&piece[ip.header_len..]);
        }
        assert_eq!(payload, packet[ip.header_len..ip.total_len]);
    }
    let mut messages = Messages::default();
    messages.tell(&packet, ip.destination, Reason::TooBig(mtu));
    while let Some(message) = messages.pop() {
        let told = IpHeader::parse(&message).expect("a message is an IP packet");
        assert!(told.destination == ip.source && message.len() <= 1280);
    }
    recut(packet, mtu);
}

fn recut(packet: Vec<u8>, mtu: usize) {
    let mut frame = [vec![0; VNET_HEADER], packet].concat();
    let Ok(mut segments) = Segments::parse(&mut frame) else {
        return;
    };
    if !segments.recut(mtu) {
        return;
    }
    for index in 0..segments.count() {
        let mut packet = vec![0; segments.len_of(index)];
        segments.write(index, Checksums::Complete, &mut packet);
        assert!(packet.len() <= mtu && IpHeader::parse(&packet).is_some());
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

/// What a server answers that was asked about a NAT; with the transaction id of the question.
pub fn stun_question(bytes: &[u8]) {
    let Some(id) = bytes.get(8..20).and_then(|id| id.first_chunk::<12>()) else {
        return assert_eq!(read(bytes, 0), None, "shorter than a header");
    };
    let mut whole = [0; 16];
    whole[4..].copy_from_slice(id);
    let id = u128::from_be_bytes(whole);
    match read(bytes, id) {
        Some(Reply::Binding { other, .. }) => {
            assert!(other.is_none_or(|other| other.port() != 0));
        }
        Some(Reply::Error(code)) => assert!((300..700).contains(&code)),
        None => {}
    }
    assert_eq!(read(bytes, id ^ 1), None, "another question's answer");
}

/// The pieces of a file, each behind its length in two bytes.
pub(crate) fn pieces(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (piece, behind) = behind.split_at(length);
        rest = behind;
        Some(piece)
    })
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
    for (from, datagram) in [PEER, PEER, 99].into_iter().cycle().zip(pieces(bytes)) {
        let arrival = Arrival {
            from: address(from),
            to: address(SELF),
            ecn: Ecn::NotEct,
            stream: None,
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
        if node.poll_timeout().0 <= now {
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
        routing: Some(RoutingConfig::default()),
        hop_limits: true,
        birthday: true,
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
