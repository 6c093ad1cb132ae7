//! Is the server well, and how much does it do?

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{refusal::Refusal, schema};
use crate::{app::App, metrics::Gauges};

/// Whether the server and its database work.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    responses(
        (status = 200, description = "All is well", body = schema::Health),
        (status = "5XX", description = "500 the database cannot be read, 503 it does not answer", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    app.networks.store.counts().await?;
    Ok(Json(
        json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }),
    ))
}

/// Counters in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses(
        (status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain"),
    )
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let stored = app.networks.store.counts().await;
    let stored = stored.inspect_err(|error| tracing::warn!(%error, "cannot be counted"));
    let (connections, online) = app.networks.live_counts();
    let mut text = app.metrics.render(&Gauges {
        stored: stored.ok(),
        online: online as u64,
        connections: connections as u64,
    });
    if let Some(turn) = &app.turn {
        turn.metrics.render(&mut text, turn.allocations());
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
