//! `POST /api/v1/down` and `POST /api/v1/invite`: what else can the daemon be asked to do?

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Api,
    error::{ApiError, ask},
};
use crate::control::Control;

/// The answer to `POST /api/v1/invite`. It holds the network's secret, so it has no `Debug`.
#[derive(Serialize, Deserialize)]
pub struct InviteAnswer {
    /// The join link.
    pub link: String,
}

/// Answers once the daemon has begun to stop.
pub(super) async fn down(State(api): State<Api>) -> Result<StatusCode, ApiError> {
    let (reply, answer) = oneshot::channel();
    ask(&api.context.control, Control::Down { reply }).await?;
    // A daemon that is gone before it could answer did what was asked.
    let _acknowledged = answer.await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn invite(State(api): State<Api>) -> Result<Json<InviteAnswer>, ApiError> {
    let (reply, answer) = oneshot::channel();
    ask(&api.context.control, Control::Invite { reply }).await?;
    let link = match answer.await {
        Ok(Ok(link)) => link,
        Ok(Err(problem)) => return Err(problem.into()),
        Err(_) => return Err(ApiError::stopping()),
    };
    Ok(Json(InviteAnswer {
        link: link.to_text(),
    }))
}
