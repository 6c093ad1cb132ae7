//! What can a scenario do with the world? Place hosts, switch them on and off, send, wait.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_core::queue::ecn::Ecn;
use mesh_core::{Arrival, Command, DropReason, NodeStatus, PeerEntry, PeerStatus};
use rand::RngExt;

use crate::{
    host::{Identity, SimNode},
    inner::{Echo, frame},
    link::Shape,
    network::{HostId, NatId, Segment},
    oracle::Place,
    turn::Relay,
    world::{Action, World},
};

/// What the clocks say at the start: 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// The mesh's UDP port.
const PORT: u16 = 7081;
/// One access link; two of them make 20 ms one way.
const ACCESS_DELAY: Duration = Duration::from_millis(10);
/// Bytes of an echo, unless a scenario says otherwise.
const ECHO_LEN: usize = 100;

impl World {
    /// A host in a home of its own behind the NATs of `place`, switched off. All homes number alike, as real ones do.
    pub fn add(&mut self, place: Place) -> HostId {
        let mut segment: Segment = None;
        let behaviours = place.nats();
        for (level, behaviour) in (0..behaviours.len()).rev().zip(behaviours.iter().rev()) {
            let number = u8::try_from(self.hosts.len() + 1).expect("few hosts");
            let external = if level + 1 == behaviours.len() {
                [203, 0, 113, number]
            } else {
                [100, 64, 0, number]
            };
            segment = Some(self.network.add_nat(*behaviour, segment, external.into()));
        }
        let host = self.add_on(segment);
        self.hosts[host].means.udp_blocked = place == Place::UdpBlocked;
        if let (Place::OneToOne, Some(nat)) = (place, segment) {
            let inside = self.hosts[host].address.ip();
            self.network.nat_mut(nat).expose(inside);
        }
        host
    }

    /// A host in the same home as another one.
    pub fn add_beside(&mut self, other: HostId) -> HostId {
        self.add_on(self.hosts[other].segment)
    }

    /// Switches all hosts on and tells each of the others.
    pub fn start(&mut self) {
        for host in 0..self.hosts.len() {
            self.switch_on(host);
        }
        self.publish();
    }

    /// Switches all hosts on and tells each of `hub` alone, and that one of all: what a large network would cost.
    pub fn start_around(&mut self, hub: HostId) {
        for host in 0..self.hosts.len() {
            self.switch_on(host);
        }
        self.publish_around(hub);
    }

    /// The directory reaches everyone, as far as [`World::start_around`] tells of it.
    pub fn publish_around(&mut self, hub: HostId) {
        let others: Vec<_> = (0..self.hosts.len()).filter(|host| *host != hub).collect();
        let all = others.iter().map(|of| self.entry(hub, *of)).collect();
        self.tell(hub, Command::SetPeers(all));
        for host in others {
            let entry = self.entry(host, hub);
            self.tell(host, Command::SetPeers(vec![entry]));
        }
    }

    /// The server relays from now on, over TURN.
    pub fn add_relay(&mut self) {
        let relay = Relay::new(self.server.stun, self.now());
        self.network.serve_ports_of(self.server.stun.ip());
        self.server.relay = Some(relay);
        for host in 0..self.hosts.len() {
            self.hand_out_relay(host);
        }
    }

    /// Tells a host of the server's TURN, if there is one.
    pub fn hand_out_relay(&mut self, host: HostId) {
        if let Some(relay) = &self.server.relay {
            let servers = relay.access(host);
            self.tell(host, Command::SetTurnServers(servers));
        }
    }

    /// Whether a host reaches another one by way of the server.
    pub fn is_relayed(&self, at: HostId, of: HostId) -> bool {
        let node_id = self.hosts[of].identity.node_id;
        let status = self.status(at);
        let peer = status.peers.iter().find(|peer| peer.node_id == node_id);
        peer.is_some_and(|peer| peer.relayed && peer.endpoint.is_some())
    }

    /// As `kill -9` and a new start: another instance, nothing left of what the node knew. The directory tells.
    pub fn restart(&mut self, host: HostId) {
        self.switch_off(host);
        self.hosts[host].identity.instance = self.rng.random();
        self.switch_on(host);
        self.publish();
    }

    /// Stops a host without a word; the server notices when the directory is next published.
    pub fn switch_off(&mut self, host: HostId) {
        self.hosts[host].node = None;
    }

    /// The machine of a host is put to sleep.
    pub fn put_to_sleep(&mut self, host: HostId) {
        self.hosts[host].means.asleep = true;
    }

    /// It wakes, and its daemon with it.
    pub fn wake(&mut self, host: HostId) {
        self.hosts[host].means.asleep = false;
        self.run_timers(host);
    }

    /// Whether the server has a connection to a host.
    pub(crate) fn is_online(&self, host: HostId) -> bool {
        self.hosts[host].node.is_some() && !self.hosts[host].means.asleep
    }

    /// The directory reaches everyone, after the way down from the server.
    pub fn publish(&mut self) {
        let now = self.now();
        for to in 0..self.hosts.len() {
            let others = (0..self.hosts.len()).filter(|of| *of != to);
            let entries = others.map(|of| self.entry(to, of)).collect();
            let at = now + self.hosts[to].down.shape.delay;
            let command = Command::SetPeers(entries);
            self.plan(at, Action::Tell { to, command });
        }
    }

