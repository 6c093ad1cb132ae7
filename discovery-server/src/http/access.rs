//! Which network does a request mean, and may its sender see it?

use axum::http::{HeaderMap, header};
use mesh_wire::NetworkId;

use super::refusal::Refusal;
use crate::{app::App, auth::TokenHash, store::NetworkRow};

/// As whom a request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Admin,
    Member,
}

/// Lets in whoever shows the network's admission token or the admin token. To anyone else a network that exists and
/// one that does not look the same.
pub(super) async fn admit(
    app: &App,
    headers: &HeaderMap,
    id: &str,
) -> Result<(NetworkRow, Role), Refusal> {
    let token = bearer(headers).ok_or_else(Refusal::unauthorized)?;
    let network = match id.parse::<NetworkId>() {
        Ok(id) => app.networks.store.network(&id).await?,
        Err(_) => None,
    };
    let admin = app.admin.admit(token);
    match network {
        Some(network) if network.admission == token => Ok((network, Role::Member)),
        Some(network) if admin => Ok((network, Role::Admin)),
        None if admin => Err(no_such_network()),
        Some(_) | None => Err(Refusal::unauthorized()),
    }
}

/// Lets in whoever shows the admin token.
pub(super) fn admit_admin(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    match is_admin(app, headers) {
        true => Ok(()),
        false => Err(Refusal::new(401, "unauthorized", "this needs the server's admin token")
            .fix("send it as Authorization: Bearer TOKEN; the server printed the token's file when it started")),
    }
}

/// Whether the admin token was shown.
pub(super) fn is_admin(app: &App, headers: &HeaderMap) -> bool {
    bearer(headers).is_some_and(|token| app.admin.admit(token))
}

/// For the administrator, who may know what exists.
pub(super) fn no_such_network() -> Refusal {
    Refusal::new(404, "no-such-network", "there is no network of this name")
        .fix("GET /api/v1/mesh/networks lists all")
}

/// The token of the Authorization header (RFC 6750 section 2.1); tokens in the URL are not looked at.
fn bearer(headers: &HeaderMap) -> Option<TokenHash> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| TokenHash::of(token.trim()))
}
