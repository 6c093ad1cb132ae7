//! What does the local API answer? The shapes that scripts rely on, and a problem document for every refusal.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod api_fixture;

use std::{sync::Arc, time::Duration};

use api_fixture::{TestApi, Via, example_link, example_status, node_id};
use futures::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn the_status_has_the_documented_shape() {
    let api = TestApi::start().await;
    let status = api.get("/api/v1/status").await.json();
    let documented = [
        "version",
        "node_id",
        "name",
        "network",
        "interface",
        "virtual_ips",
        "trust",
        "server",
        "nat",
        "peers",
        "health",
        "notes",
    ];
    for key in documented {
        assert!(status.get(key).is_some(), "{key} is missing in {status}");
    }
    assert_eq!(status["trust"], "psk");
    assert_eq!(status["virtual_ips"], json!(["10.100.0.1"]));
    assert_eq!(status["server"]["url"], "http://198.51.100.2:7080/");
    assert_eq!(status["server"]["connected"], true);
    assert_eq!(
        status["nat"]["mapped_addresses"],
        json!(["203.0.113.5:40001"])
    );
    assert_eq!(status["counters"], json!({"replay": 3}));
    assert_eq!(status["uptime_s"], 61);
    assert_eq!(status["listen_port"], 7081);
    assert_eq!(
        status["peers"][0],
        json!({
            "name": "bob",
            "node_id": node_id(2).to_string(),
            "virtual_ips": ["10.100.0.2"],
            "online": true,
            "path": "direct",
            "transport": null,
            "via": [],
            "direct_avoided": false,
            "endpoint": "198.51.100.7:7081",
            "rtt_ms": 12.5,
            "tx_bytes": 1000,
            "rx_bytes": 2000,
            "last_handshake_s": 3,
            "last_heard_s": 1,
            "mtu": 1400,
        })
    );
    assert_eq!(status["peers"][1]["path"], "relay");
    assert_eq!(status["peers"][1]["via"], json!(["bob"]));
    assert_eq!(status["health"][0]["code"], "port-in-use");
    assert_eq!(status["health"][0]["fix"], "stop it");
}

#[tokio::test]
async fn what_is_not_known_is_null_and_never_left_out() {
    let api = TestApi::start().await;
    let mut status = example_status();
    let bob = &mut status.peers[0];
    bob.endpoint = None;
    bob.rtt_ms = None;
    bob.traffic.last_handshake_s = None;
    bob.traffic.last_heard_s = None;
    bob.mtu = None;
    api.status.send_replace(Arc::new(status));
    let status = api.get("/api/v1/status").await.json();
    for key in [
        "endpoint",
        "rtt_ms",
        "last_handshake_s",
        "last_heard_s",
        "mtu",
    ] {
        assert_eq!(status["peers"][0].get(key), Some(&Value::Null), "{key}");
    }
}

#[tokio::test]
async fn no_answer_but_the_invitation_holds_the_secret() {
    let api = TestApi::start().await;
    let link = example_link();
    for path in [
        "/api/v1/status",
        "/api/v1/mesh/networks",
        "/api/v1/mesh/networks/my-network",
        "/api/v1/mesh/networks/my-network/peers",
        "/metrics",
        "/healthz",
    ] {
        let text = api.get(path).await.text();
        assert!(!text.contains(&link.psk.to_text()), "{path}");
        assert!(!text.contains(&link.psk.admission_token()), "{path}");
    }
    let answer = api.send("POST", "/api/v1/invite", "").await;
    assert_eq!(answer.json(), json!({ "link": link.to_text() }));
}

#[tokio::test]
async fn a_ping_is_one_pong_or_the_reason_why_not() {
    let api = TestApi::start().await;
    let ping = async |peer: &str| {
        let body = json!({ "peer": peer }).to_string();
        api.send("POST", "/api/v1/ping", &body).await
    };
    let pong = ping("bob").await.json();
    assert_eq!(pong["name"], "bob");
    assert_eq!(pong["address"], "10.100.0.2");
    assert_eq!(pong["path"], "direct");
    assert_eq!(pong["endpoint"], "198.51.100.7:7081");
    assert_eq!(pong["rtt_ms"], 12.345);
    assert_eq!(ping("10.100.0.2").await.json()["name"], "bob");
    assert_eq!(ping(&node_id(2).short()).await.json()["name"], "bob");
    let relayed = ping("carol").await.json();
    assert_eq!(
        (&relayed["path"], &relayed["via"]),
        (&json!("relay"), &json!(["bob"]))
    );
    for (peer, status, code) in [
        ("dave", StatusCode::GATEWAY_TIMEOUT, "ping-timeout"),
        ("erin", StatusCode::CONFLICT, "peer-offline"),
        ("mallory", StatusCode::NOT_FOUND, "peer-not-found"),
        ("", StatusCode::NOT_FOUND, "peer-not-found"),
        ("alice", StatusCode::UNPROCESSABLE_ENTITY, "ping-self"),
    ] {
        let answer = ping(peer).await;
        assert_eq!(answer.status, status, "{peer}");
        assert_eq!(answer.problem().code, code);
    }
}

