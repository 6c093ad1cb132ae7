//! Which address of the HTTP interface leads where, and what holds for all of them?

mod access;
mod events;
mod forwarded;
mod health;
mod join_page;
mod networks;
mod peers;
mod refusal;
mod revocations;
mod schema;
mod turn;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use mesh_wire::problem::Problem;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::refusal::Refusal;
use crate::app::App;

/// A request that takes longer is given up. The slowest, a registration, waits for the disk a few times.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// All routes, with the document that describes them: both come from the same annotations.
fn described_routes() -> (Router<Arc<App>>, OpenApi) {
    OpenApiRouter::with_openapi(schema::document())
        .routes(routes!(networks::create, networks::list))
        .routes(routes!(networks::show, networks::delete))
        .routes(routes!(peers::register, peers::list))
        .routes(routes!(peers::deregister))
        .routes(routes!(revocations::revoke))
        .routes(routes!(events::events))
        .routes(routes!(turn::turn))
        .routes(routes!(join_page::join_page))
        .routes(routes!(health::healthz))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi))
        .split_for_parts()
}

/// The whole HTTP interface.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, _) = described_routes();
    routes
        .fallback(|| async {
            Refusal::new(404, "no-such-path", "there is nothing at this address")
                .fix("GET /api/v1/openapi.json lists all addresses")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                405,
                "method-not-allowed",
                "this address does not know that method",
            )
            .fix("GET /api/v1/openapi.json lists what each address knows")
        })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            forwarded::name_client,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// The OpenAPI document of this interface.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "server",
    responses((status = 200, description = "This document", content_type = "application/json"))
)]
async fn openapi() -> Json<OpenApi> {
    Json(described_routes().1)
}

/// Time limit, headers of every answer, and its count by status.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::from(
            Problem::new(503, "too-slow", "the server could not answer in time")
                .fix("try again in a few seconds"),
        )
        .into_response(),
    };
    app.metrics.count_response(response.status());
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if response.status() == StatusCode::UNAUTHORIZED {
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_the_whole_contract() {
        let document = serde_json::to_value(described_routes().1).unwrap();
        let mut described = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                described.push(format!("{method} {path}"));
            }
        }
        described.sort();
        let expected = [
            "delete /api/v1/mesh/networks/{id}",
            "delete /api/v1/mesh/networks/{id}/peers/{peer}",
            "get /api/v1/mesh/networks",
            "get /api/v1/mesh/networks/{id}",
            "get /api/v1/mesh/networks/{id}/events",
            "get /api/v1/mesh/networks/{id}/peers",
            "get /api/v1/openapi.json",
            "get /api/v1/turn",
            "get /healthz",
            "get /join/{network}",
            "get /metrics",
            "post /api/v1/mesh/networks",
            "post /api/v1/mesh/networks/{id}/peers",
            "post /api/v1/mesh/networks/{id}/revocations",
        ];
        assert_eq!(described, expected);
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = serde_json::to_value(described_routes().1).unwrap();
        let text = document.to_string();
        let references: Vec<&str> = text
            .split("\"$ref\":\"#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(references.len() > 10, "{references:?}");
        for name in references {
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }
}
