//! The whole node as one state machine: a composition, without protocol logic of its own.

mod birthday;
mod carriers;
pub mod command;
mod connect;
mod consent;
pub mod event;
mod forward;
mod handshake;
mod honesty;
pub mod inbound;
mod letters;
pub mod mesh;
mod moved;
pub mod narrow;
mod neighbours;
mod outbound;
mod outlet;
mod relayed;
mod shots;
mod silence;
mod slept;
pub mod status;
mod topology;
mod wakeup;

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use mesh_wire::NodeId;
use rand::RngExt as _;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use self::{
    event::{Counters, Event},
    letters::Letters,
    mesh::{Mesh, RoutingConfig},
    wakeup::Wakeups,
};
use crate::{
    lan::table::AddressTable,
    path::{gather::Gatherer, stun_index::StunIndex},
    peer::{
        keys::{KeyConfig, SessionKeys},
        table::{PeerIdx, PeerTable},
    },
    queue::transmit::TransmitQueue,
    wireguard::keypair::Uses,
};

/// What a node is born with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Our identity; of two peers the one with the smaller is ICE's controlling side.
    pub node_id: NodeId,
    /// Our addresses on the virtual LAN.
    pub virtual_ips: Vec<IpAddr>,
    /// The virtual LAN. Candidates inside it are refused: no tunnel in a tunnel.
    pub cidr: IpNet,
    /// How long an attempt to connect lasts.
    pub connect_timeout: Duration,
    /// Pause between keepalives of a live session; zero for none.
    pub keepalive: Duration,
    /// The TUN's MTU: no packet is longer, and no path is asked for more.
    pub mtu: usize,
    /// Whether sessions may use AES-256-GCM with peers that also want it: this machine has it in hardware.
    pub allow_gcm: bool,
    /// Whether the TUN completes checksums that a peer leaves open, see [`crate::lan::segment::Checksums::Open`].
    pub open_checksums: bool,
    /// How members are reached over others; absent if they are not.
    pub routing: Option<RoutingConfig>,
    /// Whether a datagram can be sent with a hop limit of its own.
    pub hop_limits: bool,
    /// Whether birthday probing may be tried, see [`crate::path::birthday`].
    pub birthday: bool,
    /// Time since 1970-01-01T00:00:00Z when the node is made; handshakes carry it.
    pub unix_time: Duration,
}

/// A mesh node.
///
/// Packets enter by [`Node::handle_tun`] and [`Node::handle_train`], time by [`Node::handle_timeout`], intent by
/// [`Node::handle_command`]. Each may fill the queues that are lent to it and each may make news: afterwards send the
/// queues, drain [`Node::poll_event`], and call `handle_timeout` no later than [`Node::poll_timeout`] says.
///
/// `now` never goes backwards between calls, and counts the time that the machine sleeps. Nothing here reads a clock.
#[derive(Debug)]
pub struct Node {
    local: NodeConfig,
    keys: SessionKeys,
    peers: PeerTable,
    lan: AddressTable,
    gatherer: Gatherer,
    stun: StunIndex,
    wakeups: Wakeups,
    counters: Counters,
    events: VecDeque<Event>,
    letters: Letters,
    rng: ChaCha12Rng,
    mesh: Mesh,
}

impl Node {
    /// A node without peers. `private` is its Curve25519 private key, `seed` feeds every random choice.
    pub fn new(config: NodeConfig, private: [u8; 32], seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let keys = KeyConfig {
            private,
            uses: Uses {
                gcm: config.allow_gcm,
                relay: config.routing.is_some(),
            },
            unix_time: config.unix_time,
        };
        let keys = SessionKeys::new(keys, rng.random(), now);
        let begin = (rng.random(), config.unix_time);
        let mesh = Mesh::new(config.routing, &config.virtual_ips, begin, now);
        Self {
            keys,
            mesh,
            local: config,
            peers: PeerTable::default(),
            lan: AddressTable::default(),
            gatherer: Gatherer::default(),
            stun: StunIndex::default(),
            wakeups: Wakeups::new(now),
            counters: Counters::default(),
            events: VecDeque::new(),
            letters: Letters::new(now),
            rng,
        }
    }

    /// Packets that were sealed for members, opened from them or carried for them so far. Nobody else can raise it.
    pub fn moved(&self) -> u64 {
        self.counters.moved
    }

    /// When [`Self::handle_timeout`] must be called at the latest, and what for.
    pub fn poll_timeout(&self) -> (Instant, &'static str) {
        let peers = self.wakeups.next().map(|at| (at, "peer"));
        let gather = self.gatherer.poll_timeout().map(|at| (at, "stun server"));
        let turn = self
            .gatherer
            .turn
            .poll_timeout()
            .map(|at| (at, "turn server"));
        let birthday = self
            .gatherer
            .birthday
            .poll_timeout()
            .map(|at| (at, "birthday probing"));
        let letters = self.next_letter_at().map(|at| (at, "letter"));
        let routing = self.mesh.poll_timeout().map(|at| (at, "routing"));
        let idle = (self.wakeups.idle(), "a look at the clock");
        let due = [peers, gather, turn, birthday, letters, routing];
        due.into_iter().flatten().fold(idle, Ord::min)
    }

    /// Lets time pass: retransmissions, keepalives, re-keying, giving up.
    pub fn handle_timeout(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        self.letters.pass(now);
        self.notice_sleep(now, transmit);
        // It dials, and what follows from that is due with the rest.
        self.drive_mesh(now, transmit);
        self.gatherer.handle_timeout(now, &mut self.rng, transmit);
        self.keep_relayed(now, transmit);
        self.drive_birthday(now, transmit);
        while let Some(index) = self.wakeups.pop_due(now) {
            self.drive(index, now, transmit);
            self.schedule_after(index, now);
        }
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.write_letter())
    }

    /// The other members.
    pub fn peer_ids(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().map(|(_, peer)| peer.node_id)
    }

    /// Puts `index` where its timers want it.
    fn schedule(&mut self, index: PeerIdx) {
        let due = self.peers.get_mut(index).and_then(|peer| peer.next_due());
        self.wakeups.set(index, due);
    }

    /// As [`Self::schedule`], but strictly after `now`, so that a machine that asks for the past cannot keep the loop
    /// of [`Self::handle_timeout`] busy.
    fn schedule_after(&mut self, index: PeerIdx, now: Instant) {
        const LEAST: Duration = Duration::from_millis(1);
        let due = self.peers.get_mut(index).and_then(|peer| peer.next_due());
        self.wakeups.set(index, due.map(|at| at.max(now + LEAST)));
    }

    /// After packets went to or from a peer: renews its keys when they are worn, and sees to it that a timer that these
    /// packets started is not overslept.
    fn after_traffic(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let started = peer.session.timers.take_started() | peer.traffic.wake(now);
        let due = started.then(|| peer.due_by_traffic()).flatten();
        if peer.session.take_renewal() {
            self.handshake(index, now, transmit);
            self.schedule(index);
        } else if due.is_some_and(|due| self.wakeups.due(index).is_none_or(|at| due < at)) {
            self.schedule(index);
        }
        // What it was given to carry counts for the neighbour as well.
        if let Some(carrier) = self.carrier_of(index) {
            self.after_traffic(carrier, now, transmit);
        }
    }

    /// Microseconds since the node was made: the clock of our own pings.
    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(self.keys.age(now).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
