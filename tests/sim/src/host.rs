//! What is one simulated host made of?

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::{
    Node, NodeConfig, PeerEntry, RoutingConfig, TransmitQueue, wireguard::noise::public_key,
};
use mesh_wire::{NodeId, WireGuardKey, psk::NetworkPsk};
use rand::{Rng, RngExt};

use crate::{
    link::{Link, Shape},
    network::Segment,
};

/// The mesh's own network.
const CIDR: &str = "10.100.0.0/16";
/// As long as the daemon tries by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// As often as the daemon does by default.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Timers of one node that may run out in a virtual second, plus as many per peer. ICE alone may check a pair every
/// 20 ms.
const TIMEOUTS_PER_SECOND: usize = 100;

/// What stays the same across restarts, and which start it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Ed25519 public key; nothing here is signed with it.
    pub node_id: NodeId,
    /// Curve25519 private key.
    pub private: [u8; 32],
    /// Address on the mesh.
    pub virtual_ip: Ipv4Addr,
    /// Of this start.
    pub instance: u64,
    /// Whether it has AES in hardware and is allowed to use it: half of the hosts.
    pub allow_gcm: bool,
}

impl Identity {
    /// A new host's.
    pub fn new(virtual_ip: Ipv4Addr, rng: &mut impl Rng) -> Self {
        Self {
            node_id: NodeId::from_bytes(rng.random()),
            private: rng.random(),
            virtual_ip,
            instance: rng.random(),
            allow_gcm: rng.random(),
        }
    }

    fn public(&self) -> WireGuardKey {
        public_key(&self.private)
    }

    /// What the network tells `reader` of this host, which is switched on or not.
    pub fn entry_for(&self, reader: &Self, psk: &NetworkPsk, online: bool) -> PeerEntry {
        PeerEntry {
            node_id: self.node_id,
            wireguard_key: self.public(),
            virtual_ips: vec![self.virtual_ip.into()],
            instance: self.instance,
            online,
            psk: psk.session_psk(&self.public(), &reader.public()),
        }
    }
}

/// What a host can do.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// A firewall that lets no UDP through.
    pub udp_blocked: bool,
    /// Its system can send datagrams with hop limits of their own.
    pub hop_limits: bool,
    /// Its configuration allows birthday probing.
    pub birthday: bool,
    /// It carries for others, and lets them carry for it.
    pub routes: bool,
    /// It sleeps: nothing runs, and nothing arrives.
    pub asleep: bool,
}

/// A host: a real node, the queues that its daemon would own, and its access link.
pub struct SimNode {
    /// Who it is.
    pub identity: Identity,
    /// Its address and port on its own segment.
    pub address: SocketAddr,
    /// Where its cable ends.
    pub segment: Segment,
    /// What its firewall and its system let it do.
    pub means: Means,
    /// Towards the Internet.
    pub up: Link,
    /// From the Internet.
    pub down: Link,
    /// The node; `None` while the host is switched off.
    pub node: Option<Node>,
    /// Lent to the node.
    pub transmit: TransmitQueue,
    /// Answers to pings between daemons, with the round trip that the node reports.
    pub pongs: Vec<(u64, Duration)>,
    /// What its own programs were told by its node: ICMP errors.
    pub messages: Vec<Vec<u8>>,
    /// What it has sent.
    pub sent: Sent,
    watch: TimerWatch,
}

impl SimNode {
    /// A host that is switched off.
    pub fn new(identity: Identity, address: SocketAddr, segment: Segment, shape: Shape) -> Self {
        Self {
            identity,
            address,
            segment,
            means: Means {
                udp_blocked: false,
                hop_limits: true,
                birthday: true,
                routes: false,
                asleep: false,
            },
            up: Link::new(shape),
            down: Link::new(shape),
            node: None,
            transmit: TransmitQueue::new(),
            pongs: Vec::new(),
            messages: Vec::new(),
            sent: Sent::default(),
            watch: TimerWatch::default(),
        }
    }

    /// Changes the access link, both ways.
    pub fn reshape(&mut self, shape: Shape) {
        self.up.shape = shape;
        self.down.shape = shape;
    }

    /// Switches on with a node that knows nothing yet.
    pub fn start(&mut self, seed: [u8; 32], now: Instant, unix_time: Duration) {
        let config = NodeConfig {
            node_id: self.identity.node_id,
            virtual_ips: vec![self.identity.virtual_ip.into()],
            cidr: CIDR.parse().expect("a constant"),
            connect_timeout: CONNECT_TIMEOUT,
            keepalive: KEEPALIVE,
            mtu: 1400,
            allow_gcm: self.identity.allow_gcm,
            open_checksums: self.identity.allow_gcm,
            routing: self.means.routes.then(RoutingConfig::default),
            hop_limits: self.means.hop_limits,
            birthday: self.means.birthday,
            unix_time,
        };
        self.node = Some(Node::new(config, self.identity.private, seed, now));
        self.watch = TimerWatch::default();
    }

    /// When its node wants to be called.
    pub fn due(&self) -> Option<Instant> {
        let awake = self.node.as_ref().filter(|_| !self.means.asleep);
        Some(awake?.poll_timeout().0)
    }

    /// Checks after each call of `handle_timeout` that the node does not keep its caller busy.
    ///
    /// # Panics
    /// If the next time is in the past twice in a row, or timers run out too often.
    pub fn check_timers(&mut self, now: Instant) {
        let Some(node) = &self.node else { return };
        let next = Some(node.poll_timeout());
        let peers = node.peer_ids().count();
        self.watch
            .check(now, next, TIMEOUTS_PER_SECOND * (1 + peers));
    }
}

/// What a host has sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// How many datagrams.
    pub datagrams: usize,
    /// Where messages of WireGuard went, and when the last one did.
    pub messages: BTreeMap<SocketAddr, Instant>,
}

/// Finds a busy loop.
#[derive(Debug, Default)]
struct TimerWatch {
    in_the_past: u32,
    second: Option<Instant>,
    count: usize,
}

impl TimerWatch {
    fn check(&mut self, now: Instant, next: Option<(Instant, &'static str)>, most: usize) {
        match next {
            Some((at, what)) if at <= now => {
                self.in_the_past += 1;
                assert!(
                    self.in_the_past < 2,
                    "busy loop: the timer of `{what}` is in the past twice in a row"
                );
            }
            Some(_) | None => self.in_the_past = 0,
        }
        if self
            .second
            .is_none_or(|start| now - start >= Duration::from_secs(1))
        {
            self.second = Some(now);
            self.count = 0;
        }
        self.count += 1;
        assert!(
            self.count <= most,
            "busy loop: more than {most} timeouts in a second, the next is {next:?}"
        );
    }
}
