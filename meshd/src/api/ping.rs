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
    status::{PathKind, RelayTransport},
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
    /// How this node reaches the TURN server of the path; `null` on any other path.
    #[serde(default)]
    pub transport: Option<RelayTransport>,
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
    let status = context.status.borrow();
    let mut peers = status.peers.iter();
    let known = peers.find(|known| known.node_id == peer.record.node_id);
    let path = path_of(pong.path, known.map(|known| known.path));
    let via = match (path, known) {
        (PathKind::Relay, Some(known)) => known.relays.via.clone(),
        (PathKind::Relay | PathKind::Direct | PathKind::Turn | PathKind::None, _) => Vec::new(),
    };
    PingAnswer {
        address: peer.virtual_ips.first().copied(),
        name: peer.name,
        node_id: peer.record.node_id,
        rtt_ms: pong.rtt.as_secs_f64() * 1000.0,
        path,
        transport: known
            .filter(|_| path == PathKind::Turn)
            .and_then(|known| known.relays.transport),
        via,
        endpoint: pong.endpoint,
    }
}

/// The path that a pong took. It is direct only if nothing speaks against it: who waits for a direct path (`meshd ping
/// --until-direct`) shall rather wait for one ping more.
fn path_of(pong: PathKind, status: Option<PathKind>) -> PathKind {
    match (pong, status) {
        (PathKind::Direct, Some(relayed @ (PathKind::Turn | PathKind::Relay))) => relayed,
        (
            PathKind::Direct | PathKind::Turn | PathKind::Relay | PathKind::None,
            Some(PathKind::Direct | PathKind::Turn | PathKind::Relay | PathKind::None) | None,
        ) => pong,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_is_direct_only_if_the_status_does_not_say_that_it_was_relayed() {
        use PathKind::{Direct, None as Gone, Relay, Turn};
        for (pong, status, path) in [
            (Direct, None, Direct),
            (Direct, Some(Direct), Direct),
            (Direct, Some(Gone), Direct),
            (Direct, Some(Turn), Turn),
            (Direct, Some(Relay), Relay),
            (Turn, Some(Direct), Turn),
            (Relay, Some(Gone), Relay),
        ] {
            assert_eq!(path_of(pong, status), path, "{pong:?} {status:?}");
        }
    }
}
