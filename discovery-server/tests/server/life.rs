//! How do networks and members live, from creation to deletion and over restarts?

use std::{collections::BTreeSet, net::IpAddr};

use data_encoding::BASE64;
use mesh_wire::{
    discovery::{Network, NetworkList, RegisterPeer},
    id::sign,
    peer_info::{PeerInfo, PeerRecord},
};
use reqwest::{Method, StatusCode};

use crate::harness::{Net, Node, Server, problem};

#[tokio::test]
async fn a_network_lives_from_creation_to_deletion() {
    let server = Server::start();
    let (net, admin) = (Net::new("home", "10.100.0.0/16"), server.admin_token());
    let answer = net.create_on(&server).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["location"], "/api/v1/mesh/networks/home");
    let network: Network = answer.json().await.unwrap();
    assert_eq!(
        (network.peer_count, network.network_key),
        (0, net.create.network_key)
    );
    assert_eq!(network.stun_port, Some(server.stun.port()));
    // After a lost answer the same words get the same answer; other words are another network.
    let again = net.create_on(&server).await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.json::<Network>().await.unwrap(), network);
    let mut other = net.clone();
    other.create.cidr = "10.101.0.0/16".parse().unwrap();
    assert_eq!(
        problem(other.create_on(&server).await).await.code,
        "network-exists"
    );

    Node::new(1, "alice").join(&server, &net, 1).await;
    let shown = server.get(&net.path(""), &net.token).await;
    assert_eq!(shown.json::<Network>().await.unwrap().peer_count, 1);
    Net::on(&server, "a-second", "10.0.0.0/24").await;
    let list = server.get("/api/v1/mesh/networks", &admin).await;
    let list: NetworkList = list.json().await.unwrap();
    let names: Vec<_> = list
        .networks
        .iter()
        .map(|network| network.id.as_str())
        .collect();
    assert_eq!(names, ["a-second", "home"]);
    assert_eq!(list.networks[1].peer_count, 1);

    for expected in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
        let request = server
            .request(Method::DELETE, &net.path(""))
            .bearer_auth(&admin);
        assert_eq!(request.send().await.unwrap().status(), expected);
    }
    let gone = server.get(&net.path("/peers"), &net.token).await;
    assert_eq!(gone.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_member_registers_updates_and_leaves() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    let answer = net.post(&server, &alice.register(&net, 1)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let first: PeerInfo = answer.json().await.unwrap();
    assert_eq!(first.record, alice.record(&net, 1));
    assert!(!first.online && first.last_seen > 1_700_000_000);
    bob.join(&server, &net, 1).await;

    let answer = net.post(&server, &alice.register(&net, 2)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let second: PeerInfo = answer.json().await.unwrap();
    assert_eq!(
        (&second.name, &second.virtual_ips),
        (&first.name, &first.virtual_ips)
    );
    assert_eq!(second.record.seq, 2);

    let before = net.directory(&server).await;
    let answer = net.post(&server, &alice.register(&net, 2)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(net.directory(&server).await, before, "nothing changed");
    let names: Vec<_> = before.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);

    let answer = deregister(&server, &net, &alice, &alice, 2).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let after = net.directory(&server).await;
    assert!(after.revision > before.revision);
    assert_eq!(after.peers, before.peers[1..]);
    let answer = deregister(&server, &net, &alice, &alice, 2).await;
    assert_eq!(problem(answer).await.code, "no-such-peer");
}

#[tokio::test]
async fn only_the_node_itself_or_an_administrator_deregisters_it() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    alice.join(&server, &net, 7).await;
    bob.join(&server, &net, 7).await;
    // Signed by another member; for an older record of the node; not signed at all.
    let answer = deregister(&server, &net, &alice, &bob, 7).await;
    assert_eq!(problem(answer).await.code, "not-that-node");
    let answer = deregister(&server, &net, &alice, &alice, 6).await;
    assert_eq!(problem(answer).await.code, "not-that-node");
    let path = net.path(&format!("/peers/{}", alice.id()));
    let answer = server
        .request(Method::DELETE, &path)
        .bearer_auth(&net.token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(net.directory(&server).await.peers.len(), 2);
    let admin = server.admin_token();
    let answer = server
        .request(Method::DELETE, &path)
        .bearer_auth(admin)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(net.directory(&server).await.peers.len(), 1);
}

#[tokio::test]
async fn stale_and_forged_records_are_refused() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let alice = Node::new(1, "alice");
    alice.join(&server, &net, 5).await;
    let stale = problem(net.post(&server, &alice.register(&net, 4)).await).await;
    assert_eq!((stale.status, stale.code.as_str()), (409, "stale-record"));
    // The same seq with other content is no repetition.
    let mut changed = Node::new(1, "mallory").register(&net, 5);
    let same_seq = problem(net.post(&server, &changed).await).await;
    assert_eq!(same_seq.code, "stale-record");

    changed.record.seq = 6;
    let forged = problem(net.post(&server, &changed).await).await;
    assert_eq!((forged.status, forged.code.as_str()), (422, "bad-record"));
    let elsewhere = alice.register(&Net::new("elsewhere", "10.100.0.0/24"), 9);
    assert_eq!(
        problem(net.post(&server, &elsewhere).await).await.code,
        "bad-record"
    );
    let peers = net.directory(&server).await.peers;
    assert_eq!(peers[0].record, alice.record(&net, 5));
}

#[tokio::test]
async fn a_wireguard_key_of_another_member_is_refused() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (alice, bob, mallory) = (
        Node::new(1, "alice"),
        Node::new(2, "bob"),
        Node::new(9, "mallory"),
    );
    let with_key_of = |node: &Node, owner: &Node, seq: u64| RegisterPeer {
        record: PeerRecord::sign(
            &node.key,
            &net.id,
            owner.record(&net, 1).wireguard_key,
            &node.hostname,
            (seq, 1),
        )
        .unwrap(),
        requested_ip: None,
    };
    alice.join(&server, &net, 1).await;
    bob.join(&server, &net, 1).await;
    let before = net.directory(&server).await;
    // As a new member, and as one that changes its key.
    for thief in [&mallory, &bob] {
        let refused = net.post(&server, &with_key_of(thief, &alice, 2)).await;
        let refused = problem(refused).await;
        assert_eq!((refused.status, refused.code.as_str()), (409, "key-taken"));
    }
    assert_eq!(net.directory(&server).await, before);
    // The owner brings its own record up to date, and in another network the key is free.
    alice.join(&server, &net, 2).await;
    let other = Net::on(&server, "other", "10.100.0.0/24").await;
    alice.join(&server, &other, 1).await;
    // Once its owner has another one, the key is free here too.
    let answer = net
        .post(&server, &with_key_of(&alice, &Node::new(7, "spare"), 3))
        .await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = net.post(&server, &with_key_of(&mallory, &alice, 3)).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn names_and_addresses_are_given_once() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/29").await;
    let join = |number: u16, wish: &str| {
        let mut request = Node::new(number, "web").register(&net, 1);
        request.requested_ip = Some(wish.parse().unwrap());
        let (server, net) = (&server, &net);
        async move { net.post(server, &request).await }
    };
    let mut given = Vec::new();
    for (number, wish) in [
        (1, "10.100.0.4"),  // free
        (2, "10.100.0.4"),  // taken
        (3, "10.100.0.0"),  // the network's
        (4, "10.100.0.7"),  // broadcast
        (5, "192.168.0.1"), // elsewhere
        (6, "fd00::1"),     // not IPv4
    ] {
        let peer: PeerInfo = join(number, wish).await.json().await.unwrap();
        given.push((peer.name, peer.virtual_ips[0].to_string()));
    }
    let expected = [
        ("web", "10.100.0.4"),
        ("web-2", "10.100.0.1"),
        ("web-3", "10.100.0.2"),
        ("web-4", "10.100.0.3"),
        ("web-5", "10.100.0.5"),
        ("web-6", "10.100.0.6"),
    ];
    assert_eq!(
        given,
        expected.map(|(name, ip)| (name.to_owned(), ip.to_owned()))
    );
    let full = problem(join(7, "10.100.0.6").await).await;
    assert_eq!((full.status, full.code.as_str()), (409, "no-address-left"));
    // An address stays with its member, whatever that one wishes later.
    let mut again = Node::new(1, "web").register(&net, 2);
    again.requested_ip = Some("10.100.0.6".parse().unwrap());
    let peer: PeerInfo = net.post(&server, &again).await.json().await.unwrap();
    assert_eq!(peer.virtual_ips[0].to_string(), "10.100.0.4");
}

