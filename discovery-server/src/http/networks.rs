//! How is a network created, shown, listed and deleted?

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use mesh_wire::{
    discovery::{CreateNetwork, Network, NetworkList},
    problem::Problem,
};
use serde::Deserialize;

use super::{
    access::{admit, admit_admin, is_admin, no_such_network},
    refusal::{JsonBody, Refusal},
    schema,
};
use crate::{
    app::App,
    auth::TokenHash,
    membership::now,
    registry,
    store::{Created, NetworkRow},
};

/// Create a network. Needs no token, but one source may create only so many. Doing it again in the same words gives
/// the same answer with status 200. One that was deleted here is made again only if the admin token asks for it.
#[utoipa::path(
    post,
    path = "/api/v1/mesh/networks",
    tag = "networks",
    request_body = schema::CreateNetwork,
    responses(
        (status = 201, description = "Created", body = schema::Network),
        (status = 200, description = "It was created before, exactly so", body = schema::Network),
        (status = "4XX", description = "400 malformed JSON, 409 the name is taken, 410 it was deleted here, 413 too large, 415 not JSON, \
         422 not acceptable, 429 too many from this address", body = schema::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "500 database, 507 its disk is full, 503 full or too slow", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    JsonBody(wish): JsonBody<CreateNetwork>,
) -> Result<Response, Refusal> {
    let is_admin = is_admin(&app, &headers);
    if !is_admin && !app.may_create(source.ip(), Instant::now()) {
        return Err(Refusal::new(
            429,
            "too-many-networks-created",
            "this address created too many networks",
        )
        .fix("wait a few minutes, or use the admin token"));
    }
    let row = check(&wish)?;
    let created = app.networks.store.create_network(&row, is_admin).await?;
    let (status, row) = match created {
        Created::New => (StatusCode::CREATED, row),
        Created::Same(row) => (StatusCode::OK, row),
        Created::Taken => {
            return Err(Refusal::new(
                409,
                "network-exists",
                format!("the name {} is taken", row.id),
            )
            .detail("another network of this server has it")
            .fix("choose another name, or join the existing one with its link"));
        }
        Created::Deleted => return Err(network_deleted().into()),
        Created::TooMany => {
            return Err(
                Refusal::new(503, "server-full", "this server keeps no further network")
                    .detail(format!("it has {} of them", registry::MAX_NETWORKS))
                    .fix("ask its administrator to delete unused ones, or use another server"),
            );
        }
    };
    let peers = app.networks.store.count_members(&row.id).await?;
    let place = format!("/api/v1/mesh/networks/{}", row.id);
    let body = Json(shown(&app, row, peers));
    Ok((status, [(header::LOCATION, place)], body).into_response())
}

/// All networks. Needs the admin token.
#[utoipa::path(
    get,
    path = "/api/v1/mesh/networks",
    tag = "networks",
    security(("admin_token" = [])),
    responses(
        (status = 200, description = "In order of name", body = schema::NetworkList),
        (status = 401, description = "Not the admin token", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<NetworkList>, Refusal> {
    admit_admin(&app, &headers)?;
    let rows = app.networks.store.networks().await?;
    let networks = rows.into_iter().map(|(row, peers)| shown(&app, row, peers));
    Ok(Json(NetworkList {
        networks: networks.collect(),
    }))
}

/// One network.
#[utoipa::path(
    get,
    path = "/api/v1/mesh/networks/{id}",
    tag = "networks",
    params(("id" = String, Path, description = "The network's name")),
    security(("admission_token" = []), ("admin_token" = [])),
    responses(
        (status = 200, description = "The network", body = schema::Network),
        (status = 401, description = "No such network, or not its token", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "No such network (told to the administrator only)", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Network>, Refusal> {
    let (row, _) = admit(&app, &headers, &id).await?;
    let peers = app.networks.store.count_members(&row.id).await?;
    Ok(Json(shown(&app, row, peers)))
}

/// Delete a network with its members and end their connections. Needs the admin token. The server remembers it, so that its
/// members do not make it again; with `?remember=false` it does not, and forgets what it remembered under that name.
#[utoipa::path(
    delete,
    path = "/api/v1/mesh/networks/{id}",
    tag = "networks",
    params(
        ("id" = String, Path, description = "The network's name"),
        ("remember" = Option<bool>, Query, description = "Whether its members may not make it again; true if left out"),
    ),
    security(("admin_token" = [])),
    responses(
        (status = 204, description = "Deleted, or forgotten that it was"),
        (status = 400, description = "Not a query of this address", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 401, description = "Not the admin token", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "No such network", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    deletion: Result<Query<Deletion>, QueryRejection>,
) -> Result<StatusCode, Refusal> {
    admit_admin(&app, &headers)?;
    let Query(Deletion { remember }) = deletion.map_err(|rejection| {
        Refusal::new(400, "malformed-query", "the address was not understood")
            .detail(rejection.body_text())
            .fix("ask without a query, or with ?remember=false")
    })?;
    let id = id.parse().map_err(|_| no_such_network())?;
    let networks = Arc::clone(&app.networks);
    let deleted = app
        .to_completion(async move { networks.delete(&id, remember).await })
        .await??;
    match deleted {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_such_network()),
    }
}

/// What is asked beside the name when a network is deleted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deletion {
    #[serde(default = "yes")]
    remember: bool,
}

const fn yes() -> bool {
    true
}

/// To its members, then and whenever they come back.
pub(super) fn network_deleted() -> Problem {
    Problem::new(
        410,
        "network-deleted",
        "this network was deleted on the server",
    )
    .detail("its administrator deleted it on purpose, so its members do not make it again")
    .fix("use another server; or let the administrator allow it: DELETE /api/v1/mesh/networks/NAME?remember=false with the admin token")
}

fn check(wish: &CreateNetwork) -> Result<NetworkRow, Refusal> {
    if let Some(objection) = registry::cidr_objection(wish.cidr) {
        return Err(Refusal::new(
            422,
            "unusable-cidr",
            format!("{} cannot be used", wish.cidr),
        )
        .detail(objection)
        .fix("use a private range such as 10.100.0.0/16"));
    }
    let token = &wish.admission_token;
    if !(32..=128).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            Refusal::new(422, "unusable-token", "the admission token cannot be used")
                .detail("it must have 32 to 128 visible ASCII characters")
                .fix("derive it from a random network secret"),
        );
    }
    Ok(NetworkRow {
        id: wish.id.clone(),
        cidr: wish.cidr,
        network_key: wish.network_key,
        admission: TokenHash::of(token),
        created_at: now(),
    })
}

fn shown(app: &App, row: NetworkRow, peer_count: u64) -> Network {
    Network {
        id: row.id,
        cidr: row.cidr,
        network_key: row.network_key,
        created_at: row.created_at,
        peer_count,
        stun_port: app.stun_port,
        public_ip: app.public_ip,
    }
}
