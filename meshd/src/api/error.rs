//! How does the local API say no? With problem documents (RFC 9457), for its own errors as for axum's.

use axum::{
    extract::{FromRequest, FromRequestParts, rejection::JsonRejection, rejection::PathRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use mesh_wire::problem::{MEDIA_TYPE, Problem};

use crate::control::Control;

/// The codes that only the local API answers with, beside those of [`crate::problem::CODES`], each with the
/// situation it stands for.
pub const CODES: &[(&str, &str)] = &[
    (
        "api-not-loopback",
        "the local API was told to listen on an address that others reach",
    ),
    ("cross-origin", "a web page of another site asked"),
    (
        "daemon-stopping",
        "the daemon does not take requests any more",
    ),
    (
        "grant-not-found",
        "a right that was never given cannot be taken back",
    ),
    (
        "malformed-request",
        "the request's body, path or protocol is not what the resource takes",
    ),
    (
        "method-not-allowed",
        "the resource exists, the method does not",
    ),
    (
        "not-allowed",
        "another user's program, or another machine, asked",
    ),
    ("not-found", "no resource has that path"),
    ("peer-offline", "the pinged peer is not online"),
    ("ping-self", "a node pings only others"),
    ("ping-timeout", "the pinged peer did not answer in time"),
    ("revoke-self", "a node cannot put itself out"),
    (
        "request-timeout",
        "the request was not read and answered in time",
    ),
    (
        "resource-not-built",
        "a resource of the interface that this version lacks",
    ),
    ("token-required", "a change over TCP without the API token"),
    ("too-large", "the request body is too large"),
    ("too-many-listeners", "too many programs listen to events"),
    ("unknown-network", "this node is not in that network"),
    (
        "wrong-host",
        "the Host header is not this API's own address",
    ),
];

/// A refusal on its way to the caller.
#[derive(Debug)]
pub(super) struct ApiError(Box<Problem>);

impl ApiError {
    /// `code` is one of [`CODES`]; what is said of it elsewhere comes by [`From<Problem>`].
    pub(super) fn new(status: StatusCode, code: &str, what: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status.as_u16(), code, what)))
    }

    /// Says why.
    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self(Box::new(self.0.detail(why)))
    }

    /// Says what helps.
    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self(Box::new(self.0.fix(fix)))
    }

    /// The daemon does not take requests any more.
    pub(super) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "daemon-stopping",
            "the daemon is stopping",
        )
        .fix("start it again with `meshd up`")
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // A problem of the machine has no HTTP status of its own: it is no fault of the caller's.
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let document = Problem {
            status: status.as_u16(),
            ..*self.0
        };
        let mut response = (status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A request body; what cannot be read as `T` is a problem document.
#[derive(Debug, FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub(super) struct Json<T>(pub(super) T);

/// Parts of the path; what cannot be read as `T` is a problem document.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(super) struct Path<T>(pub(super) T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "the request body is too large",
            )
            .why(format!("the limit is {} bytes", super::MAX_BODY))
            .fix("send less: no resource takes that much");
        }
        Self::new(
            rejection.status(),
            "malformed-request",
            "the request body is not what this resource takes",
        )
        .why(rejection.body_text())
        .fix("send a JSON object with `Content-Type: application/json`")
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(
            rejection.status(),
            "malformed-request",
            "the request path cannot be read",
        )
        .why(rejection.body_text())
        .fix("percent-encode names as UTF-8")
    }
}

/// Gives `request` to the daemon; an error when it does not listen any more.
pub(super) async fn ask(
    control: &tokio::sync::mpsc::Sender<Control>,
    request: Control,
) -> Result<(), ApiError> {
    control
        .send(request)
        .await
        .map_err(|_| ApiError::stopping())
}

/// Answers for paths that do not exist.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not-found",
        format!("there is nothing at {}", uri.path()),
    )
    .fix("docs/OPERATIONS.md, \"Local API\", lists all resources; GET /api/v1/status is the one to begin with")
}

/// Answers for paths that are part of the interface but not of this version.
pub(super) async fn not_built(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "resource-not-built",
        format!("{} is not built in this version", uri.path()),
    )
    .why("it is planned; nothing was done")
    .fix("GET /api/v1/status has the members and the paths to them")
}

/// Answers for changes of networks and of their members, which the discovery server makes.
pub(super) async fn server_only(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "resource-not-built",
        format!("{method} {} is not built in this version", uri.path()),
    )
    .why("the daemon answers questions about its network and passes no change of it on; nothing was done")
    .fix("ask the discovery server, whose URL is in GET /api/v1/status; meshd revoke puts a member out, meshd up makes and joins networks")
}

/// Answers for paths that exist, for other methods.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "this resource does not take that method",
    )
    .fix("the Allow header names the methods it takes")
}
