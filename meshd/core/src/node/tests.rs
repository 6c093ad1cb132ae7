use std::net::{IpAddr, SocketAddr};

use mesh_wire::{WireGuardKey, carrier::Carrier};

use super::*;
use crate::{
    Arrival, Command, DropReason, PacketQueue, PeerEntry,
    peer::session::Session,
    queue::ecn::Ecn,
    wireguard::{keypair::Uses, noise::public_key},
};

mod birthday;
mod checksums;
mod forward;
mod knocks;
mod letters;
mod moved;
mod narrow;
mod returning;
mod slept;
mod turn;
mod wireguard;

const PSK: [u8; 32] = [9; 32];
/// `virtio_net_hdr`, all zero.
const VNET: usize = 10;

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 7081))
}

fn virtual_ip(number: u8) -> IpAddr {
    IpAddr::from([10, 100, 0, number])
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn public(number: u8) -> WireGuardKey {
    public_key(&[number; 32])
}

fn entry(number: u8) -> PeerEntry {
    PeerEntry {
        node_id: node_id(number),
        wireguard_key: public(number),
        virtual_ips: vec![virtual_ip(number)],
        instance: 1,
        online: true,
        psk: PSK,
    }
}

fn frame(source: u8, destination: u8) -> Vec<u8> {
    let mut frame = vec![0; VNET];
    frame.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&[10, 100, 0, source, 10, 100, 0, destination]);
    frame.resize(VNET + 40, 0xAB);
    frame
}

/// A node with everything that its daemon would hold for it.
struct Station {
    number: u8,
    node: Node,
    transmit: TransmitQueue,
    received: Vec<Vec<u8>>,
    news: Vec<Event>,
}

impl Station {
    fn new(number: u8, now: Instant) -> Self {
        Self::born_at(1_700_000_000, number, now)
    }

    fn born_at(unix_time: u64, number: u8, now: Instant) -> Self {
        Self::with_key(number, (unix_time, number), now)
    }

    fn with_key(key: u8, (unix_time, number): (u64, u8), now: Instant) -> Self {
        let config = NodeConfig {
            node_id: node_id(number),
            virtual_ips: vec![virtual_ip(number)],
            cidr: "10.100.0.0/16".parse().unwrap(),
            connect_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(25),
            mtu: 1400,
            allow_gcm: false,
            open_checksums: false,
            routing: None,
            hop_limits: true,
            birthday: true,
            unix_time: Duration::from_secs(unix_time),
        };
        Self::with_config(config, key, now)
    }

    /// One that carries for others.
    fn carrying(number: u8, now: Instant) -> Self {
        let config = NodeConfig {
            routing: Some(RoutingConfig::default()),
            ..Self::new(number, now).node.local
        };
        Self::with_config(config, number, now)
    }

    fn with_config(config: NodeConfig, key: u8, now: Instant) -> Self {
        let number = config.node_id.as_bytes()[0];
        let mut station = Self {
            number,
            node: Node::new(config, [key; 32], [number; 32], now),
            transmit: TransmitQueue::new(),
            received: Vec::new(),
            news: Vec::new(),
        };
        station.tell(Command::SetHosts(vec![address(number)]), now);
        station
    }

    fn tell(&mut self, command: Command, now: Instant) {
        self.node.handle_command(command, now, &mut self.transmit);
    }

    fn tun(&mut self, mut frame: Vec<u8>, now: Instant) {
        self.node.handle_tun(&mut frame, now, &mut self.transmit);
    }

    fn datagram(&mut self, from: u8, bytes: &[u8], now: Instant) {
        self.marked_datagram(from, Ecn::NotEct, bytes, now);
    }

    fn marked_datagram(&mut self, from: u8, ecn: Ecn, bytes: &[u8], now: Instant) {
        let arrival = Arrival {
            from: address(from),
            to: address(self.number),
            ecn,
            stream: None,
        };
        let mut packets = PacketQueue::new();
        let mut train = bytes.to_vec();
        let whole = (&mut train[..], bytes.len());
        self.node
            .handle_train(arrival, whole, now, &mut self.transmit, &mut packets);
        self.received
            .extend(packets.iter(&train).map(<[u8]>::to_vec));
    }

    fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let all = self.transmit.trains().iter().flat_map(|train| {
            let to = train.route().dst;
            train.datagrams().map(move |bytes| (to, bytes.to_vec()))
        });
        let all = all.collect();
        self.transmit.clear();
        all
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }

    fn drops(&self, reason: DropReason, now: Instant) -> u64 {
        self.node.status(now).counters.get(reason)
    }
}

