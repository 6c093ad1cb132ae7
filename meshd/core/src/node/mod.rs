//! The whole node as one state machine: a composition, without protocol logic of its own.

pub mod command;
mod connect;
pub mod event;
pub mod inbound;
mod outbound;
pub mod status;
mod wakeup;

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use mesh_wire::NodeId;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use self::{
    event::{Counters, Event},
    wakeup::Wakeups,
};
use crate::{
    lan::table::AddressTable,
    path::{gather::Gatherer, stun_index::StunIndex},
    peer::{
        session::SessionKeys,
        table::{PeerIdx, PeerTable},
    },
    queue::transmit::TransmitQueue,
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
}

/// A mesh node.
///
/// Packets enter by [`Node::handle_tun`] and [`Node::handle_datagram`], time by [`Node::handle_timeout`], intent by
/// [`Node::handle_command`]. Each may fill the queues that are lent to it and each may make news: afterwards send the
/// queues, drain [`Node::poll_event`], and call `handle_timeout` no later than [`Node::poll_timeout`] says.
///
/// `now` never goes backwards between calls. Nothing here reads a clock, but for the WireGuard library behind
/// `peer::session`, which keeps its own.
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
    rng: ChaCha12Rng,
    started: Instant,
    /// Where segments of super-packets are put together, and short replies are written.
    scratch: Vec<u8>,
}

impl Node {
    /// A node without peers. `private` is its Curve25519 private key, `seed` feeds every random choice.
    pub fn new(config: NodeConfig, private: [u8; 32], seed: [u8; 32], now: Instant) -> Self {
        Self {
            local: config,
            keys: SessionKeys::new(private),
            peers: PeerTable::default(),
            lan: AddressTable::default(),
            gatherer: Gatherer::default(),
            stun: StunIndex::default(),
            wakeups: Wakeups::default(),
            counters: Counters::default(),
            events: VecDeque::new(),
            rng: ChaCha12Rng::from_seed(seed),
            started: now,
            scratch: Vec::with_capacity(64 * 1024),
        }
    }

    /// When [`Self::handle_timeout`] must be called at the latest, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let peers = self.wakeups.next().map(|at| (at, "peer"));
        let gather = self.gatherer.poll_timeout().map(|at| (at, "stun server"));
        [peers, gather].into_iter().flatten().min()
    }

    /// Lets time pass: retransmissions, keepalives, re-keying, giving up.
    pub fn handle_timeout(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        self.gatherer.handle_timeout(now, &mut self.rng, transmit);
        while let Some(index) = self.wakeups.pop_due(now) {
            self.drive(index, now, transmit);
            self.schedule_after(index, now);
        }
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
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

    /// Microseconds since the node was made: the clock of our own pings.
    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
