//! `GET /api/v1/status`, `GET /api/v1/routes` and `GET /healthz`: how is the daemon doing?

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::Api;
use crate::{routes::RouteStatus, status::Status};

pub(super) async fn status(State(api): State<Api>) -> Json<Arc<Status>> {
    Json(api.context.status.borrow().clone())
}

/// How messages find members over others.
pub(super) async fn routes(State(api): State<Api>) -> Json<Vec<RouteStatus>> {
    Json(api.context.status.borrow().routes.clone())
}

/// The daemon answers, so it lives; whether it is well is in `problems`.
pub(super) async fn healthz(State(api): State<Api>) -> Json<Value> {
    let problems = api.context.status.borrow().health.len();
    Json(json!({ "status": "ok", "problems": problems }))
}
