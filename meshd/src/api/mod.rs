//! What can be asked of the daemon over its local API, and by whom?
//!
//! One file per resource. `access` decides who may ask, `error` how a refusal looks, `server` owns the
//! listeners and their limits.

mod access;
mod control;
mod error;
mod events;
mod mesh;
mod mesh_events;
mod metrics;
mod ping;
mod server;
mod servers;
mod shares;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{any, delete, get, post, put},
};
use mesh_wire::{discovery::Network, peer_info::Directory};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{control::Control, state::ApiToken, status::Status};

pub use control::{InviteAnswer, InviteRequest, RevokeAnswer, RevokeRequest};
pub use error::CODES;
pub use ping::{PingAnswer, PingRequest};
pub use server::{ApiListeners, check_address, serve};
pub use servers::{ServersAnswer, SetServers};
pub use shares::{AddShare, ShareEntry, ShareList};

/// The greatest request body, in bytes. The greatest honest one is a share with a long path and many peers.
const MAX_BODY: usize = 64 * 1024;

/// What the API answers from, and whom it asks.
#[derive(Clone)]
pub struct ApiContext {
    /// The daemon's latest snapshot of itself.
    pub status: watch::Receiver<Arc<Status>>,
    /// The members of the network, as last heard.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The joined network, as last heard.
    pub network: watch::Receiver<Arc<Network>>,
    /// The shares of this node.
    pub shares: sharing::ShareStore,
    /// Where requests to the daemon go.
    pub control: mpsc::Sender<Control>,
    /// What a caller over TCP must know to change anything.
    pub token: ApiToken,
}

/// What a handler sees: the context, and the end of the daemon.
#[derive(Clone)]
struct Api {
    context: ApiContext,
    shutdown: CancellationToken,
    /// Places for programs that listen to events.
    listeners: Arc<Semaphore>,
}

fn router(api: Api) -> Router {
    let token = api.context.token.clone();
    Router::new()
        .route("/healthz", get(status::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/events", get(events::events))
        .route(
            "/api/v1/mesh/networks",
            get(mesh::networks).post(error::server_only),
        )
        .route(
            "/api/v1/mesh/networks/{id}",
            get(mesh::network).delete(error::server_only),
        )
        .route(
            "/api/v1/mesh/networks/{id}/peers",
            get(mesh::peers).post(error::server_only),
        )
        .route(
            "/api/v1/mesh/networks/{id}/peers/{peer}",
            delete(error::server_only),
        )
        .route(
            "/api/v1/mesh/networks/{id}/events",
            get(mesh_events::events),
        )
        .route("/api/v1/shares", get(shares::list).post(shares::add))
        .route("/api/v1/shares/{name}", delete(shares::remove))
        .route(
            "/api/v1/shares/{name}/grants/{peer}",
            put(shares::grant).delete(shares::revoke),
        )
        .route("/api/v1/servers", get(servers::list).post(servers::replace))
        .route("/api/v1/ping", post(ping::ping))
        .route("/api/v1/down", post(control::down))
        .route("/api/v1/invite", post(control::invite))
        .route("/api/v1/revoke", post(control::revoke))
        .route("/api/v1/routes", get(status::routes))
        .route("/api/v1/groups", any(error::not_built))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(api)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(token, access::guard))
        .layer(middleware::from_fn(server::limit_time))
        .layer(middleware::map_response(server::add_headers))
}
