//! Who may ask the local API? Strangers, web pages and rebound names may not.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod api_fixture;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use api_fixture::{TestApi, Via, any_port, socket_of};
use http::StatusCode;
use meshd::api::ApiListeners;
use tokio::net::{TcpStream, UnixListener};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

const READABLE: [&str; 7] = [
    "/healthz",
    "/metrics",
    "/api/v1/status",
    "/api/v1/shares",
    "/api/v1/mesh/networks",
    "/api/v1/mesh/networks/my-network",
    "/api/v1/mesh/networks/my-network/peers",
];

const CHANGES: [(&str, &str, &str); 8] = [
    ("POST", "/api/v1/ping", r#"{"peer":"bob"}"#),
    ("POST", "/api/v1/invite", ""),
    ("POST", "/api/v1/revoke", "{\"peer\": \"bob\"}"),
    ("POST", "/api/v1/down", ""),
    ("POST", "/api/v1/shares", r#"{"name":"x","path":"/tmp"}"#),
    ("DELETE", "/api/v1/shares/x", ""),
    ("PUT", "/api/v1/shares/x/grants/bob", ""),
    ("DELETE", "/api/v1/shares/x/grants/bob", ""),
];

#[tokio::test]
async fn programs_of_this_machine_may_read_under_every_own_name() {
    let api = TestApi::start().await;
    let port = api.address.port();
    for path in READABLE {
        for host in ["127.0.0.1", "localhost", "LocalHost", "[::1]"] {
            let host = format!("{host}:{port}");
            let answer = api
                .request(Via::Tcp, "GET", path, &[("host", &host)], "")
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{path} as {host}");
        }
        let answer = api.request(Via::Socket, "GET", path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_rebound_name_is_misdirected() {
    let api = TestApi::start().await;
    let port = api.address.port();
    let hosts = [
        "evil.test".to_owned(),
        format!("evil.test:{port}"),
        format!("localhost.evil.test:{port}"),
        format!("127.0.0.1.evil.test:{port}"),
        format!("localhost.:{port}"),
        format!("user@127.0.0.1:{port}"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("10.100.0.1:{port}"),
        "127.0.0.1".to_owned(),
        "localhost:1".to_owned(),
        format!("localhost:0{port}"),
    ];
    for path in READABLE.iter().chain(&["/", "/nowhere", "/api/v1/events"]) {
        for host in &hosts {
            let answer = api
                .request(Via::Tcp, "GET", path, &[("host", host)], "")
                .await;
            assert_eq!(
                answer.status,
                StatusCode::MISDIRECTED_REQUEST,
                "{path} as {host}"
            );
            assert_eq!(answer.problem().code, "wrong-host");
        }
        let answer = api
            .request(Via::Tcp, "GET", path, &[("host", "")], "")
            .await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "no host");
    }
}

#[tokio::test]
async fn a_second_host_or_another_target_is_misdirected() {
    let api = TestApi::start().await;
    let own = api.host();
    let answer = api
        .request(
            Via::Tcp,
            "GET",
            "/api/v1/status",
            &[("host", &own), ("host", "evil.test")],
            "",
        )
        .await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    let target = "http://evil.test/api/v1/status";
    let answer = api.request(Via::Tcp, "GET", target, &[], "").await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn web_pages_may_neither_read_nor_change() {
    let api = TestApi::start().await;
    let port = api.address.port();
    let bearer = api.bearer();
    let other_port = format!("http://127.0.0.1:{}", port ^ 1);
    let other_scheme = format!("https://127.0.0.1:{port}");
    let other_name = format!("http://localhost:{port}");
    let prefix = format!("http://127.0.0.1:{port}.evil.test/");
    let pages = [
        ("origin", "http://evil.test"),
        ("origin", "null"),
        ("origin", &other_port),
        ("origin", &other_scheme),
        ("origin", &other_name),
        ("origin", "chrome-extension://abcdefghijklmnop"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "surprise"),
        ("referer", "http://evil.test/page"),
        ("referer", &prefix),
        ("referer", &other_name),
    ];
    for page in pages {
        for path in READABLE.iter().chain(&["/api/v1/events"]) {
            let answer = api.request(Via::Tcp, "GET", path, &[page], "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {page:?}");
            assert_eq!(answer.problem().code, "cross-origin");
        }
        for (method, path, body) in CHANGES {
            let headers = [page, ("authorization", &bearer)];
            let answer = api.request(Via::Tcp, method, path, &headers, body).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {page:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_the_apis_own_may_read() {
    let api = TestApi::start().await;
    let own = format!("http://{}", api.host());
    let referer = format!("{own}/page");
    let headers = [
        ("origin", own.as_str()),
        ("referer", referer.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = api
        .request(Via::Tcp, "GET", "/api/v1/status", &headers, "")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let typed = [("sec-fetch-site", "none")];
    let answer = api
        .request(Via::Tcp, "GET", "/api/v1/status", &typed, "")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn changing_anything_over_tcp_needs_the_token() {
    let api = TestApi::start().await;
    let bearer = api.bearer();
    let token = bearer.strip_prefix("Bearer ").unwrap().to_owned();
    let wrong = [
        String::new(),
        "Bearer ".to_owned(),
        "Bearer x".to_owned(),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}x"),
        format!("Basic {token}"),
        token.clone(),
    ];
    for (method, path, body) in CHANGES {
        for wrong in &wrong {
            let headers = [("authorization", wrong.as_str())];
            let answer = api.request(Via::Tcp, method, path, &headers, body).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {wrong}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert_eq!(answer.problem().code, "token-required");
            assert!(!answer.text().contains(&token));
        }
        let twice = [("authorization", &*bearer), ("authorization", &*bearer)];
        let answer = api.request(Via::Tcp, method, path, &twice, body).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert!(!api.shutdown.is_cancelled());
    let headers = [("authorization", bearer.as_str())];
    let answer = api
        .request(Via::Tcp, "POST", "/api/v1/invite", &headers, "")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn the_token_in_a_query_or_cookie_is_no_token() {
    let api = TestApi::start().await;
    let bearer = api.bearer();
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let path = format!("/api/v1/invite?token={token}&authorization={token}");
    let cookie = format!("token={token}");
    let headers = [("cookie", cookie.as_str())];
    let answer = api.request(Via::Tcp, "POST", &path, &headers, "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn no_answer_permits_another_origin_or_a_frame() {
    let api = TestApi::start().await;
    let preflight = [
        ("origin", "http://evil.test"),
        ("access-control-request-method", "POST"),
    ];
    for answer in [
        api.get("/api/v1/status").await,
        api.get("/nowhere").await,
        api.request(Via::Tcp, "OPTIONS", "/api/v1/down", &preflight, "")
            .await,
    ] {
        let headers = &answer.headers;
        assert!(
            !headers
                .keys()
                .any(|name| name.as_str().starts_with("access-control-"))
        );
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}

#[tokio::test]
async fn a_web_page_cannot_open_the_event_stream() {
    let api = TestApi::start().await;
    for (name, value) in [
        ("origin", "http://evil.test"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let mut request = format!("ws://{}/api/v1/events", api.host())
            .into_client_request()
            .unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let stream = TcpStream::connect(api.address).await.unwrap();
        let refused = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap_err();
        let tungstenite::Error::Http(response) = refused else {
            panic!("{refused}")
        };
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let api = TestApi::start().await;
    let socket = api.socket();
    let metadata = std::fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let dir = tempfile::tempdir().unwrap();
    api.stop().await;
    assert!(!socket.exists());
    drop(dir);
}

#[tokio::test]
async fn the_socket_of_a_killed_daemon_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket_of(dir.path());
    // Dropping tokio's listener leaves the file, as a killed process does.
    drop(UnixListener::bind(&socket).unwrap());
    drop(UnixListener::bind(socket.with_extension("new")).unwrap());
    assert!(socket.exists());
    let listeners = ApiListeners::bind(&socket, any_port()).await.unwrap();
    tokio::net::UnixStream::connect(&socket).await.unwrap();
    drop(listeners);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_busy_port_and_an_open_address_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let socket = socket_of(dir.path());
    let problem = ApiListeners::bind(&socket, address).await.unwrap_err();
    assert_eq!(problem.code, "port-in-use");
    assert!(!socket.exists());
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let problem = ApiListeners::bind(&socket, everywhere).await.unwrap_err();
    assert_eq!(problem.code, "api-not-loopback");
}

#[tokio::test]
async fn idle_connections_over_tcp_do_not_lock_the_command_line_out() {
    let api = TestApi::start().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(api.address).await.unwrap());
    }
    let answer = api.send("GET", "/healthz", "").await;
    assert_eq!(answer.status, StatusCode::OK);
}