    /// What the directory tells `reader` of another host.
    pub fn entry(&self, reader: HostId, of: HostId) -> PeerEntry {
        let online = self.is_online(of);
        let [reader, of] = [reader, of].map(|host| self.hosts[host].identity);
        of.entry_for(&reader, &self.psk, online)
    }

    /// Tells a node something at once.
    pub fn tell(&mut self, host: HostId, command: Command) {
        self.with_node(host, |node, now, transmit| {
            node.handle_command(command, now, transmit);
        });
    }

    /// Sends an echo over the mesh; returns its number.
    pub fn send(&mut self, from: HostId, to: HostId) -> u32 {
        self.send_sized(from, to, ECHO_LEN)
    }

    /// Sends an echo of `len` bytes.
    pub fn send_sized(&mut self, from: HostId, to: HostId, len: usize) -> u32 {
        let [source, destination] = [from, to].map(|host| self.hosts[host].identity.virtual_ip);
        let id = self.ledger.next_id();
        let echo = Echo {
            source,
            destination,
            request: true,
            id,
        };
        let packet = echo.packet(len);
        self.ledger.sent(id, (from, to), packet.clone(), self.now());
        self.from_tun(from, &packet);
        id
    }

    /// Gives any packet to a host's TUN.
    pub fn from_tun(&mut self, host: HostId, packet: &[u8]) {
        self.with_node(host, |node, now, transmit| {
            node.handle_tun(&mut frame(packet), now, transmit);
        });
    }

    /// Lets a stranger's datagram arrive.
    pub fn inject(&mut self, to: HostId, from: SocketAddr, bytes: Vec<u8>) {
        let arrival = Arrival {
            from,
            to: self.hosts[to].address,
            ecn: Ecn::NotEct,
            stream: None,
        };
        let now = self.now();
        let action = Action::Arrive {
            to,
            from: None,
            arrival,
            bytes,
        };
        self.plan(now, action);
    }

    /// The innermost NAT of a host loses its table and gives other ports from now on.
    pub fn rebind_nat(&mut self, host: HostId, external: Option<IpAddr>) {
        let nat: NatId = self.hosts[host].segment.expect("a host behind a NAT");
        self.network.nat_mut(nat).rebind(external);
    }

    /// The host gets another address on its segment and its daemon notices.
    pub fn move_host(&mut self, host: HostId, address: SocketAddr) {
        self.hosts[host].address = address;
        let segment = self.hosts[host].segment;
        self.network.place(host, segment, address);
        self.tell(host, Command::SetHosts(vec![address]));
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while self.step(end) {}
    }

    /// Lets time pass until `done` or for `limit`; returns how long it took, or `None` at the limit.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now();
        while !done(self) {
            if !self.step(start + limit) {
                return None;
            }
        }
        Some(self.now() - start)
    }

    /// Sends echoes every `interval` until one is answered; returns how long that took.
    pub fn ping_until_answered(
        &mut self,
        (from, to): (HostId, HostId),
        interval: Duration,
        limit: Duration,
    ) -> Option<Duration> {
        let start = self.now();
        let mut sent = Vec::new();
        while self.now() - start < limit {
            sent.push(self.send(from, to));
            let answered =
                |world: &Self| sent.iter().any(|id| world.ledger.round_trip(*id).is_some());
            if self.run_until(interval, answered).is_some() {
                return Some(self.now() - start);
            }
        }
        None
    }

    /// What a node shows.
    ///
    /// # Panics
    /// If the host is off.
    pub fn status(&self, host: HostId) -> NodeStatus {
        let node = self.hosts[host].node.as_ref().expect("the host is on");
        node.status(self.now())
    }

    /// How often a node dropped something for this reason.
    pub fn drops(&self, host: HostId, reason: DropReason) -> u64 {
        self.status(host).counters.get(reason)
    }

    /// Where a host believes another one to be.
    pub fn endpoint(&self, at: HostId, of: HostId) -> Option<SocketAddr> {
        self.peer(at, of)?.endpoint
    }

    /// How long a packet a host believes to reach another one.
    pub fn path_mtu(&self, at: HostId, of: HostId) -> Option<usize> {
        Some(self.peer(at, of)?.mtu)
    }

    fn peer(&self, at: HostId, of: HostId) -> Option<PeerStatus> {
        let node_id = self.hosts[of].identity.node_id;
        let mut peers = self.status(at).peers.into_iter();
        peers.find(|peer| peer.node_id == node_id)
    }

    fn add_on(&mut self, segment: Segment) -> HostId {
        let host = self.hosts.len();
        let number = u8::try_from(host + 1).expect("few hosts");
        let ip = match segment {
            Some(_) => {
                let beside = u8::try_from(self.network.hosts_on(segment)).expect("few hosts");
                [192, 168, 1, 10 + beside]
            }
            None => [198, 51, 100, 10 + number],
        };
        let identity = Identity::new(Ipv4Addr::new(10, 100, 0, number), &mut self.rng);
        let address = SocketAddr::from((ip, PORT));
        let shape = Shape::clean(ACCESS_DELAY);
        self.hosts
            .push(SimNode::new(identity, address, segment, shape));
        self.network.place(host, segment, address);
        host
    }

    fn switch_on(&mut self, host: HostId) {
        let (seed, now): ([u8; 32], Instant) = (self.rng.random(), self.now());
        let unix_time = EPOCH + self.age();
        self.hosts[host].start(seed, now, unix_time);
        self.tell(host, Command::SetHosts(vec![self.hosts[host].address]));
        self.tell(host, Command::SetStunServers(vec![self.server.stun]));
        self.hand_out_relay(host);
    }
}
