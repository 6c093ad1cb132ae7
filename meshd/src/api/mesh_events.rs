//! `WS /api/v1/mesh/networks/{id}/events`: who comes, changes and leaves?
//!
//! Says what the discovery server's event connection says of members, from local state: a `snapshot`, then `peer_joined`,
//! `peer_updated`, `peer_left` and `revoked`. It makes nobody a member, so there is no challenge, and it carries no signals.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use mesh_wire::{
    NodeId,
    discovery::ServerMessage,
    peer_info::{Directory, PeerInfo},
    problem::Problem,
};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Api, ApiContext,
    error::{ApiError, Path},
    events::{self, PAUSE, farewell, say},
    mesh::{SignsOfLife, find, members},
};

pub(super) async fn events(
    State(api): State<Api>,
    Path(id): Path<String>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    find(&api.context, &id)?;
    let (upgrade, permit) = events::admit(&api, upgrade)?;
    let Api {
        context, shutdown, ..
    } = api;
    Ok(upgrade.on_upgrade(move |socket| stream(socket, context, shutdown, permit)))
}

async fn stream(
    mut socket: WebSocket,
    context: ApiContext,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let mut directory = context.directory.clone();
    let mut told = directory.borrow_and_update().clone();
    if !say(&mut socket, &snapshot(members(&context, &told))).await {
        return;
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = directory.changed() => if changed.is_err() { break },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    if !say(&mut socket, &only_tells()).await {
                        return;
                    }
                    continue;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => continue,
                Some(Err(_)) | None => return,
            },
        }
        let now = directory.borrow_and_update().clone();
        for message in changes(&context, &told, &now) {
            if !say(&mut socket, &message).await {
                return;
            }
        }
        told = now;
        sleep(PAUSE).await;
    }
    farewell(socket).await;
}

fn snapshot(directory: Directory) -> ServerMessage {
    ServerMessage::Snapshot {
        revision: directory.revision,
        complete: true,
        peers: directory.peers,
        revocations: directory.revocations,
    }
}

/// What makes `new` of `old`, for whoever was told of `old`.
fn changes(context: &ApiContext, old: &Arc<Directory>, new: &Arc<Directory>) -> Vec<ServerMessage> {
    let revision = new.revision;
    let by_node = |directory: &'_ Arc<Directory>| -> HashMap<NodeId, PeerInfo> {
        let peers = directory.peers.iter().cloned();
        peers.map(|peer| (peer.record.node_id, peer)).collect()
    };
    let mut before = by_node(old);
    let mut messages = Vec::new();
    let known = &old.revocations;
    let revoked = new.revocations.iter().filter(|text| !known.contains(text));
    messages.extend(revoked.map(|text| ServerMessage::Revoked {
        revision,
        revocation: text.clone(),
    }));
    let signs = SignsOfLife::of(context);
    for peer in &new.peers {
        let known = before.remove(&peer.record.node_id);
        if known.as_ref() == Some(peer) {
            continue;
        }
        let peer = Box::new(signs.noted_in(peer.clone()));
        messages.push(match known {
            None => ServerMessage::PeerJoined { revision, peer },
            Some(_) => ServerMessage::PeerUpdated { revision, peer },
        });
    }
    let left = before.into_keys();
    messages.extend(left.map(|node_id| ServerMessage::PeerLeft { revision, node_id }));
    messages
}

/// What a listener is told that has something to say.
fn only_tells() -> ServerMessage {
    let title = "the events of the local API take no messages";
    let problem = Problem::new(StatusCode::BAD_REQUEST.as_u16(), "malformed-request", title);
    ServerMessage::Error {
        problem: problem
            .detail("members say hello and signal on the discovery server's own event connection")
            .fix("listen only"),
    }
}
