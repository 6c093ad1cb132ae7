//! `WS /api/v1/events`: what changes, as it changes?
//!
//! Each message is `{"type": "status", "status": {...}}`. A slow reader misses snapshots in between, never the last.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code, rejection::*},
    },
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Api, error::ApiError};
use crate::status::Status;

/// Listeners at a time: a dashboard has one.
pub(super) const MAX_LISTENERS: usize = 32;
/// How long a listener may keep a message from being sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest time between two messages, so that a busy daemon does not keep a page busy too.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a message from the listener, which has nothing to say.
const MAX_INCOMING: usize = 1024;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    Status { status: &'a Status },
}

pub(super) async fn events(
    State(api): State<Api>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let (upgrade, permit) = admit(&api, upgrade)?;
    let Api {
        context, shutdown, ..
    } = api;
    Ok(upgrade.on_upgrade(move |socket| stream(socket, context.status, shutdown, permit)))
}

/// A WebSocket of a listener, and its place among the [`MAX_LISTENERS`].
pub(super) fn admit(
    api: &Api,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<(WebSocketUpgrade, OwnedSemaphorePermit), ApiError> {
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::new(
            rejection.status(),
            "malformed-request",
            "this resource is a WebSocket",
        )
        .why(rejection.body_text())
        .fix("connect with ws:// instead of http://")
    })?;
    let permit = Arc::clone(&api.listeners)
        .try_acquire_owned()
        .map_err(|_| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-listeners",
                "too many programs listen to events",
            )
            .why(format!("the limit is {MAX_LISTENERS}"))
            .fix("close some of them")
        })?;
    let upgrade = upgrade
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING);
    Ok((upgrade, permit))
}

/// Sends a message as JSON; whether the listener is still to be told more.
pub(super) async fn say(socket: &mut WebSocket, message: &impl Serialize) -> bool {
    let text = match serde_json::to_string(message) {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "an event cannot be written as JSON");
            return false;
        }
    };
    let sent = timeout(SEND_TIMEOUT, socket.send(Message::text(text))).await;
    matches!(sent, Ok(Ok(())))
}

/// The last word of a daemon that stops.
pub(super) async fn farewell(mut socket: WebSocket) {
    let goodbye = Message::Close(Some(CloseFrame {
        code: close_code::AWAY,
        reason: "the daemon is stopping".into(),
    }));
    // The listener may be gone already; there is nobody left to tell.
    let _sent = timeout(SEND_TIMEOUT, socket.send(goodbye)).await;
}

async fn stream(
    mut socket: WebSocket,
    mut status: watch::Receiver<Arc<Status>>,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    status.mark_changed();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = status.changed() => if changed.is_err() { break },
            heard = socket.recv() => match heard {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        }
        let now = status.borrow_and_update().clone();
        if !say(&mut socket, &Event::Status { status: &now }).await {
            return;
        }
        sleep(PAUSE).await;
    }
    farewell(socket).await;
}
