//! How does a node become a member, how are members listed, and how do they leave?

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use mesh_wire::{
    NodeId,
    discovery::RegisterPeer,
    id::check_dns_label,
    peer_info::PeerRecord,
    place::is_host,
    trust::{Certificate, Root},
};

use super::{
    access::{Role, admit},
    refusal::{JsonBody, Refusal},
    schema,
};
use crate::{
    app::App,
    auth::{MAX_CLOCK_SKEW, NodeProof, SIGNATURE_HEADER, TIMESTAMP_HEADER},
    membership::Deregistered,
    registry::MAX_MEMBERS,
    store::{NetworkRow, Registered, Rejection},
};

/// Register a node, or bring its record up to date. The record's `seq` must be greater than the stored one's; the
/// stored record itself is taken again.
#[utoipa::path(
    post,
    path = "/api/v1/mesh/networks/{id}/peers",
    tag = "peers",
    params(("id" = String, Path, description = "The network's name")),
    security(("admission_token" = []), ("admin_token" = [])),
    request_body = schema::RegisterPeer,
    responses(
        (status = 201, description = "A new member", body = schema::PeerInfo),
        (status = 200, description = "The member as it is now", body = schema::PeerInfo),
        (status = "4XX", description = "400 malformed JSON, 401 no such network or not its token, 409 stale record, \
         network full, no address left, or WireGuard key, address or name are another member's, 403 the certificate or its invite lets nobody in, 413 too large, 415 not JSON, 422 the record's \
         signature or certificate is wrong, 429 too many from this address",
         body = schema::Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "500 database, 507 its disk is full, 503 too slow", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<RegisterPeer>,
) -> Result<Response, Refusal> {
    let (network, role) = admit(&app, &headers, &id).await?;
    if role == Role::Member && !app.may_register(source.ip(), Instant::now()) {
        return Err(Refusal::new(
            429,
            "too-many-registrations",
            "this address registered too many records",
        )
        .fix("wait a minute, or use the admin token"));
    }
    request.record.verify(&network.id).map_err(|error| {
        Refusal::new(422, "bad-record", "the record is not acceptable")
            .detail(error.to_string())
            .fix("sign it with the node's own key, for this network, with a DNS label as host name")
    })?;
    let certificate = certificate(&request.record, &network)?;
    let networks = Arc::clone(&app.networks);
    let (registered, info) = app
        .to_completion(async move {
            networks
                .register(&network, &request, certificate.as_ref())
                .await
        })
        .await??;
    let status = match registered {
        Registered::New(_) => StatusCode::CREATED,
        Registered::Updated(_) | Registered::Unchanged(_) => StatusCode::OK,
        Registered::Stale(seq) => return Err(stale(seq)),
        Registered::NetworkFull => return Err(network_full()),
        Registered::NoAddressLeft => return Err(no_address_left()),
        Registered::KeyTaken => return Err(key_taken()),
        Registered::AddressTaken => return Err(taken("address")),
        Registered::NameTaken => return Err(taken("name")),
        Registered::Rejected(rejection) => return Err(rejected(rejection)),
        Registered::NetworkGone => return Err(Refusal::unauthorized()),
    };
    Ok((status, Json(info)).into_response())
}

/// All members, online or not, in order of name: 1,000 at a time. Where there are more, a `Link` header with `rel="next"`
/// (RFC 8288) leads to them.
#[utoipa::path(
    get,
    path = "/api/v1/mesh/networks/{id}/peers",
    tag = "peers",
    params(
        ("id" = String, Path, description = "The network's name"),
        ("after" = Option<String>, Query, description = "Begin behind this name",
         pattern = "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"),
    ),
    security(("admission_token" = []), ("admin_token" = [])),
    responses(
        (status = 200, description = "The members", body = schema::Directory),
        (status = 400, description = "Not a query of this address", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 401, description = "No such network, or not its token", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "No such network (told to the administrator only)", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (network, _) = admit(&app, &headers, &id).await?;
    let Query(page) = page.map_err(|rejection| {
        Refusal::new(400, "malformed-query", "the address was not understood")
            .detail(rejection.body_text())
            .fix("ask without a query, or with ?after=NAME")
    })?;
    let after = page.after.unwrap_or_default();
    if !after.is_empty()
        && let Err(error) = check_dns_label("after", &after)
    {
        return Err(
            Refusal::new(400, "malformed-query", "the address was not understood")
                .detail(error.to_string())
                .fix("ask without a query, or with ?after=NAME"),
        );
    }
    let (list, is_last) = app.networks.directory(&network.id, &after).await?;
    let next = list.peers.last().filter(|_| !is_last).map(|last| {
        // Names are DNS labels: nothing in them means anything in a URL.
        let id = &network.id;
        let link = format!(
            "</api/v1/mesh/networks/{id}/peers?after={}>; rel=\"next\"",
            last.name
        );
        [(header::LINK, link)]
    });
    Ok((next, Json(list)).into_response())
}

/// Which part of the list.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Page {
    after: Option<String>,
}

/// Deregister a node. Members can deregister only themselves: besides the admission token this needs the headers
/// `Mesh-Timestamp` (seconds since the Unix epoch) and `Mesh-Signature` (base64 of the node's Ed25519 signature over
/// `meshd deregister v1`, network, node id, `seq` of its record and the timestamp, with a NUL between each).
/// This takes the record away, and with it name and address of a node that is gone. It ends no membership: a node that runs
/// registers again at once. For that the creator or an admin revokes it.
#[utoipa::path(
    delete,
    path = "/api/v1/mesh/networks/{id}/peers/{peer}",
    tag = "peers",
    params(
        ("id" = String, Path, description = "The network's name"),
        ("peer" = String, Path, description = "The node id"),
        ("Mesh-Timestamp" = Option<u64>, Header, description = "When the node signed, within 5 minutes"),
        ("Mesh-Signature" = Option<String>, Header, description = "The node's signature, in base64"),
    ),
    security(("admission_token" = []), ("admin_token" = [])),
    responses(
        (status = 204, description = "Deregistered; a node that runs registers again"),
        (status = 401, description = "No such network, or not its token", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 403, description = "The node's own signature is missing or wrong", body = schema::Problem,
         content_type = "application/problem+json"),
        (status = 404, description = "No such member", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn deregister(
    State(app): State<Arc<App>>,
    Path((id, peer)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let (network, role) = admit(&app, &headers, &id).await?;
    let node: NodeId = peer.parse().map_err(|_| no_such_peer())?;
    let proof = match role {
        Role::Admin => None,
        Role::Member => Some(proof(&headers).ok_or_else(not_proven)?),
    };
    let networks = Arc::clone(&app.networks);
    let done = app
        .to_completion(async move {
            networks
                .deregister(&network.id, &node, proof.as_ref())
                .await
        })
        .await??;
    match done {
        Deregistered::Done => Ok(StatusCode::NO_CONTENT),
        Deregistered::Unknown => Err(no_such_peer()),
        Deregistered::NotProven => Err(not_proven()),
    }
}

/// What makes the record's node a member, where the network has a key.
fn certificate(record: &PeerRecord, network: &NetworkRow) -> Result<Option<Certificate>, Refusal> {
    let Some(key) = network.network_key else {
        return Ok(None);
    };
    let root = Root {
        network: network.id.clone(),
        key,
    };
    let certificate = record.certified(&root).map_err(|error| {
        Refusal::new(
            422,
            "bad-certificate",
            "the record's certificate does not make its node a member",
        )
        .detail(error.to_string())
        .fix("join with a link that an admin of this network made")
    })?;
    if !is_host(network.cidr, certificate.member_address()) {
        return Err(Refusal::new(
            422,
            "bad-certificate",
            "the record's certificate does not make its node a member",
        )
        .detail(format!(
            "its address {} is none of {}",
            certificate.member_address(),
            network.cidr
        ))
        .fix("take a free address of the network's range"));
    }
    Ok(Some(certificate))
}

fn taken(what: &str) -> Refusal {
    Refusal::new(
        409,
        &format!("{what}-taken"),
        format!("another member of this network has this {what}"),
    )
    .fix("look at the members, and take another one")
}

fn rejected(rejection: Rejection) -> Refusal {
    let ask = "ask an admin of the network for a new link: meshd invite";
    match rejection {
        Rejection::Expired => Refusal::new(
            403,
            "certificate-expired",
            "the node's certificate does not hold today",
        )
        .detail("it has expired, or the clock of this server or of the node is wrong")
        .fix(ask),
        Rejection::Revoked => Refusal::new(403, "revoked", "this node was revoked")
            .detail("its key, or the key of who let it in, is out for good")
            .fix("join with a new link, if an admin agrees; where the node's own key is out, with a new state directory too"),
        Rejection::InviteExpired => Refusal::new(
            403,
            "invite-expired",
            "the join link does not hold any more",
        )
        .detail("its time is over, or an admin has ended it")
        .fix(ask),
        Rejection::InviteUsedUp => Refusal::new(
            403,
            "invite-used-up",
            "the join link has let in as many machines as it may",
        )
        .detail("it was made for so many (--uses), and each came in with keys of its own")
        .fix(ask),
    }
}

fn proof(headers: &HeaderMap) -> Option<NodeProof> {
    let text = |name| headers.get(name)?.to_str().ok();
    NodeProof::parse(text(TIMESTAMP_HEADER)?, text(SIGNATURE_HEADER)?)
}

fn stale(stored: u64) -> Refusal {
    Refusal::new(409, "stale-record", "a newer record of this node is stored")
        .detail(format!("its seq is {stored}"))
        .fix("sign a record with a greater seq")
}

fn network_full() -> Refusal {
    Refusal::new(409, "network-full", "this network takes no further member")
        .detail(format!("it has {MAX_MEMBERS}"))
        .fix("deregister nodes that are gone")
}

fn no_address_left() -> Refusal {
    Refusal::new(
        409,
        "no-address-left",
        "all addresses of this network are taken",
    )
    .fix("deregister nodes that are gone, or make a network with a larger CIDR")
}

fn key_taken() -> Refusal {
    Refusal::new(
        409,
        "key-taken",
        "another member of this network has this WireGuard key",
    )
    .detail("two members with one key could not be told apart")
    .fix("make a new WireGuard key, or deregister the member that has it")
}

fn no_such_peer() -> Refusal {
    Refusal::new(
        404,
        "no-such-peer",
        "this network has no member with that node id",
    )
    .detail("it has left, or the path names something else than a whole node id")
    .fix("GET .../peers lists the members with their node ids")
}

fn not_proven() -> Refusal {
    Refusal::new(
        403,
        "not-that-node",
        "only the node itself or an administrator may deregister it",
    )
    .detail("the node's signature is missing, wrong, for another record, or too old")
    .fix(format!(
        "sign the request with the node's key; its clock may be at most {MAX_CLOCK_SKEW} s off"
    ))
}