/// Two nodes that know each other, in one room without a network between them.
struct Pair {
    now: Instant,
    a: Station,
    b: Station,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self::of([1, 2].map(|number| Station::new(number, now)), now)
    }

    fn of([mut a, mut b]: [Station; 2], now: Instant) -> Self {
        a.tell(Command::SetPeers(vec![entry(2)]), now);
        b.tell(Command::SetPeers(vec![entry(1)]), now);
        Self { now, a, b }
    }

    /// Passes datagrams and signals between the two for a while of their time.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.exchange();
            self.now += Duration::from_millis(5);
            for station in [&mut self.a, &mut self.b] {
                if station.node.poll_timeout().0 <= self.now {
                    station.node.handle_timeout(self.now, &mut station.transmit);
                }
            }
        }
        self.exchange();
    }

    fn exchange(&mut self) {
        for round in 0.. {
            assert!(round < 100, "they never come to rest");
            let moved = pass(&mut self.a, &mut self.b, self.now);
            if !pass(&mut self.b, &mut self.a, self.now) && !moved {
                return;
            }
        }
    }
}

fn pass(from: &mut Station, to: &mut Station, now: Instant) -> bool {
    let (sent, events) = (from.sent(), from.events());
    let moved = !sent.is_empty() || !events.is_empty();
    for (destination, bytes) in sent {
        // What it sends to somebody who is not here is lost.
        if destination == address(to.number) {
            to.datagram(from.number, &bytes, now);
        }
    }
    for event in events {
        if let Event::Signal { signal, .. } = &event {
            let from = node_id(from.number);
            let signal = signal.clone();
            to.tell(Command::Signal { from, signal }, now);
        }
        from.news.push(event);
    }
    moved
}

fn connected() -> Pair {
    linked(Pair::new())
}

fn linked(mut pair: Pair) -> Pair {
    pair.a.tun(frame(1, 2), pair.now);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.b.received, [frame(1, 2)[VNET..].to_vec()]);
    pair
}

#[test]
fn the_first_packet_dials_and_arrives_and_both_sides_tell() {
    let mut pair = connected();
    for (station, other) in [(&pair.a, 2), (&pair.b, 1)] {
        let connected = Event::Connected {
            node: node_id(other),
            endpoint: Some(address(other)),
            relayed: false,
        };
        let times = station
            .news
            .iter()
            .filter(|event| **event == connected)
            .count();
        assert_eq!(times, 1, "{:?}", station.news);
    }
    pair.b.tun(frame(2, 1), pair.now);
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.a.received, [frame(2, 1)[VNET..].to_vec()]);
    let peer = &pair.a.node.status(pair.now).peers[0];
    assert_eq!((peer.tx_bytes, peer.rx_bytes), (40, 40));
    assert_eq!(peer.endpoint, Some(address(2)));
}

#[test]
fn packets_that_wait_are_bounded_and_dropped_when_the_attempt_ends() {
    let mut pair = Pair::new();
    for _ in 0..70 {
        pair.a.tun(frame(1, 2), pair.now);
    }
    assert_eq!(pair.a.drops(DropReason::Unreachable, pair.now), 6);
    let to = node_id(2);
    pair.a.tell(Command::Undeliverable { to }, pair.now);
    assert_eq!(pair.a.drops(DropReason::Unreachable, pair.now), 70);
}

#[test]
fn a_packet_for_nobody_and_one_that_is_no_packet_are_counted() {
    let mut pair = Pair::new();
    pair.a.tun(frame(1, 3), pair.now);
    pair.a.tun(vec![0; 12], pair.now);
    assert_eq!(pair.a.drops(DropReason::NoSuchDestination, pair.now), 1);
    assert_eq!(pair.a.drops(DropReason::MalformedPacket, pair.now), 1);
    // Somebody else may know whose the address is.
    let events = pair.a.events();
    assert!(matches!(events[..], [Event::Sought { .. }]), "{events:?}");
    assert!(pair.a.sent().is_empty());
}

#[test]
fn a_replayed_message_is_delivered_once() {
    let mut pair = connected();
    pair.a.tun(frame(1, 2), pair.now);
    let sent = pair.a.sent();
    let [(_, bytes)] = &sent[..] else {
        panic!("one message: {sent:?}")
    };
    for _ in 0..2 {
        pair.b.datagram(1, bytes, pair.now);
    }
    assert_eq!(pair.b.received.len(), 2, "the first packet and this one");
    assert_eq!(pair.b.drops(DropReason::RefusedMessage, pair.now), 1);
}

