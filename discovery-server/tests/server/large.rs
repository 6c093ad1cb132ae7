//! What does a member hear of a network that is too large to hear of everybody?

use mesh_wire::{
    NodeId,
    discovery::{ClientMessage, MAX_FOLLOW, MAX_WHOLE_LIST, ServerMessage},
    peer_info::Directory,
};
use reqwest::{Method, StatusCode};

use crate::harness::{Events, Net, Node, Server, problem, updated};

/// A network with one member more than fits a whole list.
async fn large(server: &Server) -> (Net, Vec<Node>) {
    let net = Net::on(server, "large", "10.100.0.0/16").await;
    let mut nodes = Vec::new();
    for number in 0..=u16::try_from(MAX_WHOLE_LIST).unwrap() {
        nodes.push(join(server, &net, number).await);
    }
    (net, nodes)
}

/// The administrator may register as many as it likes.
async fn join(server: &Server, net: &Net, number: u16) -> Node {
    let node = Node::new(number, &format!("member-{number}"));
    let answer = server
        .request(Method::POST, &net.path("/peers"))
        .bearer_auth(server.admin_token())
        .json(&node.register(net, 1))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    node
}

async fn connect(server: &Server, net: &Net, node: &Node) -> Events {
    let events = Events::open_as(server, net, node).await;
    assert!(!events.complete);
    assert_eq!(events.list.peers, []);
    events
}

fn follow(nodes: &[NodeId]) -> ClientMessage {
    ClientMessage::Follow {
        nodes: nodes.to_vec(),
        addresses: Vec::new(),
        names: Vec::new(),
    }
}

#[tokio::test]
async fn a_member_of_a_large_network_hears_of_those_that_it_follows() {
    let server = Server::start();
    let (net, nodes) = large(&server).await;
    let mut ann = connect(&server, &net, &nodes[0]).await;
    // By node, by address and by name.
    let second = nodes[2].join(&server, &net, 2).await;
    let ask = ClientMessage::Follow {
        nodes: vec![nodes[1].id()],
        addresses: second.virtual_ips.clone(),
        names: vec!["member-3".to_owned(), "nobody".to_owned()],
    };
    ann.send(&ask).await;
    for number in [1, 2, 3] {
        let message = ann.next().await;
        let node = updated(&message).map(|peer| peer.record.node_id);
        assert_eq!(node, Some(nodes[number].id()), "{message:?}");
    }
    // What the others do is not told, what these do is.
    nodes[4].join(&server, &net, 2).await;
    nodes[3].join(&server, &net, 2).await;
    let message = ann.next().await;
    assert_eq!(updated(&message).unwrap().record, nodes[3].record(&net, 2));
    // Also of somebody who is no member yet.
    let newcomer = Node::new(999, "newcomer");
    ann.send(&follow(&[newcomer.id()])).await;
    // An answer to this one shows that the other was taken.
    ann.send(&follow(&[nodes[5].id()])).await;
    assert!(updated(&ann.next().await).is_some());
    newcomer.join(&server, &net, 1).await;
    let ServerMessage::PeerJoined { peer, .. } = ann.next().await else {
        panic!("the newcomer was not told");
    };
    assert_eq!(peer.record.node_id, newcomer.id());
}

#[tokio::test]
async fn whoever_gets_a_letter_is_shown_its_sender_before() {
    let server = Server::start();
    let (net, nodes) = large(&server).await;
    let mut ann = connect(&server, &net, &nodes[0]).await;
    let mut bob = connect(&server, &net, &nodes[1]).await;
    for letter in ["one", "two"] {
        bob.signal(&nodes[0], letter).await;
    }
    let message = ann.next().await;
    assert_eq!(updated(&message).unwrap().record.node_id, nodes[1].id());
    for letter in ["one", "two"] {
        let ServerMessage::Signal { from, payload } = ann.next().await else {
            panic!("no letter");
        };
        assert_eq!((from, payload.as_str()), (nodes[1].id(), letter));
    }
    // From then on it hears of it.
    drop(bob);
    assert!(!updated(&ann.next().await).unwrap().online);
}

#[tokio::test]
async fn who_asks_for_too_many_at_once_gets_none() {
    let server = Server::start();
    let (net, nodes) = large(&server).await;
    let mut ann = connect(&server, &net, &nodes[0]).await;
    let wanted: Vec<NodeId> = nodes.iter().take(MAX_FOLLOW + 1).map(Node::id).collect();
    ann.send(&follow(&wanted)).await;
    let ServerMessage::Error { problem } = ann.next().await else {
        panic!("it was not refused");
    };
    assert_eq!(problem.code, "follow-too-large");
}

#[tokio::test]
async fn the_list_comes_in_pages() {
    let server = Server::start();
    let (net, _) = large(&server).await;
    for number in 0..800 {
        join(&server, &net, 300 + number).await;
    }
    let mut path = net.path("/peers");
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let answer = server.get(&path, &net.token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let next = answer.headers().get("link").map(|link| {
            let link = link.to_str().unwrap();
            let path = link.strip_prefix('<').unwrap();
            path.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
        let list: Directory = answer.json().await.unwrap();
        names.extend(list.peers.into_iter().map(|peer| peer.name));
        pages += 1;
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!((names.len(), pages), (MAX_WHOLE_LIST + 1 + 800, 2));
    assert!(names.is_sorted());
    for bad in ["?after=a&after=b", "?after=%00", "?after=Not+a+name"] {
        let answer = server
            .get(&net.path(&format!("/peers{bad}")), &net.token)
            .await;
        assert_eq!(problem(answer).await.code, "malformed-query", "{bad}");
    }
}

#[tokio::test]
async fn only_members_may_follow_and_what_is_no_name_is_nobodys() {
    let server = Server::start();
    let (net, nodes) = large(&server).await;
    let mut stranger = Events::open(&server, &net).await;
    stranger.send(&follow(&[nodes[1].id()])).await;
    let ServerMessage::Error { problem } = stranger.next().await else {
        panic!("it was not refused");
    };
    assert_eq!(problem.code, "hello-required");
    let mut ann = connect(&server, &net, &nodes[0]).await;
    let ask = ClientMessage::Follow {
        nodes: Vec::new(),
        addresses: vec!["fd00::1".parse().unwrap()],
        names: ["\0", "", "Not a name", "member-1"]
            .map(str::to_owned)
            .to_vec(),
    };
    ann.send(&ask).await;
    let message = ann.next().await;
    assert_eq!(updated(&message).unwrap().record.node_id, nodes[1].id());
    assert!(!server.log().contains(" ERROR "), "{}", server.log());
}
