//! `GET /api/v1/mesh/networks...`: what would the discovery server answer?
//!
//! From local state, so that it works while the server is away.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use mesh_wire::{
    discovery::{Network, NetworkList},
    peer_info::Directory,
};

use super::{
    Api, ApiContext,
    error::{ApiError, Path},
};

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
) -> Result<Json<Arc<Directory>>, ApiError> {
    find(&api.context, &id)?;
    Ok(Json(api.context.directory.borrow().clone()))
}

fn find(context: &ApiContext, id: &str) -> Result<Network, ApiError> {
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
