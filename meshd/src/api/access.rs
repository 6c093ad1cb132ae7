//! Who may ask the local API, and for what?
//!
//! Over the Unix socket: root and the daemon's own user, anything. Over TCP: programs of this machine may read, and
//! whoever knows the token may change things. Web pages may do neither, whatever name they reach us by
//! (DNS rebinding) and whoever's browser they run in (cross-site requests, WebSockets included).

use std::net::SocketAddr;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::error::ApiError;
use crate::state::ApiToken;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    /// The Unix socket; `uid` at the other end, `owner` is the daemon's user.
    Socket { uid: u32, owner: u32 },
    /// TCP from `peer` to `local`.
    Tcp { peer: SocketAddr, local: SocketAddr },
}

/// Lets a request through or answers why not. Runs before routing, so that a stranger cannot even tell which paths exist.
pub(super) async fn guard(
    State(token): State<ApiToken>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    match check(caller, &token, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(caller: Caller, token: &ApiToken, request: &Request) -> Result<(), ApiError> {
    match caller {
        Caller::Socket { uid, owner } if uid == 0 || uid == owner => Ok(()),
        Caller::Socket { .. } => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not-allowed",
            "this user may not control the daemon",
        )
        .fix("run the command as root, or as the user that the daemon runs as")),
        Caller::Tcp { peer, local } => {
            if !peer.ip().is_loopback() {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "not-allowed",
                    "the local API answers programs of its own machine only",
                )
                .fix("ask on the machine that the daemon runs on"));
            }
            let host = check_host(request, local)?;
            check_page(request.headers(), &host)?;
            if matches!(*request.method(), Method::GET | Method::HEAD) {
                Ok(())
            } else {
                check_token(request.headers(), token)
            }
        }
    }
}

/// The request's host, if it is one of ours. A page that had its own name resolve to 127.0.0.1 is told apart by this.
fn check_host(request: &Request, local: SocketAddr) -> Result<String, ApiError> {
    let wrong = || {
        ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong-host",
            "this API answers only under its own name",
        )
        .why("the request's Host is not one of this listener's addresses")
        .fix(format!(
            "use http://127.0.0.1:{0}/ or http://localhost:{0}/",
            local.port()
        ))
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(wrong());
    };
    let host = host.to_str().map_err(|_| wrong())?.to_ascii_lowercase();
    let target_agrees = request
        .uri()
        .authority()
        .is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(&host));
    if target_agrees && is_own_host(&host, local) {
        Ok(host)
    } else {
        Err(wrong())
    }
}

fn is_own_host(host: &str, local: SocketAddr) -> bool {
    let port = local.port();
    let with_port = ["127.0.0.1", "[::1]", "localhost"]
        .iter()
        .any(|name| host == format!("{name}:{port}"));
    let without_port = port == 80 && ["127.0.0.1", "[::1]", "localhost"].contains(&host);
    with_port || without_port || host == local.to_string()
}

/// Refuses what a browser sends on behalf of a page that is not ours. Other programs send none of these headers.
fn check_page(headers: &HeaderMap, host: &str) -> Result<(), ApiError> {
    let own = format!("http://{host}");
    let all = |name: &HeaderName, allowed: &dyn Fn(&str) -> bool| {
        headers
            .get_all(name)
            .iter()
            .all(|value| value.to_str().is_ok_and(allowed))
    };
    let origin = all(&header::ORIGIN, &|value| value.eq_ignore_ascii_case(&own));
    let referer = all(&header::REFERER, &|value| {
        let origin = value.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        origin.eq_ignore_ascii_case(&own)
    });
    let site = all(&SEC_FETCH_SITE, &|value| {
        matches!(value, "none" | "same-origin")
    });
    if origin && referer && site {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "cross-origin",
        "a page of another site may not use this API",
    )
    .why("the request's Origin, Referer or Sec-Fetch-Site names another site")
    .fix("open the address directly, or use the command line"))
}

fn check_token(headers: &HeaderMap, token: &ApiToken) -> Result<(), ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (given.next(), given.next());
    let right = first.is_some_and(|value| {
        second.is_none()
            && value
                .to_str()
                .ok()
                .and_then(|value| value.split_once(' '))
                .is_some_and(|(scheme, secret)| {
                    scheme.eq_ignore_ascii_case("bearer") && token.matches(secret.trim())
                })
    });
    if right {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        "token-required",
        "changing anything over TCP needs the API token",
    )
    .why(if first.is_some() {
        "the Authorization header does not hold the token"
    } else {
        "the request has no Authorization header"
    })
    .fix(
        "send `Authorization: Bearer TOKEN` with the content of `api-token` in the state directory, or use the Unix socket",
    ))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    /// How a request is refused; `None` when it is let through.
    fn refusal(caller: Caller, method: Method, host: &str) -> Option<StatusCode> {
        let token = ApiToken::generate().unwrap();
        let request = Request::builder()
            .method(method)
            .header(header::HOST, host)
            .body(Body::empty())
            .unwrap();
        let error = check(caller, &token, &request).err()?;
        Some(error.into_response().status())
    }

    #[test]
    fn only_root_and_the_daemons_user_may_use_the_socket() {
        let caller = |uid| Caller::Socket { uid, owner: 1000 };
        for (uid, expected) in [
            (0, None),
            (1000, None),
            (1001, Some(StatusCode::FORBIDDEN)),
            (u32::MAX, Some(StatusCode::FORBIDDEN)),
        ] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(refusal(caller(uid), method, "x"), expected, "{uid}");
            }
        }
    }

    #[test]
    fn other_machines_may_not_even_read() {
        let local = "127.0.0.1:7082".parse().unwrap();
        for (peer, expected) in [
            ("127.0.0.1:5000", None),
            ("10.100.0.2:5000", Some(StatusCode::FORBIDDEN)),
            ("[fe80::1]:5000", Some(StatusCode::FORBIDDEN)),
        ] {
            let peer = peer.parse().unwrap();
            let caller = Caller::Tcp { peer, local };
            assert_eq!(refusal(caller, Method::GET, "127.0.0.1:7082"), expected);
        }
    }

    #[test]
    fn the_port_may_be_left_out_only_where_it_is_80() {
        let own = |host: &str, local: &str| is_own_host(host, local.parse().unwrap());
        assert!(own("localhost", "127.0.0.1:80"));
        assert!(!own("localhost", "127.0.0.1:7082"));
        assert!(own("127.0.0.2:7082", "127.0.0.2:7082"));
        assert!(!own("127.0.0.2:7082", "127.0.0.1:7082"));
    }

    #[test]
    fn every_method_that_may_change_something_needs_the_token() {
        let address = "127.0.0.1:7082".parse().unwrap();
        let caller = Caller::Tcp {
            peer: address,
            local: address,
        };
        for method in [
            "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "MKCOL",
        ] {
            let method = method.parse().unwrap();
            let refused = refusal(caller, method, "localhost:7082");
            assert_eq!(refused, Some(StatusCode::UNAUTHORIZED));
        }
    }
}
