//! How does a refused request look? (RFC 9457), and when is a body refused?

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use mesh_wire::{
    discovery::MAX_MESSAGE,
    problem::{MEDIA_TYPE, Problem},
};
use serde::de::DeserializeOwned;

use crate::store::StoreError;

/// The code of [`database_busy`].
const DATABASE_BUSY: &str = "database-busy";

/// Until then, in seconds, a client that was refused for that does not ask again: as long as one change waits.
const BUSY_FOR: &str = "5";

/// A problem as an HTTP answer.
#[derive(Debug)]
pub(super) struct Refusal(Problem);

impl Refusal {
    pub(super) fn new(status: u16, code: &str, title: impl Into<String>) -> Self {
        Self(Problem::new(status, code, title))
    }

    pub(super) fn detail(self, detail: impl Into<String>) -> Self {
        Self(self.0.detail(detail))
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self(self.0.fix(fix))
    }

    /// The one answer to whoever has no valid token, whether the network exists or not.
    pub(super) fn unauthorized() -> Self {
        Self::new(
            401,
            "unauthorized",
            "the bearer token is missing or not valid here",
        )
        .detail("there is no such network, or the token is not the one it was created with")
        .fix("join again with a complete and current link; administrators use their admin token")
    }
}

/// To whoever needs what is in the database; another server may have it.
pub(super) fn database_away() -> Problem {
    Problem::new(
        503,
        "database-away",
        "this server is cut off from its database",
    )
    .fix("use another server of the network; this one serves again when its database is back")
}

/// To whoever wants to write what another one holds up.
pub(super) fn database_busy() -> Problem {
    Problem::new(
        503,
        DATABASE_BUSY,
        "the server's database was busy for too long: nothing was changed",
    )
    .detail("another program reads or writes its file, or its disk is slow")
    .fix(
        "try again in some seconds; let the server's operator look for what holds the file (fuser)",
    )
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request failed");
        if error.is_disk_full() {
            return Self::new(
                507,
                "disk-full",
                "the server's disk is full: nothing was changed",
            )
            .fix("let its operator make room; nothing needs to be restarted");
        }
        if error.is_busy() {
            return Self(database_busy());
        }
        if error.is_away() {
            return Self(database_away());
        }
        Self::new(
            500,
            "database",
            "the server could not read or write its database",
        )
        .fix("try again; if it stays so, the server's log says why")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let is_busy = self.0.code == DATABASE_BUSY;
        let mut response = (status, axum::Json(self.0)).into_response();
        if is_busy {
            let seconds = HeaderValue::from_static(BUSY_FOR);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        let kind = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// A JSON body of at most [`MAX_MESSAGE`] bytes.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(
                Refusal::new(415, "unsupported-media-type", "the body is not JSON")
                    .fix("send it with Content-Type: application/json"),
            );
        }
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MAX_MESSAGE) {
            return Err(too_large());
        }
        let bytes = axum::body::to_bytes(request.into_body(), MAX_MESSAGE)
            .await
            .map_err(|error| match is_length_limit(&error) {
                true => too_large(),
                false => Refusal::new(400, "incomplete-body", "the body ended early")
                    .fix("send all that Content-Length announces"),
            })?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            Refusal::new(
                400,
                "malformed-json",
                "the body is not the JSON that this address takes",
            )
            .detail(error.to_string())
            .fix("GET /api/v1/openapi.json describes it")
        })?;
        Ok(Self(value))
    }
}

fn too_large() -> Refusal {
    Refusal::new(413, "body-too-large", "the body is too large")
        .detail(format!("at most {MAX_MESSAGE} bytes are taken"))
        .fix("send less; GET /api/v1/openapi.json describes what is taken")
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