#[tokio::test]
async fn a_share_is_added_granted_revoked_and_removed() {
    let api = TestApi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let body = json!({ "name": "my docs", "path": path, "to": ["bob"] }).to_string();
    let answer = api.send("POST", "/api/v1/shares", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let share = answer.json();
    assert_eq!(share["name"], "my docs");
    assert_eq!(share["path"], path.to_str().unwrap());
    assert_eq!(share["to"], json!(["bob"]));
    assert_eq!(share["url"], "http://10.100.0.1/my%20docs/");
    assert_eq!(
        share["grants"],
        json!([{ "peer": node_id(2).to_string(), "rw": false }])
    );

    let all = api
        .send("PUT", "/api/v1/shares/my%20docs/grants/all", "")
        .await;
    assert_eq!(all.status, StatusCode::OK, "{}", all.text());
    assert!(all.json()["to"].as_array().unwrap().contains(&json!("all")));
    let gone = api
        .send("DELETE", "/api/v1/shares/my%20docs/grants/bob", "")
        .await;
    assert_eq!(gone.json()["to"], json!(["all"]));
    let list = api.get("/api/v1/shares").await.json();
    assert_eq!(list["shares"].as_array().unwrap().len(), 1);
    assert_eq!(list["shares"][0]["to"], json!(["all"]));

    let removed = api.send("DELETE", "/api/v1/shares/my%20docs", "").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(
        api.get("/api/v1/shares").await.json(),
        json!({ "shares": [] })
    );
}

#[tokio::test]
async fn a_wrong_share_is_refused_with_its_reason_and_changes_nothing() {
    let api = TestApi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let good = json!({ "name": "docs", "path": path }).to_string();
    let added = api.send("POST", "/api/v1/shares", &good).await;
    assert_eq!(added.json()["to"], json!([]));
    let add = |name: &str, path: &str, to: &str| {
        json!({ "name": name, "path": path, "to": [to] }).to_string()
    };
    for (method, path, body, code) in [
        ("POST", "/api/v1/shares", good.clone(), "share-exists"),
        (
            "POST",
            "/api/v1/shares",
            add("a/b", path, "all"),
            "share-name-invalid",
        ),
        (
            "POST",
            "/api/v1/shares",
            add("x", "relative", "all"),
            "share-path-relative",
        ),
        (
            "POST",
            "/api/v1/shares",
            add("x", "/nowhere/at/all", "all"),
            "share-path-unreadable",
        ),
        (
            "POST",
            "/api/v1/shares",
            add("x", path, "mallory"),
            "peer-not-found",
        ),
        (
            "DELETE",
            "/api/v1/shares/other",
            String::new(),
            "share-not-found",
        ),
        (
            "PUT",
            "/api/v1/shares/other/grants/all",
            String::new(),
            "share-not-found",
        ),
        (
            "PUT",
            "/api/v1/shares/docs/grants/mallory",
            String::new(),
            "peer-not-found",
        ),
        (
            "DELETE",
            "/api/v1/shares/docs/grants/bob",
            String::new(),
            "grant-not-found",
        ),
    ] {
        let answer = api.send(method, path, &body).await;
        assert!(answer.status.is_client_error(), "{method} {path} {body}");
        assert_eq!(answer.problem().code, code, "{method} {path} {body}");
    }
    let list = api.get("/api/v1/shares").await.json();
    assert_eq!(list["shares"].as_array().unwrap().len(), 1);
    assert_eq!(list["shares"][0]["grants"], json!([]));
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let api = TestApi::start().await;
    let large = format!(r#"{{"peer":"{}"}}"#, "a".repeat(70_000));
    let deep = format!(r#"{{"peer":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000));
    for (method, path, body, status, code) in [
        ("GET", "/", "", 404, "not-found"),
        ("GET", "/api/v1/nowhere", "", 404, "not-found"),
        ("GET", "/api/v1/shares/docs/", "", 404, "not-found"),
        ("GET", "/api/v1/down", "", 405, "method-not-allowed"),
        ("DELETE", "/api/v1/status", "", 405, "method-not-allowed"),
        (
            "PUT",
            "/api/v1/mesh/networks",
            "{}",
            405,
            "method-not-allowed",
        ),
        ("POST", "/api/v1/ping", "", 400, "malformed-request"),
        ("POST", "/api/v1/ping", "{", 400, "malformed-request"),
        ("POST", "/api/v1/ping", "{}", 422, "malformed-request"),
        (
            "POST",
            "/api/v1/ping",
            r#"{"peer":1}"#,
            422,
            "malformed-request",
        ),
        (
            "POST",
            "/api/v1/ping",
            r#"{"peer":"bob","x":1}"#,
            422,
            "malformed-request",
        ),
        ("POST", "/api/v1/ping", &deep, 422, "malformed-request"),
        ("POST", "/api/v1/ping", &large, 413, "too-large"),
        (
            "PUT",
            "/api/v1/shares/%ff/grants/all",
            "",
            400,
            "malformed-request",
        ),
        ("GET", "/api/v1/events", "", 400, "malformed-request"),
    ] {
        let answer = api.send(method, path, body).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{method} {path}: {}",
            answer.text()
        );
        assert_eq!(answer.problem().code, code, "{method} {path}");
    }
    let text = [("content-type", "text/plain")];
    let body = r#"{"peer":"bob"}"#;
    let answer = api
        .request(Via::Socket, "POST", "/api/v1/ping", &text, body)
        .await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.problem().code, "malformed-request");
    let allow = api.send("DELETE", "/api/v1/status", "").await;
    assert_eq!(allow.headers["allow"], "GET,HEAD");
}

#[tokio::test]
async fn metrics_are_prometheus_text_that_a_name_cannot_break() {
    let api = TestApi::start().await;
    let mut status = example_status();
    status.peers[0].name = "b\"o\\b\nmeshd_evil 1".into();
    api.status.send_replace(Arc::new(status));
    let answer = api.get("/metrics").await;
    let media_type = answer.headers["content-type"].to_str().unwrap();
    assert!(
        media_type.starts_with("text/plain; version=0.0.4"),
        "{media_type}"
    );
    let text = answer.text();
    for line in [
        r#"meshd_build_info{version="0.1.0"} 1"#,
        "meshd_uptime_seconds 61",
        "meshd_server_connected 1",
        r#"meshd_peer_bytes_total{peer="carol",direction="rx"} 2000"#,
        r#"meshd_peer_bytes_total{peer="b\"o\\b\nmeshd_evil 1",direction="tx"} 1000"#,
        r#"meshd_peer_path{peer="carol",path="relay"} 1"#,
        r#"meshd_peer_rtt_seconds{peer="carol"} 0.0125"#,
        r#"meshd_dropped_packets_total{reason="replay"} 3"#,
    ] {
        assert!(
            text.lines().any(|given| given == line),
            "{line} is not in\n{text}"
        );
    }
}

#[tokio::test]
async fn events_bring_the_status_now_and_whenever_it_changes() {
    let api = TestApi::start().await;
    let stream = TcpStream::connect(api.address).await.unwrap();
    let url = format!("ws://{}/api/v1/events", api.host());
    let (mut events, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut next = async || {
        let message = timeout(Duration::from_secs(5), events.next())
            .await
            .unwrap();
        match message {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => json!({ "closed": format!("{other:?}") }),
        }
    };
    let first: Value = next().await;
    assert_eq!(first["type"], "status");
    assert_eq!(first["status"]["server"]["connected"], true);
    let mut status = example_status();
    status.server.connected = false;
    api.status.send_replace(Arc::new(status));
    assert_eq!(next().await["status"]["server"]["connected"], false);
    api.shutdown.cancel();
    let last = next().await;
    assert!(
        last["closed"].as_str().unwrap().contains("stopping"),
        "{last}"
    );
    api.stop().await;
}

#[tokio::test]
async fn listeners_to_events_are_limited_and_their_places_come_back() {
    let api = TestApi::start().await;
    let listen = async || {
        let stream = TcpStream::connect(api.address).await.unwrap();
        let url = format!("ws://{}/api/v1/events", api.host());
        tokio_tungstenite::client_async(url, stream).await
    };
    let mut listeners = Vec::new();
    for _ in 0..32 {
        listeners.push(listen().await.unwrap());
    }
    assert!(listen().await.is_err());
    listeners.clear();
    let again = async {
        while listen().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), again).await.unwrap();
}

#[tokio::test]
async fn down_is_answered_before_the_end() {
    let api = TestApi::start().await;
    let answer = api.send("POST", "/api/v1/down", "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(api.shutdown.is_cancelled());
    api.stop().await;
}
