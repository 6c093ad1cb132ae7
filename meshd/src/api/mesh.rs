//! `GET /api/v1/mesh/networks...`: what would the discovery server answer?
//!
//! From local state, so that it works while the server is away.

use std::collections::HashMap;

use axum::{Json, extract::State, http::StatusCode};
use mesh_wire::{
    NodeId,
    discovery::{Network, NetworkList},
    peer_info::{Directory, PeerInfo},
};

use super::{
    Api, ApiContext,
    error::{ApiError, Path},
};
use crate::trust::unix_time;

/// The list of the one network that this node is in.
pub(super) async fn networks(State(api): State<Api>) -> Json<NetworkList> {
    Json(NetworkList {
        networks: vec![joined(&api.context)],
    })
}

pub(super) async fn network(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Network>, ApiError> {
    Ok(Json(find(&api.context, &id)?))
}

pub(super) async fn peers(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<Directory>, ApiError> {
    find(&api.context, &id)?;
    let directory = api.context.directory.borrow().clone();
    Ok(Json(members(&api.context, &directory)))
}

/// The members, each with when it was last seen as of now.
pub(super) fn members(context: &ApiContext, directory: &Directory) -> Directory {
    let signs = SignsOfLife::of(context);
    let peers = directory.peers.iter().cloned();
    Directory {
        revision: directory.revision,
        peers: peers.map(|peer| signs.noted_in(peer)).collect(),
        revocations: directory.revocations.clone(),
    }
}

/// Who is there now. Servers tell of changes only, so what they said last grows old while a member stays; and whom we hear
/// ourselves we need not ask for.
pub(super) struct SignsOfLife {
    now: u64,
    own: NodeId,
    any_server: bool,
    /// Seconds since a member was heard here.
    heard: HashMap<NodeId, u64>,
}

impl SignsOfLife {
    pub(super) fn of(context: &ApiContext) -> Self {
        let status = context.status.borrow();
        let peers = status.peers.iter();
        Self {
            now: unix_time(),
            own: status.node.node_id,
            any_server: status.server.connected,
            heard: peers
                .filter_map(|peer| Some((peer.node_id, peer.traffic.last_heard_s?)))
                .collect(),
        }
    }

    pub(super) fn noted_in(&self, mut peer: PeerInfo) -> PeerInfo {
        let node = peer.record.node_id;
        let is_there = peer.online && self.any_server || node == self.own;
        let ago = match is_there {
            true => Some(0),
            false => self.heard.get(&node).copied(),
        };
        if let Some(ago) = ago {
            peer.last_seen = peer.last_seen.max(self.now.saturating_sub(ago));
        }
        peer
    }
}

pub(super) fn find(context: &ApiContext, id: &str) -> Result<Network, ApiError> {
    let network = joined(context);
    if network.id.as_str() == id {
        return Ok(network);
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown-network",
        "this node is not in that network",
    )
    .fix(format!("it is in `{}`", network.id)))
}

fn joined(context: &ApiContext) -> Network {
    let network = context.network.borrow().clone();
    let members = context.directory.borrow().peers.len();
    Network {
        // The directory is newer than the record of the network, which was read when the node joined.
        peer_count: u64::try_from(members).unwrap_or(u64::MAX),
        ..Network::clone(&network)
    }
}