#[test]
fn a_message_from_elsewhere_moves_the_path_there() {
    let mut pair = connected();
    pair.a.tun(frame(1, 2), pair.now);
    let sent = pair.a.sent();
    pair.b.datagram(7, &sent[0].1, pair.now);
    assert_eq!(
        pair.b.node.status(pair.now).peers[0].endpoint,
        Some(address(7))
    );
    pair.b.tun(frame(2, 1), pair.now);
    assert_eq!(pair.b.sent()[0].0, address(7));
}

#[test]
fn only_the_owner_of_an_address_may_send_from_it() {
    let mut pair = connected();
    pair.a.tun(frame(3, 2), pair.now);
    pair.a.tun(frame(2, 2), pair.now);
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.b.drops(DropReason::ForgedSource, pair.now), 2);
    assert_eq!(pair.b.received.len(), 1);
}

#[test]
fn an_unknown_message_between_daemons_is_counted() {
    let mut pair = connected();
    let mut carrier = Carrier::Ping { id: 1, sent: 2 }.encode();
    carrier[40] = 200;
    let index = pair.a.node.peers.by_node(&node_id(2)).unwrap();
    pair.a
        .node
        .send_inner(index, &carrier, pair.now, &mut pair.a.transmit);
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.b.drops(DropReason::UnknownCarrier, pair.now), 1);
}

#[test]
fn gossip_reaches_those_with_whom_a_session_stands_and_connects_nobody() {
    let mut pair = connected();
    let message: Box<[u8]> = Box::new([7; 300]);
    let gossip = |to| Command::Gossip {
        to,
        message: message.clone(),
    };
    for to in [None, Some(node_id(2)), Some(node_id(9))] {
        pair.a.tell(gossip(to), pair.now);
    }
    for (_, bytes) in pair.a.sent() {
        pair.b.datagram(1, &bytes, pair.now);
    }
    let heard = pair.b.events();
    let from = node_id(1);
    let expected = Event::Gossip {
        from,
        message: message.clone(),
    };
    assert_eq!(heard, [expected.clone(), expected]);
    pair.a.tell(Command::SetPeers(vec![]), pair.now);
    pair.a.tell(gossip(None), pair.now);
    assert!(pair.a.sent().is_empty());
}

#[test]
fn a_node_that_comes_back_knocks_where_its_peer_was_and_needs_no_signal() {
    let mut pair = connected();
    pair.a = Station::born_at(1_700_000_100, 1, pair.now);
    pair.a.tell(Command::SetPeers(vec![entry(2)]), pair.now);
    let knock = |node, at| Command::Knock { node, at };
    pair.a.tell(knock(node_id(2), address(2)), pair.now);
    // Nothing but datagrams passes.
    for _ in 0..4 {
        for (_, bytes) in pair.a.sent() {
            pair.b.datagram(1, &bytes, pair.now);
        }
        for (_, bytes) in pair.b.sent() {
            pair.a.datagram(2, &bytes, pair.now);
        }
    }
    pair.b.received.clear();
    pair.a.tun(frame(1, 2), pair.now);
    for (_, bytes) in pair.a.sent() {
        pair.b.datagram(1, &bytes, pair.now);
    }
    assert_eq!(pair.b.received.len(), 1);
    assert!(
        pair.a
            .events()
            .iter()
            .all(|event| !matches!(event, Event::Signal { .. }))
    );
    // A session stands, and nobody knocks at strangers or inside the tunnel.
    for (node, at) in [
        (2, address(2)),
        (9, address(9)),
        (2, ([10, 100, 0, 2], 1).into()),
    ] {
        pair.a.tell(knock(node_id(node), at), pair.now);
    }
    assert!(pair.a.sent().is_empty());
    // It stands, but from an address that is gone.
    pair.a.tell(Command::SetHosts(vec![address(7)]), pair.now);
    pair.a.sent();
    pair.a.tell(knock(node_id(2), address(8)), pair.now);
    let sent = pair.a.sent();
    assert!(
        sent.iter()
            .any(|(to, bytes)| *to == address(8) && bytes[0] == 1)
    );
}

#[test]
fn a_member_that_leaves_is_forgotten_with_its_session() {
    let mut pair = connected();
    pair.a.tell(Command::SetPeers(Vec::new()), pair.now);
    assert_eq!(pair.a.node.peer_ids().count(), 0);
    pair.b.tun(frame(2, 1), pair.now);
    pair.run(Duration::from_millis(5));
    assert!(pair.a.received.is_empty());
    assert_eq!(pair.a.drops(DropReason::RefusedMessage, pair.now), 1);
    let (_, what_for) = pair.a.node.poll_timeout();
    assert_eq!(
        what_for, "a look at the clock",
        "nothing is left to wait for"
    );
}

