//! Whom does a network with a key let in, whatever its server's clients send?

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use futures::future::join_all;
use mesh_wire::{
    discovery::{ServerMessage, hello},
    trust::{Capability, Certificate, Invite, InviteTerms, Issuer, Revocation, Roles, Span},
};
use reqwest::{Method, Response, StatusCode};

use crate::{
    authority::{Authority, DAY, binding, now},
    harness::{Events, Node, Server, problem},
    replicas::start_beside,
};

/// A network with a key, on a server.
pub(crate) struct Realm {
    pub(crate) server: Server,
    authority: Authority,
}

impl std::ops::Deref for Realm {
    type Target = Authority;

    fn deref(&self) -> &Authority {
        &self.authority
    }
}

impl Realm {
    pub(crate) async fn new() -> Self {
        let server = Server::start();
        let authority = Authority::new("home");
        let answer = authority.net.create_on(&server).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        Self { server, authority }
    }

    pub(crate) async fn post(
        &self,
        node: &Node,
        seq: u64,
        certificate: Option<&Certificate>,
    ) -> Response {
        let register = self.register(node, seq, certificate);
        self.net.post(&self.server, &register).await
    }

    async fn refused(&self, node: &Node, seq: u64, certificate: &Certificate) -> String {
        problem(self.post(node, seq, Some(certificate)).await)
            .await
            .code
    }

