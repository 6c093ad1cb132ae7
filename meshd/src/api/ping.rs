//! `POST /api/v1/ping`: does a peer answer, and which way did the answer come?

use std::net::{IpAddr, SocketAddr};

use axum::{Json, extract::State, http::StatusCode};
use mesh_wire::{NodeId, peer_info::PeerInfo};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Api, ApiContext,
    error::{self, ApiError, ask},
};
use crate::{
    control::{Control, PING_TIMEOUT, PingFailure, Pong},
    problem::peer_not_found,
    status::PathKind,
};

/// Whom to ping.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// A name, virtual address or node id.
    pub peer: String,
}

/// One pong.
#[derive(Debug, Serialize, Deserialize)]
pub struct PingAnswer {
    /// The peer's name.
    pub name: String,
    /// Its identity.
    pub node_id: NodeId,
    /// Its first virtual address.
    pub address: Option<IpAddr>,
    /// The round trip time in milliseconds.
    pub rtt_ms: f64,
    /// How the answer travelled.
    pub path: PathKind,
    /// The members that relayed, nearest first.
    pub via: Vec<String>,
    /// The peer's address on a direct path, the relay's otherwise.
    pub endpoint: Option<SocketAddr>,
}

pub(super) async fn ping(
    State(api): State<Api>,
    error::Json(request): error::Json<PingRequest>,
) -> Result<Json<PingAnswer>, ApiError> {
    let context = &api.context;
    let peer = find_peer(context, &request.peer)?;
    if peer.record.node_id == context.status.borrow().node.node_id {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "ping-self",
            format!("{} is this node", peer.name),
        )
        .fix("ping another member; `meshd peers` lists them"));
    }
    let (reply, answer) = oneshot::channel();
    let node = peer.record.node_id;
    ask(&context.control, Control::Ping { node, reply }).await?;
    let pong = match answer.await {
        Ok(Ok(pong)) => pong,
        Ok(Err(failure)) => return Err(refuse(failure, &peer.name)),
        Err(_) => return Err(ApiError::stopping()),
    };
    Ok(Json(answer_of(context, peer, pong)))
}

/// The member that a person means by `text`.
pub(super) fn find_peer(context: &ApiContext, text: &str) -> Result<PeerInfo, ApiError> {
    let directory = context.directory.borrow();
    let peer = directory.find(text).cloned();
    peer.ok_or_else(|| peer_not_found(text).into())
}

fn answer_of(context: &ApiContext, peer: PeerInfo, pong: Pong) -> PingAnswer {
    let via = match pong.path {
        PathKind::Relay => {
            let status = context.status.borrow();
            let mut peers = status.peers.iter();
            peers
                .find(|known| known.node_id == peer.record.node_id)
                .map(|known| known.via.clone())
                .unwrap_or_default()
        }
        PathKind::Direct | PathKind::Turn | PathKind::None => Vec::new(),
    };
    PingAnswer {
        address: peer.virtual_ips.first().copied(),
        name: peer.name,
        node_id: peer.record.node_id,
        rtt_ms: pong.rtt.as_secs_f64() * 1000.0,
        path: pong.path,
        via,
        endpoint: pong.endpoint,
    }
}

fn refuse(failure: PingFailure, name: &str) -> ApiError {
    match failure {
        PingFailure::Timeout => ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "ping-timeout",
            format!("no answer from {name} within {} s", PING_TIMEOUT.as_secs()),
        )
        .why("no path to it works at the moment, or it just went away")
        .fix("look at `meshd status` on both sides; a firewall that blocks UDP is the usual cause"),
        PingFailure::NoSuchPeer => peer_not_found(name).into(),
        PingFailure::Offline => ApiError::new(
            StatusCode::CONFLICT,
            "peer-offline",
            format!("{name} is offline"),
        )
        .why("the discovery server does not hear from it, and no session with it is alive")
        .fix("start meshd there"),
    }
}
