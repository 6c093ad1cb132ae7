//! Who may use TURN in a WebSocket, and how does that begin?

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    extract::{ConnectInfo, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    response::Response,
};
use mesh_wire::turn_stream::{MAX_PIECE, SUBPROTOCOL};

use super::{events::websocket_only, refusal::Refusal, schema};
use crate::{app::App, slots::Slot, turn::websocket};

/// Each connection holds one of these all the time.
const READ_BUFFER: usize = 16 * 1024;

/// TURN (RFC 8656) for members behind firewalls that let nothing but HTTP through. Each binary message carries one or more
/// whole messages of TURN, each as on TCP, at most 16384 bytes together. Anyone may connect, and must have an allocation
/// within 30 s; the credentials for that are handed to members by `turn` of their event connection.
#[utoipa::path(
    get,
    path = "/api/v1/turn",
    tag = "turn",
    responses(
        (status = 101, description = "A WebSocket (RFC 6455) of binary messages, with the subprotocol `turn`"),
        (status = "4XX", description = "400 or 426 not a WebSocket request with the subprotocol `turn`, 404 this server relays \
         nothing, 429 too many connections",
         body = schema::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn turn(
    State(app): State<Arc<App>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    Extension(slot): Extension<Arc<Slot>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    if app.turn.is_none() {
        return Err(Refusal::new(404, "no-turn", "this server relays nothing")
            .fix("use another TURN server; whoever runs this one started it with --no-turn"));
    }
    let upgrade = upgrade.map_err(websocket_only)?.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let title = "this address speaks the WebSocket subprotocol `turn` only";
        return Err(
            Refusal::new(400, "websocket-only", title).fix("send Sec-WebSocket-Protocol: turn")
        );
    }
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_PIECE)
        .max_frame_size(MAX_PIECE);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = app.tasks.clone();
        tasks.track_future(async move { websocket::serve(socket, remote, slot, &app).await })
    }))
}
