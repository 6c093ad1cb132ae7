//! What does the local API say of the discovery servers, and which lists does it take?
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod api_fixture;

use api_fixture::{TestApi, Via};
use http::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn the_discovery_servers_can_be_read_and_replaced() {
    let api = TestApi::start().await;
    let listed = api.get("/api/v1/servers").await.json();
    assert_eq!(
        listed["servers"],
        api.get("/api/v1/status").await.json()["servers"]
    );
    assert_eq!(listed["servers"][1]["url"], "https://b.example/");
    let body = json!({ "servers": ["c", "https://b.example"] }).to_string();
    let answer = api.send("POST", "/api/v1/servers", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["note"], Value::Null);
    assert_eq!(answer["servers"][0]["url"], "http://c:7080/");
    assert_eq!(answer["servers"][0]["connected"], false);
    // What is known of one that stays is not forgotten.
    assert_eq!(answer["servers"][1]["connected"], true);
    let refused = api
        .request(Via::Tcp, "POST", "/api/v1/servers", &[], &body)
        .await;
    assert_eq!(refused.problem().code, "token-required");
}

#[tokio::test]
async fn a_wrong_list_of_discovery_servers_is_refused_with_the_reason() {
    let api = TestApi::start().await;
    let nine: Vec<String> = (1..10).map(|n| format!("10.0.0.{n}")).collect();
    for (servers, why) in [
        (json!([]), "names no server"),
        (json!(["ftp://x"]), "server 1 must be an http or https URL"),
        (json!(["a", "http://a:7080"]), "server 2 is named twice"),
        (json!(["http://ann:secret@a"]), "user name or a password"),
        (json!(["not a server"]), "server 1 is not HOST"),
        (json!(nine), "server 9 is too many"),
    ] {
        let body = json!({ "servers": servers }).to_string();
        let answer = api.send("POST", "/api/v1/servers", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let problem = answer.problem();
        assert_eq!(problem.code, "malformed-request");
        assert!(problem.detail.contains(why), "{body}: {problem}");
    }
    let answer = api.send("POST", "/api/v1/servers", "{}").await;
    assert_eq!(answer.problem().code, "malformed-request");
}
