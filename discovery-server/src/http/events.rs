//! Who may listen to a network's events, and how does that begin?

mod connection;
mod end;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Path, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::HeaderMap,
    response::Response,
};
use mesh_wire::{NetworkId, discovery::MAX_MESSAGE};

use self::connection::Connection;
use super::{
    access::{Role, admit},
    refusal::Refusal,
    schema,
};
use crate::{app::App, mailbox::ConnectionId, membership::Attached, slots::Slot};

/// A member signs its hello as soon as it has the challenge; this bears with slow links.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Each connection holds one of these all the time, and most say next to nothing.
const READ_BUFFER: usize = 2 * 1024;

/// Events of a network, and signals between its members, over a WebSocket. Each message is JSON with a `type`. The
/// server first sends `challenge` and `snapshot`. A client that answers with `hello` becomes that member's presence
/// and mailbox; who was let in with the admission token must do so within 10 s, who has the admin token may just watch. The token must be in the Authorization header.
#[utoipa::path(
    get,
    path = "/api/v1/mesh/networks/{id}/events",
    tag = "events",
    params(("id" = String, Path, description = "The network's name")),
    security(("admission_token" = []), ("admin_token" = [])),
    responses(
        (status = 101, description = "A WebSocket (RFC 6455) of text messages"),
        (status = "4XX", description = "400 or 426 not a WebSocket request, 401 no such network or not its token, \
         404 no such network (told to the administrator only)",
         body = schema::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "500 database, 503 too many connections", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Extension(slot): Extension<Arc<Slot>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let (network, role) = admit(&app, &headers, &id).await?;
    let upgrade = upgrade.map_err(websocket_only)?;
    let (attachment, list) = match app.networks.attach(&network).await? {
        Attached::Yes(attachment, list, complete) => (attachment, (list, complete)),
        Attached::TooMany => {
            let title = "this network has too many event connections";
            return Err(
                Refusal::new(503, "too-many-connections", title).fix("try again in a minute")
            );
        }
        Attached::NetworkGone => return Err(Refusal::unauthorized()),
    };
    let guard = Detach {
        app: Arc::clone(&app),
        network: network.id.clone(),
        id: attachment.id,
    };
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = app.tasks.clone();
        let run = async move {
            let mut connection = Connection::new(app, network.id, socket, slot, attachment.id);
            let hello_by = match role {
                Role::Member => Some(HELLO_TIMEOUT),
                Role::Admin => None,
            };
            let end = connection.run(attachment, list, hello_by).await;
            // The member is offline from here on, however slowly it takes its farewell.
            drop(guard);
            Box::pin(connection.farewell(end)).await;
        };
        tasks.track_future(run)
    }))
}

/// What whoever asks for a page here is told.
pub(super) fn websocket_only(rejection: WebSocketUpgradeRejection) -> Refusal {
    Refusal::new(
        rejection.status().as_u16(),
        "websocket-only",
        "this address speaks WebSocket only",
    )
    .detail(rejection.body_text())
    .fix("connect with a WebSocket client")
}

/// Detaches the connection whatever becomes of it, also when the upgrade fails and nothing runs at all.
struct Detach {
    app: Arc<App>,
    network: NetworkId,
    id: ConnectionId,
}

impl Drop for Detach {
    fn drop(&mut self) {
        let app = Arc::clone(&self.app);
        let (network, id) = (self.network.clone(), self.id);
        self.app.tasks.spawn(async move {
            if let Err(error) = app.networks.detach(&network, id).await {
                tracing::error!(%error, "could not tell that a peer is offline");
            }
        });
    }
}
