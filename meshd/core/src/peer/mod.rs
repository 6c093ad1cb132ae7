//! One other member: its identity, its session, the path to it, and what waits for it.

pub mod detour;
pub mod ear;
pub mod honesty;
pub mod keys;
pub mod pending;
pub mod session;
pub mod state;
pub mod table;

use std::{net::IpAddr, time::Instant};

use mesh_wire::NodeId;

use crate::{
    measure::Left,
    node::command::PeerEntry,
    path::{
        agent::Agent,
        birthday::Pause,
        knocks::Knocks,
        mtu::PathMtu,
        redial::Redial,
        vigil::{FAREWELL, PATIENCE},
        watch::{Volume, Watch},
    },
    peer::{detour::Detour, ear::Ear, pending::Pending, session::Session, state::State},
    queue::transmit::Route,
};

/// What has gone to and come from a peer.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Bytes of IP packets sealed for this peer; our own messages do not count.
    pub tx_bytes: u64,
    /// Bytes of IP packets opened from this peer.
    pub rx_bytes: u64,
    /// Frames that it carries for others, or that it gave us to carry or open.
    pub frames: Volume,
    /// When a packet was last sealed for it.
    pub last_tx: Option<Instant>,
    /// When anything authentic last came from it.
    pub last_rx: Option<Instant>,
    /// When that last came by the path in use.
    pub last_here: Option<Instant>,
    /// When it said that it goes away, unless it came back.
    pub left: Option<Instant>,
    /// Whether the path that it takes is still there.
    pub watch: Watch,
    /// Whether its keys ended while this machine slept, which the peer may not know.
    pub lapsed: bool,
}

impl Traffic {
    /// An IP packet of `len` bytes is sealed for this peer.
    pub fn sent(&mut self, len: usize) {
        self.tx_bytes += u64::try_from(len).unwrap_or(0);
    }

    /// It is given a frame of `len` bytes to carry or to open.
    pub fn carried(&mut self, len: usize, now: Instant) {
        let frames = &mut self.frames.tx_bytes;
        *frames = frames.wrapping_add(u64::try_from(len).unwrap_or(0));
        self.last_tx = Some(now);
    }

    /// What others have sent over the path.
    pub fn volume(&self) -> Volume {
        Volume {
            tx_bytes: self.tx_bytes.wrapping_add(self.frames.tx_bytes),
            rx_bytes: self.rx_bytes.wrapping_add(self.frames.rx_bytes),
        }
    }

    /// Whether it said goodbye and was not heard after that, when it was about to go. Who is offline for other reasons, such as
    /// that the server is away, did not.
    pub fn has_left(&self) -> bool {
        self.left
            .is_some_and(|at| self.last_rx.is_none_or(|heard| heard < at + FAREWELL))
    }

    /// Watches the path, if it is in use again. Returns whether that is new.
    pub fn wake(&mut self, now: Instant) -> bool {
        self.watch.wake(self.volume(), now)
    }
}

/// What is counted so that a peer cannot have us do without end.
#[derive(Debug, Default)]
pub struct Limits {
    /// What its agents, past ones included, have sent to where nobody answered.
    pub knocks: Knocks,
    /// Listens to its gossip.
    pub ear: Ear,
    /// When birthday probing may be tried with it.
    pub birthday: Pause,
    /// When it may be searched for again.
    pub redial: Redial,
    /// What is left of its letters; all if absent.
    pub(crate) letters: Option<Left>,
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
    /// How much it may cost us.
    pub limits: Limits,
    /// Where sealed messages go: the nominated pair, or wherever the peer last proved to be.
    pub link: Option<Route>,
    /// How long a packet may be there.
    pub mtu: PathMtu,
    /// What is known of paths by way of TURN servers.
    pub detour: Detour,
    /// Packets that wait for the session.
    pub pending: Pending,
    /// What has gone to it and come from it.
    pub traffic: Traffic,
    /// When the node must next look at this peer; kept in step with `node::wakeup`.
    pub due: Option<Instant>,
}

impl Peer {
    /// A peer that has not been spoken to yet.
    pub fn new(entry: PeerEntry, session: Session, mtu: PathMtu) -> Self {
        Self {
            node_id: entry.node_id,
            entry,
            session,
            state: State::Idle,
            agent: None,
            limits: Limits::default(),
            link: None,
            mtu,
            detour: Detour::default(),
            pending: Pending::default(),
            traffic: Traffic::default(),
            due: None,
        }
    }

    /// Forgets path, session keys and agent, because the other side has lost its own.
    pub fn reset(&mut self, session: Session) {
        self.session = session;
        self.state = State::Idle;
        self.agent = None;
        self.link = None;
        self.mtu.forget();
        self.detour = Detour::default();
    }

    /// Its number in routing and in frames.
    pub fn member(&self) -> Option<u32> {
        member_among(&self.entry.virtual_ips)
    }

    /// Whether sealed messages go by way of a TURN server, ours or the peer's, or over neighbours.
    pub fn is_relayed(&self) -> bool {
        self.link.is_some_and(|link| self.detour.is_on(link))
    }

    /// It is reached now. Where others carry what goes to it, a search for a path of its own goes on.
    pub fn has_link(&mut self) {
        if !(self.is_carried() && matches!(self.state, State::Connecting { .. })) {
            self.state = State::Connected;
        }
    }

    /// Whether other members carry its sealed messages.
    pub fn is_carried(&self) -> bool {
        self.link.is_some_and(|link| link.is_over_mesh())
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

    /// When something is due that packets have started.
    pub fn due_by_traffic(&self) -> Option<Instant> {
        [
            self.session.poll_timeout(),
            self.doubt(),
            self.traffic.watch.poll_timeout(),
            self.detour.honesty.trial.map(|trial| trial.poll_timeout()),
        ]
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
            self.limits.birthday.poll_timeout(),
            self.doubt(),
            self.consent_ends(),
            self.link.and_then(|_| self.traffic.watch.poll_timeout()),
            self.detour.honesty.trial.map(|trial| trial.poll_timeout()),
            self.limits.redial.poll_timeout(),
            self.mtu.poll_timeout(),
            self.agent.as_mut().and_then(Agent::poll_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// A member's number: its first IPv4 address.
pub fn member_among(addresses: &[IpAddr]) -> Option<u32> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(address.to_bits()),
        IpAddr::V6(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_heard_well_after_its_goodbye_has_not_left() {
        let now = Instant::now();
        let mut traffic = Traffic::default();
        assert!(!traffic.has_left(), "it is offline for another reason");
        traffic.left = Some(now);
        assert!(traffic.has_left(), "it was never heard");
        traffic.last_rx = Some(now + Duration::from_secs(1));
        assert!(traffic.has_left(), "its last words");
        traffic.last_rx = Some(now + Duration::from_secs(3));
        assert!(!traffic.has_left());
    }
}
