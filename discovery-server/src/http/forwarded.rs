//! For whom does a reverse proxy ask?

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::refusal::Refusal;
use crate::{app::App, slots::Slot};

/// What comes from a trusted proxy is from now on its client's: the request, and the connection while it is answered, or
/// for good where it becomes a WebSocket.
pub(super) async fn name_client(
    State(app): State<Arc<App>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    Extension(slot): Extension<Arc<Slot>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !app.proxies.trust(remote.ip()) {
        return next.run(request).await;
    }
    let client = app.proxies.client(remote.ip(), request.headers());
    if slot.count_for(client).is_err() {
        let title = "this address has too many connections";
        return Refusal::new(429, "too-many-connections", title)
            .fix("close some of them, or try again in a minute")
            .into_response();
    }
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(SocketAddr::new(client, remote.port())));
    let response = next.run(request).await;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        slot.count_for_nobody();
    }
    response
}
