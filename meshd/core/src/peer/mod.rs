//! One other member: its identity, its session, the path to it, and what waits for it.

pub mod detour;
pub mod ear;
pub mod keys;
pub mod pending;
pub mod session;
pub mod state;
pub mod table;

use std::time::Instant;

use mesh_wire::NodeId;

use crate::{
    node::command::PeerEntry,
    path::{agent::Agent, knocks::Knocks, vigil::PATIENCE},
    peer::{detour::Detour, ear::Ear, pending::Pending, session::Session, state::State},
    queue::transmit::Route,
};

/// Bytes and times that `status` shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes of IP packets sealed for this peer.
    pub tx_bytes: u64,
    /// Bytes of IP packets opened from this peer.
    pub rx_bytes: u64,
    /// When a packet was last sealed for it.
    pub last_tx: Option<Instant>,
    /// When anything authentic last came from it.
    pub last_rx: Option<Instant>,
}

/// One other member of the network.
#[derive(Debug)]
pub struct Peer {
    /// Its identity.
    pub node_id: NodeId,
    /// What the network says of it.
    pub entry: PeerEntry,
    /// The end-to-end WireGuard session; outlives every path.
    pub session: Session,
    /// How far the connection is.
    pub state: State,
    /// The ICE agent, from the first dial on.
    pub agent: Option<Agent>,
    /// What its agents, past ones included, have sent to where nobody answered.
    pub knocks: Knocks,
    /// Where sealed messages go: the nominated pair, or wherever the peer last proved to be.
    pub link: Option<Route>,
    /// What is known of paths by way of TURN servers.
    pub detour: Detour,
    /// Packets that wait for the session.
    pub pending: Pending,
    /// For `status`.
    pub traffic: Traffic,
    /// Listens to its gossip.
    pub ear: Ear,
    /// When the node must next look at this peer; kept in step with `node::wakeup`.
    pub due: Option<Instant>,
}

impl Peer {
    /// A peer that has not been spoken to yet.
    pub fn new(entry: PeerEntry, session: Session) -> Self {
        Self {
            node_id: entry.node_id,
            entry,
            session,
            state: State::Idle,
            agent: None,
            knocks: Knocks::default(),
            link: None,
            detour: Detour::default(),
            pending: Pending::default(),
            traffic: Traffic::default(),
            ear: Ear::default(),
            due: None,
        }
    }

    /// Forgets path, session keys and agent, because the other side has lost its own.
    pub fn reset(&mut self, session: Session) {
        self.session = session;
        self.state = State::Idle;
        self.agent = None;
        self.link = None;
        self.detour = Detour::default();
    }

    /// Whether sealed messages go by way of a TURN server, ours or the peer's.
    pub fn is_relayed(&self) -> bool {
        self.link.is_some_and(|link| self.detour.is_on(link))
    }

    /// When a path that is not being checked must be looked at.
    pub fn doubt(&self) -> Option<Instant> {
        let unanswered = self.session.timers.unanswered();
        match &self.agent {
            Some(agent) => agent.doubt(self.traffic.last_rx, unanswered),
            None if self.link.is_some() && self.state == State::Connected => {
                unanswered.map(|since| since + PATIENCE)
            }
            None => None,
        }
    }

    /// When its TURN server is to be asked whether it still relays.
    fn suspicion(&self) -> Option<Instant> {
        let unanswered = self.session.timers.unanswered();
        self.detour
            .suspicion(unanswered.filter(|_| self.is_relayed()))
    }

    /// When something is due that packets have started.
    pub fn due_by_traffic(&self) -> Option<Instant> {
        [self.session.poll_timeout(), self.doubt(), self.suspicion()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The earliest time at which something of this peer is due. A session without a path has nowhere to send to, so
    /// its timers wait for one.
    pub fn next_due(&mut self) -> Option<Instant> {
        [
            self.link.and_then(|_| self.session.poll_timeout()),
            self.state.deadline(),
            self.link.and_then(|_| self.detour.retry_at()),
            self.doubt(),
            self.suspicion(),
            self.agent.as_mut().and_then(Agent::poll_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
