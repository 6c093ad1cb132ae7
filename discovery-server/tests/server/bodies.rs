//! What does the server say to bodies, paths and methods that it does not take, and is its own document true?

use mesh_wire::discovery::MAX_MESSAGE;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Net, Node, Server, problem, within};

async fn post(server: &Server, kind: &str, body: impl Into<reqwest::Body>) -> Response {
    let request = server.request(Method::POST, "/api/v1/mesh/networks");
    request
        .header("content-type", kind)
        .body(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name() {
    let server = Server::start();
    let json = "application/json";
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"id\":\"Ä\"}",
        &"[".repeat(10_000),
    ] {
        let refused = problem(post(&server, json, body.to_owned()).await).await;
        assert_eq!(
            (refused.status, refused.code.as_str()),
            (400, "malformed-json"),
            "{body}"
        );
    }
    let mut extra = serde_json::to_value(Net::new("home", "10.0.0.0/24").create).unwrap();
    extra["extra"] = true.into();
    let refused = problem(post(&server, json, extra.to_string()).await).await;
    assert!(refused.detail.contains("extra"), "{refused}");
    let refused = problem(post(&server, "text/plain", "{}").await).await;
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (415, "unsupported-media-type")
    );

    let large = "x".repeat(MAX_MESSAGE + 1);
    let refused = problem(post(&server, json, large.clone()).await).await;
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (413, "body-too-large")
    );
    // Without a length in front it is noticed while it is read.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /api/v1/mesh/networks HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = within(stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"),
        "{answer}"
    );
    assert_eq!(server.metric("discovery_networks").await, 0);
}

#[tokio::test]
async fn unusable_networks_are_refused_by_name() {
    let server = Server::start();
    for cidr in ["10.0.0.1/24", "127.0.0.0/8", "10.0.0.0/31"] {
        let refused = problem(Net::new("home", cidr).create_on(&server).await).await;
        assert_eq!(
            (refused.status, refused.code.as_str()),
            (422, "unusable-cidr"),
            "{cidr}"
        );
    }
    let mut net = Net::new("home", "10.0.0.0/24");
    net.create.admission_token = "guessable".into();
    let refused = problem(net.create_on(&server).await).await;
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (422, "unusable-token")
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let server = Server::start();
    for path in [
        "/",
        "/api",
        "/api/v1/mesh/networks/",
        "/join/",
        "/api/v1/mesh/networks/a/b",
    ] {
        let refused = problem(server.get(path, "").await).await;
        assert_eq!(
            (refused.status, refused.code.as_str()),
            (404, "no-such-path"),
            "{path}"
        );
    }
    let answer = server
        .request(Method::PUT, "/api/v1/mesh/networks")
        .send()
        .await
        .unwrap();
    assert!(answer.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(problem(answer).await.code, "method-not-allowed");
    let net = Net::on(&server, "home", "10.0.0.0/24").await;
    let plain = problem(server.get(&net.path("/events"), &net.token).await).await;
    assert_eq!(plain.code, "websocket-only");
}

#[tokio::test]
async fn health_and_metrics_tell_the_truth() {
    let server = Server::start();
    let health: Value = server.get("/healthz", "").await.json().await.unwrap();
    assert_eq!(health["status"], "ok");
    let net = Net::on(&server, "home", "10.0.0.0/24").await;
    Node::new(1, "alice").join(&server, &net, 1).await;
    Node::new(2, "bob").join(&server, &net, 1).await;
    assert_eq!(server.metric("discovery_networks").await, 1);
    assert_eq!(server.metric("discovery_peers").await, 2);
    assert_eq!(server.metric("discovery_peers_online").await, 0);
    assert_eq!(
        server
            .metric("discovery_http_requests_total{status=\"201\"}")
            .await,
        3
    );
}

#[tokio::test]
async fn every_described_operation_exists_and_answers_as_described() {
    let server = Server::start();
    let document = server.get("/api/v1/openapi.json", "").await;
    let document: Value = document.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let filled = path
                .replace("{id}", "home")
                .replace("{peer}", "x")
                .replace("{network}", "home");
            let answer = server
                .request(method.clone(), &filled)
                .send()
                .await
                .unwrap();
            let status = answer.status().as_u16();
            let described = operation["responses"].as_object().unwrap();
            let class = format!("{}XX", status / 100);
            assert!(
                described.contains_key(&status.to_string()) || described.contains_key(&class),
                "{method} {path} answers {status}"
            );
            assert_ne!(StatusCode::METHOD_NOT_ALLOWED, status);
            if status >= 400 {
                assert_ne!(
                    problem(answer).await.code,
                    "no-such-path",
                    "{method} {path}"
                );
            }
            asked += 1;
        }
    }
    assert_eq!(asked, 14);
}
