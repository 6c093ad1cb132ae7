//! What does someone see who opens a join link in a browser?

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse as _, Response},
};
use data_encoding::BASE64;
use mesh_wire::NetworkId;

use super::{refusal::Refusal, schema};

/// The page has no script: the secret behind `#` stays in the browser's address bar.
const PAGE: &str = include_str!("join_page.html");

/// What to do with a join link that was opened in a browser. The page is the same whether the network exists or not.
#[utoipa::path(
    get,
    path = "/join/{network}",
    tag = "server",
    params(("network" = String, Path, description = "The network's name",
            pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")),
    responses(
        (status = 200, description = "A page for people", content_type = "text/html"),
        (status = 404, description = "Not a network name", body = schema::Problem,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn join_page(Path(network): Path<String>) -> Result<Response, Refusal> {
    let network: NetworkId = network.parse().map_err(|_| {
        Refusal::new(
            404,
            "no-such-path",
            "this join link is damaged: it names no network",
        )
        .fix("ask whoever sent it for the whole link")
    })?;
    let mut random = [0_u8; 18];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        Refusal::new(
            500,
            "no-random-numbers",
            "the server could not make this page",
        )
    })?;
    let nonce = BASE64.encode(&random);
    // A network name is a DNS label and the nonce is base64: neither needs escaping in HTML.
    let page = PAGE
        .replace("{network}", network.as_str())
        .replace("{nonce}", &nonce);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    Ok((headers, page).into_response())
}