#[test]
fn a_path_that_only_an_initiation_spoke_for_does_not_keep_us_from_dialling() {
    let mut pair = Pair::new();
    let config = KeyConfig {
        private: [2; 32],
        uses: Uses::default(),
        unix_time: Duration::from_secs(1_700_000_000),
    };
    let mut keys = SessionKeys::new(config, [3; 32], pair.now);
    let mut session = Session::new(public(1), PeerIdx::new(0), PSK, Duration::ZERO);
    let initiation = session.initiate(&mut keys, pair.now).unwrap();
    pair.a.datagram(2, &initiation, pair.now);
    assert_eq!(pair.a.sent().len(), 1, "the response, which is lost");
    pair.a.tun(frame(1, 2), pair.now);
    let kinds: Vec<_> = pair.a.sent().iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(kinds, [1], "a handshake of our own");
    let events = pair.a.events();
    assert!(matches!(events[..], [Event::Signal { .. }]), "{events:?}");
}

#[test]
fn a_message_that_comes_through_the_mesh_itself_moves_no_path() {
    let mut pair = connected();
    pair.b.tun(frame(2, 1), pair.now);
    let (_, mut message) = pair.b.sent().remove(0);
    let inside = Arrival {
        from: SocketAddr::new(virtual_ip(2), 9999),
        to: SocketAddr::new(virtual_ip(1), 7081),
        ecn: Ecn::NotEct,
        stream: None,
    };
    let (a, mut packets) = (&mut pair.a, PacketQueue::new());
    let whole = (&mut message[..], usize::MAX);
    a.node
        .handle_train(inside, whole, pair.now, &mut a.transmit, &mut packets);
    assert!(packets.is_empty());
    assert_eq!(a.drops(DropReason::InsideTunnel, pair.now), 1);
    assert_eq!(a.node.status(pair.now).peers[0].endpoint, Some(address(2)));
}

#[test]
fn one_member_comes_and_goes_without_touching_the_others() {
    let mut pair = connected();
    pair.a.tell(Command::SetPeer(entry(3)), pair.now);
    assert_eq!(pair.a.node.peer_ids().count(), 2);
    pair.a.tell(Command::RemovePeer(node_id(3)), pair.now);
    pair.a.tun(frame(1, 2), pair.now);
    pair.run(Duration::from_millis(5));
    assert_eq!(pair.b.received.len(), 2);
}

#[test]
fn a_congestion_mark_goes_out_with_the_packet_and_one_from_the_network_comes_in() {
    for (inner, outer, comes_in) in [
        (Ecn::Ect0, Ecn::Ce, Some(Ecn::Ce)),
        (Ecn::Ect1, Ecn::Ect0, Some(Ecn::Ect1)),
        (Ecn::NotEct, Ecn::Ce, None),
    ] {
        let mut pair = connected();
        let mut marked = frame(1, 2);
        marked[VNET + 1] = 0xB8 | inner.bits();
        pair.a.tun(marked, pair.now);
        let train = &pair.a.transmit.trains()[0];
        assert_eq!(train.ecn(), inner);
        let (_, bytes) = pair.a.sent().remove(0);
        pair.b.marked_datagram(1, outer, &bytes, pair.now);
        let arrived = pair.b.received.get(1).map(|packet| packet[1]);
        assert_eq!(arrived, comes_in.map(|mark| 0xB8 | mark.bits()));
        let dropped = pair.b.drops(DropReason::Congestion, pair.now);
        assert_eq!(dropped, u64::from(comes_in.is_none()));
    }
}

#[test]
fn padding_never_makes_a_packet_longer_than_the_mtu_allows() {
    for (len, sealed) in [(40, 48), (1396, 1400), (1400, 1400), (1408, 1408)] {
        let mut pair = connected();
        let mut packet = frame(1, 2);
        packet.resize(VNET + len, 0xAB);
        let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
        packet[VNET + 2..VNET + 4].copy_from_slice(&[high, low]);
        pair.a.tun(packet.clone(), pair.now);
        let (_, bytes) = pair.a.sent().remove(0);
        assert_eq!(bytes.len(), sealed + 32, "{len}");
        pair.b.datagram(1, &bytes, pair.now);
        assert_eq!(pair.b.received.last(), Some(&packet[VNET..].to_vec()));
    }
}
