//! `POST /api/v1/down` and `POST /api/v1/invite`: what else can the daemon be asked to do?

use axum::{Json, body::Bytes, extract::State, http::StatusCode};
use mesh_wire::{
    NodeId,
    join_link::JoinLink,
    trust::{MAX_LIFE, Role},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Api,
    error::{ApiError, Json as ApiJson, ask},
};
use crate::{control::Control, problem, trust::authority::Offer};

/// What a join link shall allow. What is left out is as [`Offer::default`] has it; so is everything without a body.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InviteRequest {
    /// For how many seconds it holds.
    pub expires_s: Option<u64>,
    /// How many machines may join with it.
    pub uses: Option<u32>,
    /// What they may do beside carrying for others.
    pub roles: Vec<String>,
}

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

pub(super) async fn invite(
    State(api): State<Api>,
    body: Bytes,
) -> Result<Json<InviteAnswer>, ApiError> {
    let offer = offer(&body)?;
    let (reply, answer) = oneshot::channel();
    ask(&api.context.control, Control::Invite { offer, reply }).await?;
    let link = match answer.await {
        Ok(Ok(link)) => link,
        Ok(Err(problem)) => return Err(problem.into()),
        Err(_) => return Err(ApiError::stopping()),
    };
    Ok(Json(InviteAnswer {
        link: link.to_text(),
    }))
}

/// Whom to put out: name, virtual address, node id or the beginning of it; or a join link, and with it whoever rests on it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The member.
    pub peer: String,
}

/// Who was put out.
#[derive(Debug, Serialize, Deserialize)]
pub struct RevokeAnswer {
    /// Its name.
    pub name: String,
    /// Its identity, which never comes back.
    pub node_id: NodeId,
}

pub(super) async fn revoke(
    State(api): State<Api>,
    ApiJson(request): ApiJson<RevokeRequest>,
) -> Result<Json<RevokeAnswer>, ApiError> {
    let found = api.context.directory.borrow().find(&request.peer).cloned();
    // Who has left before it could be put out can be named by its whole id.
    let by_itself = key_of(&request.peer);
    let (node, name) = match (found, by_itself) {
        (Some(peer), _) => (peer.record.node_id, peer.name),
        (None, Some(named)) => named,
        (None, None) => return Err(problem::peer_not_found(&request.peer).into()),
    };
    if node == api.context.status.borrow().node.node_id {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "revoke-self",
            "a node cannot put itself out",
        )
        .why("nobody would be left to undo a mistake")
        .fix("meshd down stops it; another admin can revoke it"));
    }
    let (reply, answer) = oneshot::channel();
    ask(&api.context.control, Control::Revoke { node, reply }).await?;
    match answer.await {
        Ok(Ok(())) => Ok(Json(RevokeAnswer {
            name,
            node_id: node,
        })),
        Ok(Err(problem)) => Err(problem.into()),
        Err(_) => Err(ApiError::stopping()),
    }
}

/// What a whole node id or a join link names: its key, and a word for it.
fn key_of(text: &str) -> Option<(NodeId, String)> {
    if let Ok(node) = text.parse::<NodeId>() {
        return Some((node, node.short()));
    }
    let admission = JoinLink::parse(text).ok()?.admission?;
    Some((
        admission.capability.invite.terms.key,
        "the join link".to_owned(),
    ))
}

fn offer(body: &[u8]) -> Result<Offer, ApiError> {
    let bad = |why: String| {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "malformed-request",
            "no such join link can be made",
        )
        .why(why)
        .fix("leave out what shall be as usual: a week, any number of machines, no role")
    };
    let mut offer = Offer::default();
    if body.is_empty() {
        return Ok(offer);
    }
    let request: InviteRequest =
        serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    if let Some(seconds) = request.expires_s {
        if !(1..=MAX_LIFE).contains(&seconds) {
            let days = MAX_LIFE / (24 * 3600);
            return Err(bad(format!("it can hold from 1 second to {days} days")));
        }
        offer.seconds = seconds;
    }
    if request.uses == Some(0) {
        return Err(bad("a link for nobody is none".to_owned()));
    }
    offer.uses = request.uses;
    let wanted: Result<Vec<Role>, _> = request.roles.iter().map(|role| role.parse()).collect();
    let wanted = wanted.map_err(|error| bad(error.to_string()))?;
    offer.roles = offer.roles.iter().chain(wanted).collect();
    Ok(offer)
}
