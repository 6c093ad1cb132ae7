//! What can a crowd do to the server, and what does it do to those beside it?

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use mesh_wire::discovery::ServerMessage;
use reqwest::{Client, Method, StatusCode};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::harness::{DEADLINE, Events, Net, Node, Server, problem, within};

/// Connections of one address that the server takes while no member has proven itself on them.
const PER_ADDRESS: usize = 64;

#[tokio::test]
async fn idle_connections_of_one_address_shut_nobody_else_out() {
    let server = Server::start();
    let mut idle = Vec::new();
    for _ in 0..PER_ADDRESS {
        idle.push(TcpStream::connect(server.http).await.unwrap());
    }
    let mut excess = TcpStream::connect(server.http).await.unwrap();
    assert!(is_closed(&mut excess).await, "one too many was kept");
    let kept = timeout(
        Duration::from_millis(200),
        is_closed(&mut idle[PER_ADDRESS - 1]),
    )
    .await;
    assert!(kept.is_err(), "the last that fits was closed");
    // Plain HTTP needs no certificates, but the client wants to know how it would check them.
    drop(server.request(Method::GET, "/"));
    let elsewhere = Client::builder()
        .local_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)))
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .unwrap();
    let answer = elsewhere
        .get(format!("http://{}/healthz", server.http))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(server.log().matches("there are too many").count(), 1);
    // When one of them hangs up, its place is free again.
    drop(idle);
    let again = async {
        let answer = || server.request(Method::GET, "/healthz").send();
        while answer().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(again).await;
}

#[tokio::test]
async fn a_home_may_have_more_members_than_an_address_has_unproven_connections() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let mut members = Vec::new();
    for number in 0..u16::try_from(PER_ADDRESS).unwrap() + 6 {
        let node = Node::new(number, "node");
        node.join(&server, &net, 1).await;
        members.push(Events::open_as(&server, &net, &node).await);
    }
    let online = server.metric("discovery_peers_online").await;
    assert_eq!(online, u64::try_from(members.len()).unwrap());
}

#[tokio::test]
async fn one_address_registers_only_so_often() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let register = Node::new(1, "alice").register(&net, 1);
    for number in 0..100 {
        let answer = net.post(&server, &register).await;
        assert!(answer.status().is_success(), "{number}");
    }
    let refused = async {
        loop {
            let answer = net.post(&server, &register).await;
            if !answer.status().is_success() {
                return problem(answer).await;
            }
        }
    };
    let refused = within(refused).await;
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (429, "too-many-registrations")
    );
    let request = server.request(Method::POST, &net.path("/peers"));
    let request = request.bearer_auth(server.admin_token()).json(&register);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn who_says_no_hello_is_not_listened_to_for_ever_unless_it_is_the_administrator() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let alice = Node::new(1, "alice");
    alice.join(&server, &net, 1).await;
    let admin = Net {
        token: server.admin_token(),
        ..net.clone()
    };
    let mut watcher = Events::open(&server, &admin).await;
    let mut member = Events::open_as(&server, &net, &alice).await;
    let mut silent = Events::open(&server, &net).await;
    let (problem, code) = silent.farewell().await;
    assert_eq!((problem.code.as_str(), code), ("hello-expected", 1008));
    // The others, who are there for longer, still hear what happens.
    Node::new(2, "bob").join(&server, &net, 1).await;
    for events in [&mut watcher, &mut member] {
        events
            .until(|message| matches!(message, ServerMessage::PeerJoined { .. }))
            .await;
    }
}

/// Whether the server has closed, or does so now.
async fn is_closed(stream: &mut TcpStream) -> bool {
    match within(stream.read(&mut [0])).await {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}
