//! What does the node look like from outside right now?

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_wire::NodeId;

use super::{Node, event::Counters};
use crate::{
    path::{
        agent::Agent,
        gather::Reflexive,
        turn::{Transport, TurnStatus},
    },
    peer::{Peer, table::PeerIdx},
    routing::Way,
};

/// A snapshot for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// All other members.
    pub peers: Vec<PeerStatus>,
    /// What STUN servers saw of us.
    pub reflexive: Vec<Reflexive>,
    /// The STUN servers that are asked, each with its last answer.
    pub stun_servers: Vec<(SocketAddr, Option<Reflexive>)>,
    /// Whether none of them answers, though each was asked several times.
    pub stun_silent: bool,
    /// The TURN servers, and whether they relay for us.
    pub turn: Vec<TurnStatus>,
    /// The ways over other members, and to neighbours.
    pub routes: Vec<Way>,
    /// Why packets went nowhere.
    pub counters: Counters,
}

/// One other member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its identity.
    pub node_id: NodeId,
    /// Where sealed messages go, once the session stands; absent where other members carry them.
    pub endpoint: Option<SocketAddr>,
    /// The members that carry sealed messages, in order.
    pub via: Vec<u32>,
    /// Whether that is a TURN server, which relays them.
    pub relayed: bool,
    /// Whether direct paths are avoided, because they lose what they are given.
    pub avoids_direct: bool,
    /// How we reach that server; UDP also if it is the peer's.
    pub transport: Transport,
    /// Round-trip time of the last connectivity check.
    pub rtt: Option<Duration>,
    /// Bytes of IP packets to it.
    pub tx_bytes: u64,
    /// Bytes of IP packets from it.
    pub rx_bytes: u64,
    /// The longest IP packet that the path to it carries, as far as is known.
    pub mtu: usize,
    /// Time since the last completed handshake.
    pub since_handshake: Option<Duration>,
    /// Time since anything authentic came from it.
    pub since_rx: Option<Duration>,
}

impl Node {
    /// Who carries what goes to a peer, if others do.
    fn carriers_of(&self, (index, peer): (PeerIdx, &Peer), now: Instant) -> Vec<u32> {
        let carried = peer.is_carried() && peer.session.is_established(now);
        let member = self.member_of(index).filter(|_| carried);
        let way = self.mesh.router.as_ref().zip(member);
        let way = way.and_then(|(router, member)| router.way(member, now));
        way.map_or_else(Vec::new, |way| way.path.members().to_vec())
    }

    /// Takes the snapshot.
    pub fn status(&self, now: Instant) -> NodeStatus {
        let peers = self.peers.iter().map(|(index, peer)| PeerStatus {
            node_id: peer.node_id,
            endpoint: peer
                .link
                .filter(|link| peer.session.is_established(now) && !link.is_over_mesh())
                .map(|route| route.dst),
            via: self.carriers_of((index, peer), now),
            relayed: peer.is_relayed() && !peer.is_carried(),
            avoids_direct: peer.detour.honesty.is_avoided(),
            transport: peer
                .link
                .map_or(Transport::Udp, |way| self.transport_of(way)),
            rtt: peer.agent.as_ref().and_then(Agent::rtt),
            tx_bytes: peer.traffic.tx_bytes,
            rx_bytes: peer.traffic.rx_bytes,
            mtu: peer.mtu.shown(),
            since_handshake: peer.session.since_handshake(now),
            since_rx: peer
                .traffic
                .last_rx
                .map(|at| now.saturating_duration_since(at)),
        });
        NodeStatus {
            peers: peers.collect(),
            reflexive: self.gatherer.reflexive(),
            stun_servers: self.gatherer.servers().collect(),
            stun_silent: self.gatherer.are_silent(),
            turn: self.gatherer.turn.status(),
            routes: self
                .mesh
                .router
                .as_ref()
                .map_or_else(Vec::new, |router| router.ways(now).collect()),
            counters: self.counters,
        }
    }
}
