//! What does the local API answer at the paths of the discovery server? What that would say of the members, from local state.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod api_fixture;

use std::{sync::Arc, time::Duration};

use api_fixture::{TestApi, example_directory, example_status, node_id};
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use mesh_wire::{discovery::ServerMessage, peer_info::Directory};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

const PEERS: &str = "/api/v1/mesh/networks/my-network/peers";

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn the_discovery_paths_answer_from_local_state() {
    let api = TestApi::start().await;
    let list = api.get("/api/v1/mesh/networks").await.json();
    let network = api.get("/api/v1/mesh/networks/my-network").await.json();
    assert_eq!(list, json!({ "networks": [network] }));
    assert_eq!(network["cidr"], "10.100.0.0/16");
    assert_eq!(network["peer_count"], 5, "as the directory has it");
    let peers = api
        .get("/api/v1/mesh/networks/my-network/peers")
        .await
        .json();
    assert_eq!(keys(&peers), ["peers", "revision", "revocations"]);
    assert_eq!(peers["revision"], 9);
    let names: Vec<_> = peers["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["alice", "bob", "carol", "dave", "erin"]);
    for key in [
        "virtual_ips",
        "online",
        "last_seen",
        "node_id",
        "wireguard_key",
        "signature",
    ] {
        assert!(peers["peers"][0].get(key).is_some(), "{key}");
    }
    for path in [
        "/api/v1/mesh/networks/other",
        "/api/v1/mesh/networks/other/peers",
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.problem().code, "unknown-network");
    }
}

#[tokio::test]
async fn resources_of_later_versions_are_named_as_such() {
    let api = TestApi::start().await;
    for path in ["/api/v1/groups"] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
        let problem = answer.json();
        assert_eq!(problem["code"], "resource-not-built");
        assert!(problem["title"].as_str().unwrap().contains(path));
    }
}

/// When the member was last seen, as the API says.
async fn last_seen(api: &TestApi, name: &str) -> u64 {
    let list = api.get(PEERS).await.json();
    let mut peers = list["peers"].as_array().unwrap().iter();
    let peer = peers.find(|peer| peer["name"] == name).unwrap();
    peer["last_seen"].as_u64().unwrap()
}

#[tokio::test]
async fn a_member_that_is_there_was_seen_just_now() {
    let api = TestApi::start().await;
    let mut directory = example_directory();
    for peer in &mut directory.peers {
        (peer.online, peer.last_seen) = (peer.name == "carol", 1_000);
    }
    api.directory.send_replace(Arc::new(directory));
    let mut status = example_status();
    // Bob is heard here, carol by the server.
    status.peers[0].traffic.last_heard_s = Some(5_000);
    status.peers[1].traffic.last_heard_s = None;
    api.status.send_replace(Arc::new(status.clone()));
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let is_near = |seen: u64, wanted: u64| (wanted..wanted + 30).contains(&seen);
    assert!(is_near(last_seen(&api, "alice").await, now), "ourselves");
    assert!(is_near(last_seen(&api, "bob").await, now - 5_000));
    assert!(is_near(last_seen(&api, "carol").await, now));
    assert_eq!(last_seen(&api, "dave").await, 1_000);
    // Without a server nobody knows whether carol is still there.
    status.server.connected = false;
    api.status.send_replace(Arc::new(status));
    assert_eq!(last_seen(&api, "carol").await, 1_000);
    assert!(is_near(last_seen(&api, "bob").await, now - 5_000));
}

struct Events(WebSocketStream<TcpStream>);

impl Events {
    async fn listen(api: &TestApi, network: &str) -> Option<Self> {
        let stream = TcpStream::connect(api.address).await.unwrap();
        let url = format!("ws://{}/api/v1/mesh/networks/{network}/events", api.host());
        let connected = tokio_tungstenite::client_async(url, stream).await;
        connected.ok().map(|(stream, _)| Self(stream))
    }

