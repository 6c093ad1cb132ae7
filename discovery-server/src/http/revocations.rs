//! How is a key taken out for good?

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use mesh_wire::{
    discovery::Revoke,
    trust::{Revocation, Root},
};

use super::{
    access::admit,
    refusal::{JsonBody, Refusal},
    schema,
};
use crate::{app::App, registry::MAX_REVOCATIONS, store::Revoked};

/// Revokes a key: the revocation is signed, so it does not matter who hands it over.
#[utoipa::path(
    post,
    path = "/api/v1/mesh/networks/{id}/revocations",
    tag = "peers",
    params(("id" = String, Path, description = "The network's name")),
    security(("admission_token" = []), ("admin_token" = [])),
    request_body = schema::Revoke,
    responses(
        (status = 204, description = "The key is out, and with it the members that rest on it"),
        (status = "4XX", description = "400 malformed JSON, 401 no such network or not its token, 403 its signer is revoked, 409 too many revocations, \
         413 too large, 415 not JSON, 422 no admin of this network signed it, or the network has no key",
         body = schema::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "500 database, 507 its disk is full, 503 too slow", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<Revoke>,
) -> Result<StatusCode, Refusal> {
    let (network, _) = admit(&app, &headers, &id).await?;
    let bad = |why: String| {
        Refusal::new(422, "bad-revocation", "the revocation is not acceptable")
            .detail(why)
            .fix("let the creator or an admin of the network sign it: meshd revoke PEER")
    };
    let Some(key) = network.network_key else {
        return Err(bad(
            "this network has no key, so nothing can be revoked".to_owned()
        ));
    };
    let root = Root {
        network: network.id.clone(),
        key,
    };
    let revocation =
        Revocation::from_text(&request.revocation).map_err(|error| bad(error.to_string()))?;
    revocation
        .verify(&root)
        .map_err(|error| bad(error.to_string()))?;
    let networks = Arc::clone(&app.networks);
    let revoked = app
        .to_completion(async move { networks.revoke(&network.id, &revocation).await })
        .await??;
    match revoked {
        Revoked::Done(_) | Revoked::Known => Ok(StatusCode::NO_CONTENT),
        Revoked::SignerIsOut => Err(Refusal::new(
            403,
            "revoked",
            "who signed this revocation is revoked itself",
        )
        .fix("let the creator or another admin of the network sign it: meshd revoke PEER")),
        Revoked::TooMany => Err(Refusal::new(
            409,
            "too-many-revocations",
            "this network keeps no further revocation",
        )
        .detail(format!("it has {MAX_REVOCATIONS}"))
        .fix("make a new network, and let those join it who shall stay")),
    }
}