    pub(crate) async fn revoke(&self, revocation: &Revocation) -> Response {
        let request = self
            .server
            .request(Method::POST, &self.net.path("/revocations"));
        request
            .bearer_auth(&self.net.token)
            .json(&Authority::revoke(revocation))
            .send()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn only_who_has_a_certificate_of_the_network_is_let_in() {
    let realm = Realm::new().await;
    let alice = Node::new(1, "alice");
    let none = problem(realm.post(&alice, 1, None).await).await;
    assert_eq!((none.status, none.code.as_str()), (422, "bad-certificate"));
    let own = SigningKey::from_bytes(&[9; 32]);
    let by_herself =
        Certificate::sign(&realm.root(), &own, &Issuer::Network, &binding(&alice, 2)).unwrap();
    assert_eq!(
        realm.refused(&alice, 1, &by_herself).await,
        "bad-certificate"
    );
    let others = realm.by_network(&binding(&Node::new(2, "bob"), 2));
    assert_eq!(realm.refused(&alice, 1, &others).await, "bad-certificate");
    let mut outside = binding(&alice, 2);
    outside.virtual_ips = vec![Ipv4Addr::new(10, 101, 0, 2).into()];
    let outside = realm.by_network(&outside);
    assert_eq!(realm.refused(&alice, 1, &outside).await, "bad-certificate");
    let mut past = binding(&alice, 2);
    past.span = Span { from: 1, until: 2 };
    let past = realm.by_network(&past);
    assert_eq!(realm.refused(&alice, 1, &past).await, "certificate-expired");

    // A certificate of a clock that is years ahead holds.
    let mut good = binding(&alice, 2);
    good.span.from += 3650 * DAY;
    good.span.until += 3650 * DAY;
    let good = realm.by_network(&good);
    assert_eq!(realm.post(&alice, 1, Some(&good)).await.status(), 201);
    let directory = realm.net.directory(&realm.server).await;
    assert_eq!(directory.peers[0].name, "alice");
    assert_eq!(
        directory.peers[0].record.certificate,
        Some(good.to_text()),
        "members verify it themselves"
    );
}

#[tokio::test]
async fn what_one_member_has_no_other_gets() {
    let realm = Realm::new().await;
    let (alice, bob) = (Node::new(1, "alice"), Node::new(2, "bob"));
    let first = realm.by_network(&binding(&alice, 2));
    assert_eq!(realm.post(&alice, 1, Some(&first)).await.status(), 201);
    let same_address = realm.by_network(&binding(&bob, 2));
    assert_eq!(realm.refused(&bob, 1, &same_address).await, "address-taken");
    let mut same_name = binding(&bob, 3);
    same_name.name = "alice".into();
    let same_name = realm.by_network(&same_name);
    assert_eq!(realm.refused(&bob, 1, &same_name).await, "name-taken");
    // Nobody's place is changed by that, and a member may move.
    let moved = realm.by_network(&binding(&alice, 9));
    assert_eq!(realm.post(&alice, 2, Some(&moved)).await.status(), 200);
    assert_eq!(realm.post(&bob, 1, Some(&same_address)).await.status(), 201);
}

/// Fifty nodes, each with a certificate by one link for one machine.
fn fifty_by_one_link(realm: &Realm) -> Vec<(Node, Certificate)> {
    let invite = realm.week([50; 32], Some(1));
    let nodes = (0..50).map(|n| Node::new(n, &format!("n{n}")));
    nodes
        .zip(10..)
        .map(|(node, address)| {
            let binding = binding(&node, address);
            let certificate = invite.certify(&realm.root(), &binding).unwrap();
            (node, certificate)
        })
        .collect()
}

/// The number of the only one whose answer says that it was let in; the others were told that the link is used up.
async fn the_only_one(answers: Vec<Response>) -> usize {
    let mut admitted = Vec::new();
    for (number, answer) in answers.into_iter().enumerate() {
        if answer.status() == StatusCode::CREATED {
            admitted.push(number);
        } else {
            assert_eq!(problem(answer).await.code, "invite-used-up");
        }
    }
    let [only] = admitted[..] else {
        panic!("{admitted:?} were let in");
    };
    only
}

#[tokio::test]
async fn a_link_for_one_admits_exactly_one_of_fifty_that_use_it_at_once() {
    let realm = Realm::new().await;
    let all = fifty_by_one_link(&realm);
    let attempts = all
        .iter()
        .map(|(node, certificate)| realm.post(node, 1, Some(certificate)));
    let only = the_only_one(join_all(attempts).await).await;
    // Whoever was let in may come again; the link stays used also when it has left.
    let (node, certificate) = &all[only];
    let again = realm.post(node, 2, Some(certificate)).await;
    assert_eq!(again.status(), StatusCode::OK);
    let gone = realm
        .server
        .request(
            Method::DELETE,
            &realm.net.path(&format!("/peers/{}", node.id())),
        )
        .bearer_auth(realm.server.admin_token());
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let (node, certificate) = &all[usize::from(only == 0)];
    assert_eq!(realm.refused(node, 1, certificate).await, "invite-used-up");
}

/// On a file there is one server; then all fifty ask that one.
#[tokio::test]
async fn a_link_for_one_admits_exactly_one_of_fifty_that_use_it_at_two_servers_of_one_database() {
    let realm = Realm::new().await;
    let second = start_beside(&realm.server);
    let servers: Vec<&Server> = [&realm.server].into_iter().chain(&second).collect();
    let all = fifty_by_one_link(&realm);
    let attempts = all.iter().enumerate().map(|(number, (node, certificate))| {
        let server = servers[number % servers.len()];
        let (register, net) = (realm.register(node, 1, Some(certificate)), &realm.net);
        async move { net.post(server, &register).await }
    });
    let only = the_only_one(join_all(attempts).await).await;
    for server in servers {
        let listed = realm.net.directory(server).await.peers;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].record.node_id, all[only].0.id());
    }
}

#[tokio::test]
async fn a_place_of_whom_the_links_maker_puts_out_is_free_once_and_of_whom_others_put_out_is_not() {
    let realm = Realm::new().await;
    let invite = realm.week([50; 32], Some(1));
    let nodes: Vec<Node> = (1..=5).map(|n| Node::new(n, &format!("n{n}"))).collect();
    let by_link = |number: usize, address| {
        let binding = binding(&nodes[number], address);
        invite.certify(&realm.root(), &binding).unwrap()
    };
    let (thief, rightful, third) = (by_link(0, 2), by_link(1, 3), by_link(2, 4));
    assert_eq!(realm.post(&nodes[0], 1, Some(&thief)).await.status(), 201);
    let used_up = realm.refused(&nodes[1], 1, &rightful).await;
    assert_eq!(used_up, "invite-used-up");
    // Of a machine that never came by the link.
    let other = realm.out(&nodes[4].id());
    assert_eq!(realm.revoke(&other).await.status(), 204);
    assert_eq!(realm.refused(&nodes[1], 1, &rightful).await, used_up);
    let revocation = realm.out(&nodes[0].id());
    assert_eq!(realm.revoke(&revocation).await.status(), 204);
    assert_eq!(realm.refused(&nodes[0], 2, &thief).await, "revoked");
    assert_eq!(
        realm.post(&nodes[1], 1, Some(&rightful)).await.status(),
        201
    );
    assert_eq!(realm.refused(&nodes[2], 1, &third).await, used_up);

    // Whom an admin puts out who has not made the link keeps the place.
    let mut rights = binding(&nodes[3], 9);
    rights.roles = Roles::all();
    let rights = realm.by_network(&rights);
    let by_admin = Revocation::sign(
        &realm.root(),
        &nodes[3].key,
        Some(&rights),
        (&nodes[1].id(), now()),
    );
    assert_eq!(realm.revoke(&by_admin.unwrap()).await.status(), 204);
    assert_eq!(realm.refused(&nodes[2], 1, &third).await, used_up);
}

