//! Over whom is each member reached? What `meshd routes` and `GET /api/v1/routes` show.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use mesh_core::routing::Way;
use mesh_wire::{
    NodeId,
    peer_info::{Directory, PeerInfo},
};
use serde::{Deserialize, Serialize};

/// The way that messages for one member take over others. A member with a path of its own has a route of one hop here only while
/// it is a neighbour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its identity; absent while it is known by its address only.
    pub member: Option<NodeId>,
    /// Its name in the network.
    pub name: String,
    /// The neighbour that messages go to first.
    pub next_hop: String,
    /// The members that carry them, nearest first.
    pub path: Vec<String>,
    /// Links on the way; 1 for a neighbour.
    pub hops: u8,
    /// Milliseconds of round-trip time, and 100 for each link. The least wins.
    pub metric: u16,
    /// The round-trip time in it, in milliseconds.
    pub rtt_ms: u16,
    /// Whether the way is known to be free of circles. Where it is not, messages name each member on it themselves.
    pub feasible: bool,
    /// Seconds since the neighbour last said that it holds.
    pub age_s: u64,
}

impl RouteStatus {
    /// A way in people's words.
    pub fn of(way: &Way, names: &Names<'_>) -> Self {
        let name = |member| names.of(member);
        Self {
            member: names.peer(way.member).map(|peer| peer.record.node_id),
            name: name(way.member),
            next_hop: name(way.next_hop),
            path: way.path.members().iter().map(|id| name(*id)).collect(),
            hops: way.hops(),
            metric: way.metric,
            rtt_ms: way.rtt_ms(),
            feasible: way.feasible,
            age_s: way.age.as_secs(),
        }
    }
}

/// Members by their numbers in routing.
pub struct Names<'a>(HashMap<IpAddr, &'a PeerInfo>);

impl<'a> Names<'a> {
    /// Those of the directory.
    pub fn new(directory: &'a Directory) -> Self {
        let peers = directory.peers.iter();
        let all = peers.flat_map(|peer| peer.virtual_ips.iter().map(move |ip| (*ip, peer)));
        Self(all.collect())
    }

    /// The member's name, or its address where it is not known.
    pub fn of(&self, member: u32) -> String {
        let known = self.peer(member);
        known.map_or_else(
            || Ipv4Addr::from_bits(member).to_string(),
            |peer| peer.name.clone(),
        )
    }

    fn peer(&self, member: u32) -> Option<&PeerInfo> {
        let address = IpAddr::V4(Ipv4Addr::from_bits(member));
        self.0.get(&address).copied()
    }
}
