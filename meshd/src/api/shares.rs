//! `/api/v1/shares`: which folders does this node share, and with whom?

use std::path::PathBuf;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use sharing::{Grant, Grantee, ShareInfo, StoreError};
use url::Url;

use super::{
    Api, ApiContext,
    error::{self, ApiError, Path},
    ping::find_peer,
};
use crate::problem::{
    operation_failed, share_exists, share_name_invalid, share_not_found, share_path_private,
    share_path_relative, share_path_unreadable,
};

/// `POST /api/v1/shares`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddShare {
    /// What the share shall be called.
    pub name: String,
    /// The absolute path of a directory.
    pub path: PathBuf,
    /// Who may read: `all`, or names, virtual addresses or node ids of members. Empty: nobody yet.
    #[serde(default)]
    pub to: Vec<String>,
}

/// `GET /api/v1/shares`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShareList {
    /// All shares, in order of name.
    pub shares: Vec<ShareEntry>,
}

/// A share, and what the other members need to reach it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShareEntry {
    /// As it is kept.
    #[serde(flatten)]
    pub share: ShareInfo,
    /// Who may read, by name where the member is known: `all`, `bob`.
    pub to: Vec<String>,
    /// Whom the configuration file lets read as soon as a member of that name is known.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Where members find it.
    pub url: Option<String>,
}

pub(super) async fn list(State(api): State<Api>) -> Json<ShareList> {
    let shares = api.context.shares.list();
    let entry = |share| entry(&api.context, share);
    Json(ShareList {
        shares: shares.into_iter().map(entry).collect(),
    })
}

pub(super) async fn add(
    State(api): State<Api>,
    error::Json(request): error::Json<AddShare>,
) -> Result<(StatusCode, Json<ShareEntry>), ApiError> {
    let context = &api.context;
    if !request.path.is_absolute() {
        return Err(share_path_relative(&request.path).into());
    }
    let grants = request
        .to
        .iter()
        .map(|to| reader(context, to))
        .collect::<Result<Vec<_>, _>>()?;
    let share = context
        .shares
        .add(&request.name, &request.path, &grants)
        .await?;
    Ok((StatusCode::CREATED, Json(entry(context, share))))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    api.context.shares.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn grant(
    State(api): State<Api>,
    Path((name, peer)): Path<(String, String)>,
) -> Result<Json<ShareEntry>, ApiError> {
    let grant = reader(&api.context, &peer)?;
    let share = api.context.shares.grant(&name, grant).await?;
    Ok(Json(entry(&api.context, share)))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Path((name, peer)): Path<(String, String)>,
) -> Result<Json<ShareEntry>, ApiError> {
    let grantee = match peer.parse() {
        // A member that left is in no directory any more, but its rights can still be taken by its id.
        Ok(grantee) => grantee,
        Err(_) => grantee(&api.context, &peer)?,
    };
    let share = api.context.shares.revoke(&name, grantee).await?;
    Ok(Json(entry(&api.context, share)))
}

fn reader(context: &ApiContext, text: &str) -> Result<Grant, ApiError> {
    let peer = grantee(context, text)?;
    Ok(Grant { peer, rw: false })
}

fn grantee(context: &ApiContext, text: &str) -> Result<Grantee, ApiError> {
    if text == "all" {
        return Ok(Grantee::All);
    }
    find_peer(context, text).map(|peer| Grantee::Peer(peer.record.node_id))
}

fn entry(context: &ApiContext, share: ShareInfo) -> ShareEntry {
    let directory = context.directory.borrow();
    let name_of = |grant: &Grant| match grant.peer {
        Grantee::All => "all".to_owned(),
        Grantee::Peer(node) => directory
            .by_node(&node)
            .map_or_else(|| node.to_string(), |peer| peer.name.clone()),
    };
    ShareEntry {
        to: share.grants.iter().map(name_of).collect(),
        waiting: context.shares.waiting(&share.name),
        url: url_of(context, &share.name),
        share,
    }
}

fn url_of(context: &ApiContext, name: &str) -> Option<String> {
    let address = *context.status.borrow().node.virtual_ips.first()?;
    let mut url = Url::parse("http://host/").ok()?;
    url.set_ip_host(address).ok()?;
    url.path_segments_mut().ok()?.pop().push(name).push("");
    Some(url.into())
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadName { name, reason } => {
                share_name_invalid(&name, &format!("it {reason}")).into()
            }
            StoreError::NameTaken(name) => share_exists(&name).into(),
            StoreError::NoSuchShare(name) => share_not_found(&name).into(),
            StoreError::NoSuchDirectory { path, reason } => {
                Self::from(share_path_unreadable(&path, &reason))
            }
            StoreError::Private { path, private } => share_path_private(&path, &private).into(),
            StoreError::NoSuchGrant { share, .. } => Self::new(
                StatusCode::NOT_FOUND,
                "grant-not-found",
                format!("that member has no right of its own to {share}"),
            )
            .why("nothing was changed")
            .fix("`meshd share list` shows who may read; a right that `all` have is taken from `all`"),
            StoreError::Database {
                operation,
                path,
                source,
            } => {
                let what = format!("store the change in {} ({operation})", path.display());
                operation_failed(what, &source).into()
            }
        }
    }
}