#[tokio::test]
async fn an_expired_link_lets_nobody_new_in() {
    let realm = Realm::new().await;
    let span = Span {
        from: now() - 2 * DAY,
        until: now() - DAY,
    };
    let invite = realm.invite([50; 32], None, span);
    let alice = Node::new(1, "alice");
    let mut backdated = binding(&alice, 2);
    backdated.span.from = now() - DAY - 60;
    let backdated = invite.certify(&realm.root(), &backdated).unwrap();
    assert_eq!(realm.refused(&alice, 1, &backdated).await, "invite-expired");
}

#[tokio::test]
async fn a_revoked_member_is_gone_and_stays_away_over_a_restart() {
    let mut realm = Realm::new().await;
    let invite = realm.week([50; 32], None);
    let nodes: Vec<Node> = (1..=3).map(|n| Node::new(n, &format!("n{n}"))).collect();
    let certificates: Vec<Certificate> = nodes
        .iter()
        .zip(1..)
        .map(|(node, address)| {
            let binding = binding(node, address);
            match address {
                3 => realm.by_network(&binding),
                _ => invite.certify(&realm.root(), &binding).unwrap(),
            }
        })
        .collect();
    for (node, certificate) in nodes.iter().zip(&certificates) {
        assert_eq!(realm.post(node, 1, Some(certificate)).await.status(), 201);
    }
    let mut watching = Events::open_as(&realm.server, &realm.net, &nodes[2]).await;
    let mut victim = Events::open_as(&realm.server, &realm.net, &nodes[0]).await;

    let forged = Revocation::sign(&realm.root(), &nodes[1].key, None, (&nodes[0].id(), now()));
    let refused = problem(realm.revoke(&forged.unwrap()).await).await;
    assert_eq!(refused.code, "bad-revocation");
    let revocation = realm.out(&nodes[0].id());
    let since = Instant::now();
    for _ in 0..2 {
        assert_eq!(realm.revoke(&revocation).await.status(), 204);
    }
    let told = watching
        .until(|message| matches!(message, ServerMessage::Revoked { .. }))
        .await;
    let ServerMessage::Revoked {
        revocation: text, ..
    } = told
    else {
        panic!("{told:?}");
    };
    assert_eq!(text, revocation.to_text());
    let left = watching
        .until(|message| matches!(message, ServerMessage::PeerLeft { .. }))
        .await;
    assert!(matches!(left, ServerMessage::PeerLeft { node_id, .. } if node_id == nodes[0].id()));
    assert_eq!(victim.farewell().await.0.code, "deregistered");
    // What `docs/SECURITY.md` promises.
    let took = since.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");

    realm.server = realm.server.kill_and_restart();
    assert_eq!(
        realm.refused(&nodes[0], 2, &certificates[0]).await,
        "revoked"
    );
    let directory = realm.net.directory(&realm.server).await;
    assert_eq!(directory.revocations, [revocation.to_text()]);
    assert_eq!(directory.peers.len(), 2);

    // An invite can be revoked too, and takes with it whom it let in.
    let key = invite.invite.terms.key;
    let revocation = realm.out(&key);
    assert_eq!(realm.revoke(&revocation).await.status(), 204);
    let directory = realm.net.directory(&realm.server).await;
    let names: Vec<&str> = directory
        .peers
        .iter()
        .map(|peer| peer.name.as_str())
        .collect();
    assert_eq!(names, ["n3"]);
    assert_eq!(
        realm.refused(&nodes[1], 2, &certificates[1]).await,
        "revoked"
    );
}

