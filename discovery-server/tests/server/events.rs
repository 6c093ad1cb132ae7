//! What do members hear of each other, and how do they talk through the server?

use std::process::ExitStatus;

use mesh_wire::{
    NetworkId,
    discovery::{ClientMessage, MAX_MESSAGE, MAX_SIGNAL, ServerMessage, hello},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{DEADLINE, Events, Net, Node, Server, updated};

#[tokio::test]
async fn everyone_hears_who_joins_changes_and_leaves() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    let first = alice.join(&server, &net, 1).await;
    let mut watcher = Events::open(&server, &net).await;
    assert_eq!(watcher.list.peers, [first]);
    let mut last = watcher.list.revision;
    let mut rises = |revision: u64| {
        assert!(revision > last, "{revision} after {last}");
        last = revision;
    };

    let joined = bob.join(&server, &net, 1).await;
    let ServerMessage::PeerJoined { revision, peer } = watcher.next().await else {
        panic!("no join");
    };
    rises(revision);
    assert_eq!(*peer, joined);
    let changed = bob.join(&server, &net, 2).await;
    let ServerMessage::PeerUpdated { revision, peer } = watcher.next().await else {
        panic!("no update");
    };
    rises(revision);
    assert_eq!(*peer, changed);
    let path = net.path(&format!("/peers/{}", bob.id()));
    let delete = server
        .request(reqwest::Method::DELETE, &path)
        .bearer_auth(server.admin_token());
    assert!(delete.send().await.unwrap().status().is_success());
    let left = watcher.next().await;
    let ServerMessage::PeerLeft { revision, node_id } = left else {
        panic!("no leave but {left:?}");
    };
    rises(revision);
    assert_eq!(node_id, bob.id());
    assert_eq!(net.directory(&server).await.revision, last);
}

#[tokio::test]
async fn presence_follows_the_connection() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    alice.join(&server, &net, 1).await;
    bob.join(&server, &net, 1).await;
    let mut watcher = Events::open_as(&server, &net, &alice).await;
    let connection = Events::open_as(&server, &net, &bob).await;
    let message = watcher.next().await;
    assert!(
        updated(&message).is_some_and(|peer| peer.online && peer.name == "bob"),
        "{message:?}"
    );
    let online: Vec<bool> = net
        .directory(&server)
        .await
        .peers
        .iter()
        .map(|p| p.online)
        .collect();
    assert_eq!(online, [true, true]);
    assert_eq!(server.metric("discovery_peers_online").await, 2);
    assert_eq!(server.metric("discovery_websocket_connections").await, 2);
    // Bob's machine just vanishes from the server's view.
    drop(connection);
    let message = watcher.next().await;
    assert!(
        updated(&message).is_some_and(|peer| !peer.online && peer.name == "bob"),
        "{message:?}"
    );
}

#[tokio::test]
async fn signals_reach_the_member_they_are_meant_for_or_come_back() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let elsewhere = Net::on(&server, "elsewhere", "10.100.0.0/24").await;
    let [alice, bob, carol] =
        [(1, "alice"), (2, "bob"), (3, "carol")].map(|(n, name)| Node::new(n, name));
    alice.join(&server, &net, 1).await;
    bob.join(&server, &net, 1).await;
    carol.join(&server, &elsewhere, 1).await;
    let _carol = Events::open_as(&server, &elsewhere, &carol).await;
    let mut from = Events::open_as(&server, &net, &alice).await;
    // Not connected; then in another network; then a member that listens.
    for absent in [&bob, &carol] {
        from.signal(absent, "hi").await;
        let back = from.next().await;
        assert_eq!(back, ServerMessage::Undeliverable { to: absent.id() });
    }
    let mut to = Events::open_as(&server, &net, &bob).await;
    let longest = "x".repeat(MAX_SIGNAL);
    from.signal(&bob, &longest).await;
    let expected = ServerMessage::Signal {
        from: alice.id(),
        payload: longest,
    };
    assert_eq!(to.next().await, expected);
    assert_eq!(server.metric("discovery_signals_total").await, 1);
}

#[tokio::test]
async fn signals_are_bounded_in_size_and_number() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    alice.join(&server, &net, 1).await;
    let mut silent = Events::open(&server, &net).await;
    silent.signal(&alice, "hi").await;
    assert_eq!(error_code(silent.next().await), "hello-required");
    let mut from = Events::open_as(&server, &net, &alice).await;
    from.signal(&bob, &"x".repeat(MAX_SIGNAL + 1)).await;
    assert_eq!(error_code(from.next().await), "signal-too-large");
    for _ in 0..200 {
        from.signal(&bob, "hi").await;
    }
    let refused = from
        .until(|message| matches!(message, ServerMessage::Error { .. }))
        .await;
    assert_eq!(error_code(refused), "too-many-signals");
}