    async fn next(&mut self) -> Message {
        let next = timeout(Duration::from_secs(5), self.0.next()).await;
        next.unwrap().unwrap().unwrap()
    }

    /// Read as a client of the discovery server reads it.
    async fn message(&mut self) -> ServerMessage {
        let message = self.next().await;
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn events_tell_who_comes_changes_and_leaves() {
    let api = TestApi::start().await;
    let mut events = Events::listen(&api, "my-network").await.unwrap();
    let all = example_directory();
    let ServerMessage::Snapshot {
        revision,
        complete,
        peers,
        ..
    } = events.message().await
    else {
        panic!("the snapshot comes first");
    };
    let names = |directory: &Directory| -> Vec<String> {
        directory
            .peers
            .iter()
            .map(|peer| peer.name.clone())
            .collect()
    };
    let told: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
    assert_eq!((revision, complete, told), (9, true, names(&all)));

    // Bob changes, erin leaves, and a key is out.
    let mut next = all.clone();
    next.revision = 10;
    next.peers.retain(|peer| peer.name != "erin");
    next.peers[1].online = !next.peers[1].online;
    next.revocations.push("a revocation".to_owned());
    api.directory.send_replace(Arc::new(next));
    let message = events.message().await;
    let revocation = "a revocation".to_owned();
    assert_eq!(
        message,
        ServerMessage::Revoked {
            revision: 10,
            revocation
        }
    );
    let message = events.message().await;
    let updated =
        matches!(&message, ServerMessage::PeerUpdated { revision: 10, peer } if peer.name == "bob");
    assert!(updated, "{message:?}");
    let node_id = node_id(5);
    let left = ServerMessage::PeerLeft {
        revision: 10,
        node_id,
    };
    assert_eq!(events.message().await, left);
    api.directory.send_replace(Arc::new(all));
    let mut messages = Vec::new();
    for _ in 0..2 {
        messages.push(events.message().await);
    }
    let joined = messages.iter().any(
        |message| matches!(message, ServerMessage::PeerJoined { peer, .. } if peer.name == "erin"),
    );
    assert!(joined, "{messages:?}");

    // Whoever wants to be a member, or to signal, is told where.
    let hello = Message::text(json!({ "type": "ping" }).to_string());
    events.0.send(hello).await.unwrap();
    let message = events.message().await;
    let told = matches!(&message, ServerMessage::Error { problem } if problem.detail.contains("discovery server"));
    assert!(told, "{message:?}");
    api.shutdown.cancel();
    let last = events.next().await;
    assert!(
        matches!(&last, Message::Close(Some(why)) if why.reason.contains("stopping")),
        "{last:?}"
    );
    api.stop().await;
}

#[tokio::test]
async fn events_are_those_of_the_joined_network() {
    let api = TestApi::start().await;
    assert!(Events::listen(&api, "other").await.is_none());
    let answer = api.get("/api/v1/mesh/networks/other/events").await;
    assert_eq!(answer.problem().code, "unknown-network");
    let answer = api.get("/api/v1/mesh/networks/my-network/events").await;
    assert_eq!(answer.problem().code, "malformed-request");
}

#[tokio::test]
async fn what_only_the_discovery_server_does_is_named_as_such() {
    let api = TestApi::start().await;
    for (method, path) in [
        ("POST", "/api/v1/mesh/networks"),
        ("DELETE", "/api/v1/mesh/networks/my-network"),
        ("POST", PEERS),
        ("DELETE", "/api/v1/mesh/networks/my-network/peers/bob"),
    ] {
        let answer = api.send(method, path, "{}").await;
        assert_eq!(
            answer.status,
            StatusCode::NOT_IMPLEMENTED,
            "{method} {path}"
        );
        let problem = answer.problem();
        assert_eq!(problem.code, "resource-not-built");
        assert!(problem.fix.contains("discovery server"), "{problem}");
    }
}