/// The admission token is the network's and not a member's: who was put out still has it.
#[tokio::test]
async fn a_revoked_member_reads_the_list_by_the_networks_token_and_does_nothing_else() {
    let realm = Realm::new().await;
    let (thief, bob) = (Node::new(1, "thief"), Node::new(2, "bob"));
    let [of_thief, of_bob] =
        [(&thief, 1), (&bob, 2)].map(|(node, address)| realm.by_network(&binding(node, address)));
    assert_eq!(realm.post(&thief, 1, Some(&of_thief)).await.status(), 201);
    assert_eq!(realm.post(&bob, 1, Some(&of_bob)).await.status(), 201);
    let mut listening = Events::open_as(&realm.server, &realm.net, &bob).await;
    let out = realm.out(&thief.id());
    assert_eq!(realm.revoke(&out).await.status(), 204);

    // What it reads.
    let listed = realm.net.directory(&realm.server).await.peers;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, "bob");
    let mut events = Events::open(&realm.server, &realm.net).await;
    assert_eq!(events.list.peers, listed);
    // Before a hello no letter goes out, and there is nothing to relay by.
    events.signal(&bob, "let me in").await;
    let refused = events.next().await;
    let is_refusal =
        matches!(&refused, ServerMessage::Error { problem } if problem.code == "hello-required");
    assert!(is_refusal, "{refused:?}");
    // It has no hello that is taken, and without one the connection ends.
    let nonce = events.nonce.clone();
    events.send(&hello(&thief.key, &realm.net.id, &nonce)).await;
    assert_eq!(events.farewell().await.0.code, "not-registered");
    assert!(events.turn.is_none());
    let mut silent = Events::open(&realm.server, &realm.net).await;
    assert_eq!(silent.farewell().await.0.code, "hello-expected");
    assert!(silent.turn.is_none());
    // Nor does it come back, by its certificate or by the link of somebody else's that it may have kept.
    assert_eq!(realm.refused(&thief, 2, &of_thief).await, "revoked");
    let again = realm.week([60; 32], None);
    let again = again.certify(&realm.root(), &binding(&thief, 7)).unwrap();
    assert_eq!(realm.refused(&thief, 3, &again).await, "revoked");
    // The other one heard of none of this.
    let nobody = Node::new(99, "nobody");
    listening.signal(&nobody, "").await;
    let heard = listening
        .until(|message| {
            matches!(
                message,
                ServerMessage::Signal { .. } | ServerMessage::Undeliverable { .. }
            )
        })
        .await;
    assert_eq!(heard, ServerMessage::Undeliverable { to: nobody.id() });
}

#[tokio::test]
async fn an_admin_invites_and_revokes_and_takes_its_own_with_it() {
    let realm = Realm::new().await;
    let (admin, bob) = (Node::new(1, "admin"), Node::new(2, "bob"));
    let mut rights = binding(&admin, 1);
    rights.roles = Roles::all();
    let of_admin = realm.by_network(&rights);
    assert_eq!(realm.post(&admin, 1, Some(&of_admin)).await.status(), 201);
    let terms = realm.week([50; 32], Some(1)).invite.terms;
    let mut terms = InviteTerms { ..terms };
    terms.span.from = now();
    let invite = Invite::sign(&realm.root(), &admin.key, Some(&of_admin), &terms).unwrap();
    let invite = Capability::new(SigningKey::from_bytes(&[50; 32]), invite).unwrap();
    let of_bob = invite.certify(&realm.root(), &binding(&bob, 2)).unwrap();
    assert_eq!(realm.post(&bob, 1, Some(&of_bob)).await.status(), 201);
    let revocation = realm.out(&admin.id());
    assert_eq!(realm.revoke(&revocation).await.status(), 204);
    assert!(realm.net.directory(&realm.server).await.peers.is_empty());
}