#[tokio::test]
async fn a_hello_must_be_signed_by_a_member_for_this_connection() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, mallory) = (Node::new(1, "alice"), Node::new(9, "mallory"));
    alice.join(&server, &net, 1).await;
    let other: NetworkId = "other".parse().unwrap();
    let stolen = Events::open(&server, &net).await.nonce;
    let ClientMessage::Hello { signature, .. } = hello(&mallory.key, &net.id, &stolen) else {
        panic!("no hello");
    };
    let in_her_name = ClientMessage::Hello {
        node_id: alice.id(),
        signature,
    };
    for forged in [
        in_her_name,
        hello(&alice.key, &net.id, &stolen),
        hello(&alice.key, &other, &stolen),
    ] {
        let mut events = Events::open(&server, &net).await;
        events.send(&forged).await;
        let (problem, code) = events.farewell().await;
        assert_eq!((problem.code.as_str(), code), ("hello-refused", 1008));
    }
    let mut events = Events::open(&server, &net).await;
    let nonce = events.nonce.clone();
    events.send(&hello(&mallory.key, &net.id, &nonce)).await;
    assert_eq!(events.farewell().await.0.code, "not-registered");
    assert!(!net.directory(&server).await.peers[0].online);
    // One connection is one member, for good.
    let mut events = Events::open_as(&server, &net, &alice).await;
    let nonce = events.nonce.clone();
    events.send(&hello(&alice.key, &net.id, &nonce)).await;
    assert_eq!(events.farewell().await.0.code, "hello-refused");
}

#[tokio::test]
async fn a_newer_connection_of_a_member_replaces_the_older_one() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    alice.join(&server, &net, 1).await;
    bob.join(&server, &net, 1).await;
    let mut old = Events::open_as(&server, &net, &alice).await;
    let mut watcher = Events::open_as(&server, &net, &bob).await;
    let mut new = Events::open_as(&server, &net, &alice).await;
    assert_eq!(old.farewell().await.0.code, "replaced");
    watcher.signal(&alice, "to the new one").await;
    let message = new
        .until(|message| matches!(message, ServerMessage::Signal { .. }))
        .await;
    assert!(
        matches!(message, ServerMessage::Signal { payload, .. } if payload == "to the new one")
    );
    drop(new);
    // The first that the others hear is that she is offline: there was no gap when the connections changed.
    let message = watcher
        .until(|message| updated(message).is_some_and(|p| p.name == "alice"))
        .await;
    assert!(
        updated(&message).is_some_and(|peer| !peer.online),
        "{message:?}"
    );
}

#[tokio::test]
async fn messages_that_are_no_messages_end_the_connection() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    for text in ["", "{", "{\"type\":\"unknown\"}", "{\"type\":\"hello\"}"] {
        let mut events = Events::open(&server, &net).await;
        events.send_text(text.to_owned()).await;
        assert_eq!(
            events.farewell().await.0.code,
            "malformed-message",
            "{text}"
        );
    }
    let mut events = Events::open(&server, &net).await;
    events.send_text("x".repeat(MAX_MESSAGE + 1)).await;
    assert!(events.next_or_close().await.is_err());
    net.directory(&server).await;
}

#[tokio::test]
async fn a_deleted_network_and_a_deregistered_member_are_told_so() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let alice = Node::new(1, "alice");
    alice.join(&server, &net, 1).await;
    let mut member = Events::open_as(&server, &net, &alice).await;
    let mut watcher = Events::open(&server, &net).await;
    for (path, connection, code) in [
        (
            net.path(&format!("/peers/{}", alice.id())),
            &mut member,
            "deregistered",
        ),
        (net.path(""), &mut watcher, "network-deleted"),
    ] {
        let delete = server.request(reqwest::Method::DELETE, &path);
        let answer = delete
            .bearer_auth(server.admin_token())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success());
        assert_eq!(connection.farewell().await.0.code, code);
    }
}

#[tokio::test]
async fn a_server_that_ends_says_so_and_keeps_when_members_were_seen() {
    let mut server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let alice = Node::new(1, "alice");
    alice.join(&server, &net, 1).await;
    let mut events = Events::open_as(&server, &net, &alice).await;
    let seen = net.directory(&server).await.peers[0].last_seen;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let pid = Pid::from_raw(i32::try_from(server.child.id()).unwrap());
        kill(pid, signal).unwrap();
        let close = loop {
            match events.next_or_close().await {
                Ok(_) => {}
                Err(close) => break close,
            }
        };
        // 1001: going away (RFC 6455 section 7.4.1).
        assert_eq!(u16::from(close.unwrap().code), 1001);
        assert!(ended(&mut server).success());
        server = server.kill_and_restart();
        let peer = net.directory(&server).await.peers.remove(0);
        assert!(!peer.online && peer.last_seen >= seen);
        events = Events::open_as(&server, &net, &alice).await;
    }
}

fn ended(server: &mut Server) -> ExitStatus {
    let start = std::time::Instant::now();
    loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "the server does not end");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn error_code(message: ServerMessage) -> String {
    match message {
        ServerMessage::Error { problem } => problem.code,
        other @ (ServerMessage::Challenge { .. }
        | ServerMessage::Snapshot { .. }
        | ServerMessage::PeerJoined { .. }
        | ServerMessage::PeerUpdated { .. }
        | ServerMessage::PeerLeft { .. }
        | ServerMessage::Revoked { .. }
        | ServerMessage::Signal { .. }
        | ServerMessage::Undeliverable { .. }
        | ServerMessage::Turn(_)) => panic!("no error but {other:?}"),
    }
}