#[tokio::test]
async fn fifty_nodes_that_register_at_once_get_fifty_addresses_and_names() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let joins = (0..50_u16).map(|number| {
        let request = RegisterPeer {
            requested_ip: Some("10.100.0.9".parse().unwrap()),
            ..Node::new(number, "node").register(&net, 1)
        };
        let (server, net) = (&server, &net);
        async move {
            let answer = net.post(server, &request).await;
            assert_eq!(answer.status(), StatusCode::CREATED);
            answer.json::<PeerInfo>().await.unwrap()
        }
    });
    let peers = futures::future::join_all(joins).await;
    let addresses: BTreeSet<IpAddr> = peers.iter().map(|peer| peer.virtual_ips[0]).collect();
    let names: BTreeSet<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!((addresses.len(), names.len()), (50, 50));
    assert_eq!(net.directory(&server).await.peers.len(), 50);
}

#[tokio::test]
async fn a_killed_server_comes_back_with_everything() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    for number in 0..5 {
        Node::new(number, "node").join(&server, &net, 1).await;
    }
    let (before, admin) = (net.directory(&server).await, server.admin_token());
    let server = server.kill_and_restart();
    let after = net.directory(&server).await;
    assert_eq!(after.peers, before.peers);
    assert_eq!(server.admin_token(), admin);
    // Later changes have greater revisions than all that were told before.
    assert!(after.revision > before.revision);
    let stale = net
        .post(&server, &Node::new(0, "node").register(&net, 0))
        .await;
    assert_eq!(problem(stale).await.code, "stale-record");
}

async fn deregister(
    server: &Server,
    net: &Net,
    node: &Node,
    signer: &Node,
    seq: u64,
) -> reqwest::Response {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let bytes = discovery_server::deregister_bytes(&net.id, &node.id(), seq, now);
    server
        .request(Method::DELETE, &net.path(&format!("/peers/{}", node.id())))
        .bearer_auth(&net.token)
        .header(discovery_server::TIMESTAMP_HEADER, now)
        .header(
            discovery_server::SIGNATURE_HEADER,
            BASE64.encode(&sign(&signer.key, &bytes)),
        )
        .send()
        .await
        .unwrap()
}
