//! Who makes a network again where it is missing, and who does not where it was deleted on purpose?

use ed25519_dalek::SigningKey;
use futures::future::join_all;
use mesh_wire::{NodeId, discovery::Network, problem::Problem};
use reqwest::{Method, Response, StatusCode};

use crate::harness::{Net, Node, Server, problem};

/// A network with the key of this number.
fn keyed(name: &str, key: u8) -> Net {
    let mut net = Net::new(name, "10.100.0.0/24");
    net.create.network_key = Some(NodeId::of(&SigningKey::from_bytes(&[key; 32])));
    net
}

async fn delete(server: &Server, net: &Net, query: &str) -> StatusCode {
    let request = server.request(Method::DELETE, &net.path(query));
    let answer = request.bearer_auth(server.admin_token()).send().await;
    answer.unwrap().status()
}

async fn refused(answer: Response) -> (u16, String) {
    let Problem { status, code, .. } = problem(answer).await;
    (status, code)
}

async fn create_as_admin(server: &Server, net: &Net) -> StatusCode {
    let request = server.request(Method::POST, "/api/v1/mesh/networks");
    let request = request.bearer_auth(server.admin_token()).json(&net.create);
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_deleted_network_is_not_made_again_by_its_members_also_after_a_restart() {
    for net in [keyed("home", 1), Net::new("keyless", "10.100.0.0/24")] {
        let server = Server::start_on_file(&[]);
        assert_eq!(net.create_on(&server).await.status(), StatusCode::CREATED);
        if net.create.network_key.is_none() {
            Node::new(1, "alice").join(&server, &net, 1).await;
        }
        assert_eq!(delete(&server, &net, "").await, StatusCode::NO_CONTENT);
        assert_eq!(delete(&server, &net, "").await, StatusCode::NOT_FOUND);
        let gone = (410, "network-deleted".to_owned());
        assert_eq!(refused(net.create_on(&server).await).await, gone);
        let server = server.stop_and_restart();
        assert_eq!(refused(net.create_on(&server).await).await, gone);

        assert_eq!(create_as_admin(&server, &net).await, StatusCode::CREATED);
        assert_eq!(net.create_on(&server).await.status(), StatusCode::OK);
        assert_eq!(net.directory(&server).await.peers, [], "it begins anew");
    }
}

#[tokio::test]
async fn a_deleted_network_is_told_by_its_key_or_else_by_its_token() {
    let server = Server::start();
    let ours = keyed("home", 1);
    let stranger = Net {
        token: "x".repeat(40),
        ..keyed("home", 2)
    };
    let stranger = with_token(stranger);
    assert_eq!(
        stranger.create_on(&server).await.status(),
        StatusCode::CREATED
    );
    let taken = (409, "network-exists".to_owned());
    assert_eq!(refused(ours.create_on(&server).await).await, taken);
    // The name is free again, but for the one that was deleted.
    assert_eq!(delete(&server, &stranger, "").await, StatusCode::NO_CONTENT);
    let gone = (410, "network-deleted".to_owned());
    assert_eq!(refused(stranger.create_on(&server).await).await, gone);
    assert_eq!(ours.create_on(&server).await.status(), StatusCode::CREATED);
    assert_eq!(delete(&server, &ours, "").await, StatusCode::NO_CONTENT);
    let other_token = with_token(Net {
        token: "y".repeat(40),
        ..ours
    });
    assert_eq!(refused(other_token.create_on(&server).await).await, gone);

    let keyless = Net::new("keyless", "10.100.0.0/24");
    let other = with_token(Net {
        token: "z".repeat(40),
        ..keyless.clone()
    });
    assert_eq!(
        keyless.create_on(&server).await.status(),
        StatusCode::CREATED
    );
    assert_eq!(delete(&server, &keyless, "").await, StatusCode::NO_CONTENT);
    assert_eq!(refused(keyless.create_on(&server).await).await, gone);
    assert_eq!(other.create_on(&server).await.status(), StatusCode::CREATED);
}

fn with_token(mut net: Net) -> Net {
    net.create.admission_token.clone_from(&net.token);
    net
}

#[tokio::test]
async fn an_administrator_may_delete_without_memory_and_forget_what_was_deleted() {
    let server = Server::start();
    let net = keyed("home", 1);
    net.create_on(&server).await;
    let forget = "?remember=false";
    assert_eq!(delete(&server, &net, forget).await, StatusCode::NO_CONTENT);
    assert_eq!(net.create_on(&server).await.status(), StatusCode::CREATED);
    assert_eq!(delete(&server, &net, "").await, StatusCode::NO_CONTENT);
    assert_eq!(delete(&server, &net, forget).await, StatusCode::NO_CONTENT);
    assert_eq!(delete(&server, &net, forget).await, StatusCode::NOT_FOUND);
    assert_eq!(net.create_on(&server).await.status(), StatusCode::CREATED);
    for wrong in ["?remember=perhaps", "?forget=true"] {
        assert_eq!(delete(&server, &net, wrong).await, StatusCode::BAD_REQUEST);
    }
    net.directory(&server).await;
}

#[tokio::test]
async fn of_many_that_make_a_network_at_once_one_does_and_all_have_the_same() {
    let server = Server::start();
    let net = keyed("home", 1);
    // As many as one address may create at once.
    let answers = join_all((0..20).map(|_| net.create_on(&server))).await;
    let made = answers
        .iter()
        .filter(|answer| answer.status() == StatusCode::CREATED);
    assert_eq!(made.count(), 1);
    let mut shown = Vec::new();
    for answer in answers {
        assert!(answer.status().is_success());
        shown.push(answer.json::<Network>().await.unwrap());
    }
    assert!(shown.iter().all(|network| *network == shown[0]));
}
