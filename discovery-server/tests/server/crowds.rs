//! What can a crowd do to the server, and what does it do to those beside it?

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use reqwest::{Client, StatusCode};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::harness::{DEADLINE, Events, Net, Node, Server, within};

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
    drop(server.request(reqwest::Method::GET, "/"));
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
        let answer = || server.request(reqwest::Method::GET, "/healthz").send();
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

/// Whether the server has closed, or does so now.
async fn is_closed(stream: &mut TcpStream) -> bool {
    match within(stream.read(&mut [0])).await {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}
