//! `GET /api/v1/status` and `GET /healthz`: how is the daemon doing?

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::Api;
use crate::status::Status;

pub(super) async fn status(State(api): State<Api>) -> Json<Arc<Status>> {
    Json(api.context.status.borrow().clone())
}

/// The daemon answers, so it lives; whether it is well is in `problems`.
pub(super) async fn healthz(State(api): State<Api>) -> Json<Value> {
    let problems = api.context.status.borrow().health.len();
    Json(json!({ "status": "ok", "problems": problems }))
}
