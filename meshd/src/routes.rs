//! Over whom is each member reached? What `meshd routes` and `GET /api/v1/routes` show.

use std::net::{IpAddr, Ipv4Addr};

use mesh_core::routing::Way;
use mesh_wire::{NodeId, peer_info::Directory};
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
    pub hops: usize,
    /// Milliseconds of round-trip time, and 100 for each link. The least wins.
    pub metric: u16,
    /// The round-trip time in it, in milliseconds.
    pub rtt_ms: u16,
    /// Whether the way is known to be free of circles. Where it is not, messages name each member on it themselves.
    pub feasible: bool,
    /// Seconds since the neighbour last said that it holds.
    pub age_s: u64,
}

/// What a link costs beside its round-trip time.
const PER_LINK: u16 = 100;

impl RouteStatus {
    /// A way in people's words.
    pub fn of(way: &Way, directory: &Directory) -> Self {
        let name = |member| name_of(directory, member);
        let hops = way.hops();
        let links = PER_LINK.saturating_mul(u16::try_from(hops).unwrap_or(u16::MAX));
        Self {
            member: member_of(directory, way.member).map(|peer| peer.record.node_id),
            name: name(way.member),
            next_hop: name(way.next_hop),
            path: way.path.members().iter().map(|id| name(*id)).collect(),
            hops,
            metric: way.metric,
            rtt_ms: way.metric.saturating_sub(links),
            feasible: way.feasible,
            age_s: way.age.as_secs(),
        }
    }
}

/// The name of the member with that number, or its address.
pub fn name_of(directory: &Directory, member: u32) -> String {
    let known = member_of(directory, member);
    known.map_or_else(
        || Ipv4Addr::from_bits(member).to_string(),
        |peer| peer.name.clone(),
    )
}

fn member_of(directory: &Directory, member: u32) -> Option<&mesh_wire::peer_info::PeerInfo> {
    let address = IpAddr::V4(Ipv4Addr::from_bits(member));
    let mut peers = directory.peers.iter();
    peers.find(|peer| peer.virtual_ips.contains(&address))
}
