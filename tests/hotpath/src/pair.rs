//! How do two nodes come together in one process?

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::{
    Arrival, Command, Event, Node, NodeConfig, PacketQueue, PeerEntry, RoutingConfig,
    TransmitQueue, queue::ecn::Ecn, wireguard::noise::public_key,
};
use mesh_wire::{NodeId, relay::RelayHeader};

use crate::frames::{MTU, datagram};

/// One node with what its daemon would hold for it.
pub struct Station {
    /// The last byte of all its addresses.
    pub number: u8,
    /// The node.
    pub node: Node,
    /// Lent to it.
    pub transmit: TransmitQueue,
    /// Lent to it.
    pub packets: PacketQueue,
}

/// Two nodes with a session between them.
pub struct Pair {
    /// Stands still while walks are timed.
    pub now: Instant,
    /// Number 1.
    pub a: Station,
    /// Number 2.
    pub b: Station,
}

/// Three nodes: `relay` has sessions with both others, which have none with each other.
pub struct Line {
    /// Stands still while walks are timed.
    pub now: Instant,
    /// Number 1.
    pub a: Station,
    /// Number 2.
    pub relay: Station,
    /// Number 3.
    pub c: Station,
}

impl Station {
    fn new(number: u8, allow_gcm: bool, now: Instant) -> Self {
        Self::routing(number, (allow_gcm, None), now)
    }

    /// One that carries for others.
    fn carrying(number: u8, now: Instant) -> Self {
        Self::routing(number, (false, Some(RoutingConfig::default())), now)
    }

    fn routing(
        number: u8,
        (allow_gcm, routing): (bool, Option<RoutingConfig>),
        now: Instant,
    ) -> Self {
        let config = NodeConfig {
            node_id: node_id(number),
            virtual_ips: vec![virtual_ip(number)],
            cidr: "10.100.0.0/16".parse().expect("the constant is a range"),
            connect_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(25),
            mtu: MTU,
            allow_gcm,
            open_checksums: false,
            routing,
            hop_limits: true,
            birthday: true,
            unix_time: Duration::from_secs(1_700_000_000),
        };
        let mut station = Self {
            number,
            node: Node::new(config, [number; 32], [number; 32], now),
            transmit: TransmitQueue::new(),
            packets: PacketQueue::new(),
        };
        let hosts = Command::SetHosts(vec![address(number)]);
        station.tell(hosts, now);
        station
    }

    fn tell(&mut self, command: Command, now: Instant) {
        self.node.handle_command(command, now, &mut self.transmit);
    }

    fn meet(&mut self, peer: u8, now: Instant) {
        let entry = PeerEntry {
            node_id: node_id(peer),
            wireguard_key: public_key(&[peer; 32]),
            virtual_ips: vec![virtual_ip(peer)],
            instance: 1,
            online: true,
            psk: [9; 32],
        };
        self.tell(Command::SetPeer(entry), now);
    }

    /// What it wants sent to `to`, one datagram after the other; the rest is lost.
    fn sent(&mut self, to: u8) -> Vec<Vec<u8>> {
        let trains = self.transmit.trains().iter();
        let trains = trains.filter(|train| train.route().dst == address(to));
        let sent = trains
            .flat_map(|train| train.datagrams().map(<[u8]>::to_vec))
            .collect();
        self.transmit.clear();
        sent
    }

    /// Opens a train that came from `from`; the packets are in `self.packets` afterwards.
    pub fn receive(&mut self, from: u8, (train, stride): (&mut [u8], usize), now: Instant) {
        let arrival = Arrival {
            from: address(from),
            to: address(self.number),
            ecn: Ecn::NotEct,
            stream: None,
        };
        let queues = (&mut self.transmit, &mut self.packets);
        self.node
            .handle_train(arrival, (train, stride), now, queues.0, queues.1);
    }
}

impl Pair {
    /// Links two nodes; with `allow_gcm` they seal with AES-256-GCM.
    ///
    /// # Panics
    /// If they do not come together.
    pub fn linked(allow_gcm: bool) -> Self {
        let now = Instant::now();
        let [a, b] = [1, 2].map(|number| Station::new(number, allow_gcm, now));
        Self::link(a, b, now)
    }

    fn link(a: Station, b: Station, now: Instant) -> Self {
        let mut pair = Self { now, a, b };
        let (from, to) = (pair.a.number, pair.b.number);
        pair.a.meet(to, now);
        pair.b.meet(from, now);
        let mut first = datagram(from, to, 100);
        pair.a
            .node
            .handle_tun(&mut first, now, &mut pair.a.transmit);
        let arrived = (0..400).any(|_| pair.exchange());
        assert!(arrived, "the first packet never arrived");
        // What follows the first packet: keepalives, features.
        while pair.exchange() {}
        pair
    }

    /// Lets the two agree to be neighbours and tell each other of routes.
    fn settled(mut self) -> Self {
        for _ in 0..200 {
            self.exchange();
        }
        for station in [&mut self.a, &mut self.b] {
            station.transmit.clear();
        }
        self
    }

    /// Passes datagrams and signals both ways, then five milliseconds. True if a packet came out at `b`.
    fn exchange(&mut self) -> bool {
        let mut out = false;
        for _ in 0..8 {
            pass(&mut self.a, &mut self.b, self.now);
            pass(&mut self.b, &mut self.a, self.now);
            out |= !self.b.packets.is_empty();
            self.b.packets.clear();
        }
        self.now += Duration::from_millis(5);
        for station in [&mut self.a, &mut self.b] {
            station.node.handle_timeout(self.now, &mut station.transmit);
        }
        out
    }
}

impl Line {
    /// Links three nodes.
    ///
    /// # Panics
    /// If they do not come together.
    pub fn linked() -> Self {
        let now = Instant::now();
        let [a, b] = [1, 2].map(|number| Station::carrying(number, now));
        let Pair { a, b, now } = Pair::link(a, b, now).settled();
        let c = Station::carrying(3, now);
        let Pair {
            a: c,
            b: relay,
            now,
        } = Pair::link(c, b, now).settled();
        Self { now, a, relay, c }
    }

    /// Lets `a` send a sealed message of `len` bytes to the relay, to be carried to `c`.
    pub fn send(&mut self, len: usize) {
        let header = RelayHeader {
            hop_limit: 8,
            source: u32::from_be_bytes([10, 100, 0, 1]),
            destination: u32::from_be_bytes([10, 100, 0, 3]),
            frame: 1,
            path: None,
        };
        let message = [0x5A; MTU + 32];
        let frame = (&header, &message[..len]);
        let transmit = &mut self.a.transmit;
        self.a.node.relay(&node_id(2), frame, self.now, transmit);
    }
}

fn pass(from: &mut Station, to: &mut Station, now: Instant) {
    for mut datagram in from.sent(to.number) {
        let stride = datagram.len();
        to.receive(from.number, (&mut datagram, stride), now);
    }
    while let Some(event) = from.node.poll_event() {
        if let Event::Signal { signal, .. } = event {
            let from = node_id(from.number);
            let command = Command::Signal { from, signal };
            to.tell(command, now);
        }
    }
}

fn node_id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn virtual_ip(number: u8) -> IpAddr {
    IpAddr::from([10, 100, 0, number])
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 7081))
}
