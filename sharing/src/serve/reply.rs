//! The responses without a file or a listing in them, and the header fields that all responses share.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::body::Body;

/// The methods of a share that may be read.
pub(crate) const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Text is UTF-8 unless the file itself says otherwise.
pub(crate) const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Scripts of a shared file, if a browser runs it at all, must not act with its reader's rights on this server.
const FILE_POLICY: HeaderValue = HeaderValue::from_static("sandbox");

/// "No such share", "not for you" and "no such file": one response, so that nobody learns which it was.
pub(crate) fn not_found(method: &Method) -> Response<Body> {
    let mut response = text(method, StatusCode::NOT_FOUND, "Not found.\n");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 405 for a method that the share does not have.
pub(crate) fn method_not_allowed(method: &Method) -> Response<Body> {
    let mut response = text(
        method,
        StatusCode::METHOD_NOT_ALLOWED,
        "This share can be read with GET and HEAD only.\n",
    );
    response.headers_mut().insert(header::ALLOW, ALLOW);
    response
}

/// The answer to OPTIONS on something that exists.
pub(crate) fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, ALLOW);
    response
}

/// 301 to another path of this server.
pub(crate) fn moved(method: &Method, location: &str) -> Response<Body> {
    let mut response = text(
        method,
        StatusCode::MOVED_PERMANENTLY,
        "See the Location header.\n",
    );
    // The location is percent-encoded, so it is always a legal value.
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    // A share may later be granted or renamed: the browser must ask again.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A refusal after which the connection is closed, because what follows on it cannot be trusted.
pub(crate) fn refused(method: &Method, status: StatusCode, why: &'static str) -> Response<Body> {
    let mut response = text(method, status, why);
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A short message for people.
pub(crate) fn text(method: &Method, status: StatusCode, message: &'static str) -> Response<Body> {
    buffered(
        method,
        status,
        PLAIN_TEXT,
        Bytes::from_static(message.as_bytes()),
    )
}

/// A response whose body is already in memory; HEAD gets the same header fields and no body.
pub(crate) fn buffered(
    method: &Method,
    status: StatusCode,
    kind: HeaderValue,
    content: Bytes,
) -> Response<Body> {
    let length = content.len();
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        Body::full(content)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The header fields that keep a shared file from acting as a page of this server.
pub(crate) fn guard_file(headers: &mut HeaderMap) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, FILE_POLICY);
    guard_origin(headers);
}

/// The header fields that keep other sites from embedding this server's content, and from learning its URLs.
pub(crate) fn guard_origin(headers: &mut HeaderMap) {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
}
