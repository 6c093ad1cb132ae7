//! A client that writes one thing after the other, and asks another server again when an answer does not come.

use std::time::Duration;

use mesh_wire::trust::Capability;
use reqwest::{Client, Method, StatusCode};
use serde::Serialize;
use tokio::time::sleep;

use super::World;
use crate::{
    authority::{Authority, binding},
    harness::{DEADLINE, Net, Node},
};

/// Nodes of one writer.
const NODES: u64 = 6;

/// A client with nodes, links and networks of its own.
pub(super) struct Writer {
    world: World,
    number: u16,
    client: Client,
    /// The server that it asks first.
    preferred: usize,
    turn: u64,
    asked: u64,
}

/// An answer, and whether an earlier request for the same may have been carried out.
struct Answer {
    status: StatusCode,
    text: String,
    is_repeated: bool,
}

impl Answer {
    /// Whether it is what the first request would have been answered, or what the same request is answered again.
    fn assert(&self, first: u16, again: &[u16]) {
        let status = self.status.as_u16();
        let is_right = status == first || self.is_repeated && again.contains(&status);
        assert!(is_right, "{status} instead of {first}: {}", self.text);
    }
}

impl Writer {
    pub(super) fn new(world: World, number: u16) -> Self {
        let client = Client::builder().no_proxy().timeout(DEADLINE);
        Self {
            world,
            number,
            client: client.build().unwrap(),
            preferred: usize::from(number),
            turn: 0,
            asked: 0,
        }
    }

    /// Writes until the test is over; how many requests were answered.
    pub(super) async fn write(mut self) -> u64 {
        while !self.world.over.is_cancelled() {
            let pause = self.world.pause.clone();
            let _going_on = pause.read().await;
            self.turn += 1;
            match self.turn % 9 {
                0 => self.create_network().await,
                4 => self.deregister().await,
                7 => self.use_link().await,
                _ => self.register().await,
            }
        }
        self.asked
    }

    /// The node whose turn it is, and its address.
    fn node(&self) -> (Node, u8) {
        let node = u16::try_from(self.turn % NODES).unwrap();
        let number = 1 + self.number * 16 + node;
        let name = format!("w{}-{node}", self.number);
        (Node::new(number, &name), u8::try_from(number).unwrap())
    }

    pub(super) async fn join(&mut self, node: &Node, address: u8) {
        let authority = self.world.authority.clone();
        let certificate = authority.by_network(&binding(node, address));
        let register = authority.register(node, 1 + self.turn, Some(&certificate));
        let is_new = self
            .world
            .model(|model| !model.members.contains_key(&node.id()));
        let path = authority.net.path("/peers");
        let answer = self.ask(Method::POST, &path, Some(&register)).await;
        answer.assert(if is_new { 201 } else { 200 }, &[200]);
        let seq = register.record.seq;
        self.world
            .model(|model| model.members.insert(node.id(), seq));
        // Whoever shows itself again with what it said before changes nothing.
        let answer = self.ask(Method::POST, &path, Some(&register)).await;
        answer.assert(200, &[]);
    }

    async fn register(&mut self) {
        let (node, address) = self.node();
        self.join(&node, address).await;
    }

    async fn deregister(&mut self) {
        let (node, _) = self.node();
        let removed = self.world.model(|model| model.members.remove(&node.id()));
        let path = self
            .world
            .authority
            .net
            .path(&format!("/peers/{}", node.id()));
        let answer = self.ask(Method::DELETE, &path, None::<&()>).await;
        answer.assert(if removed.is_some() { 204 } else { 404 }, &[404]);
    }

    async fn create_network(&mut self) {
        let net = Net::new(&format!("own-{}-{}", self.number, self.turn), "10.1.0.0/24");
        let answer = self
            .ask(Method::POST, "/api/v1/mesh/networks", Some(&net.create))
            .await;
        answer.assert(201, &[200]);
        self.world
            .model(|model| model.networks.insert(net.id.to_string()));
    }

    /// A link for one machine lets in one, at whichever server the second one asks, and nobody when it is revoked.
    async fn use_link(&mut self) {
        let authority = self.world.authority.clone();
        let number = 1_000 + self.number * 10_000 + u16::try_from(self.turn).unwrap() * 2;
        let [first, second] = [0, 1].map(|more| {
            let name = format!("l{}-{}", self.number, number + more);
            Node::new(number + more, &name)
        });
        let mut secret = [9; 32];
        secret[..2].copy_from_slice(&number.to_be_bytes());
        let link = authority.week(secret, Some(1));
        let answer = self.enter(&link, (&first, 0)).await;
        answer.assert(201, &[200]);
        self.world
            .model(|model| model.members.insert(first.id(), 1));
        self.preferred += 1;
        let answer = self.enter(&link, (&second, 1)).await;
        answer.assert(403, &[]);
        assert!(answer.text.contains("invite-used-up"), "{}", answer.text);
        let revocation = authority.out(&link.invite.terms.key);
        let path = authority.net.path("/revocations");
        let revoke = Authority::revoke(&revocation);
        self.ask(Method::POST, &path, Some(&revoke))
            .await
            .assert(204, &[]);
        self.world.model(|model| {
            model.members.remove(&first.id());
            model.revocations.insert(revocation.to_text());
        });
        self.preferred += 1;
        let answer = self.enter(&link, (&first, 0)).await;
        answer.assert(403, &[]);
        assert!(answer.text.contains("revoked"), "{}", answer.text);
    }

    async fn enter(&mut self, link: &Capability, (node, place): (&Node, u8)) -> Answer {
        let authority = self.world.authority.clone();
        // Places of their own: nothing but the link keeps the second one out.
        let address = 200 + 2 * u8::try_from(self.number).unwrap() + place;
        let certificate = link.certify(&authority.root(), &binding(node, address));
        let register = authority.register(node, 1, Some(&certificate.unwrap()));
        let path = authority.net.path("/peers");
        self.ask(Method::POST, &path, Some(&register)).await
    }

    /// Asks until there is an answer, at one server after the other.
    async fn ask<T: Serialize + Sync>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Answer {
        let mut is_repeated = false;
        loop {
            if let Some((_, at)) = self.world.places.near(self.preferred) {
                let request = self
                    .client
                    .request(method.clone(), format!("http://{at}{path}"))
                    .bearer_auth(&self.world.admin);
                let request = body.into_iter().fold(request, |it, body| it.json(body));
                if let Ok(answer) = request.send().await {
                    let status = answer.status();
                    if let Ok(text) = answer.text().await {
                        assert!(!status.is_server_error(), "{status} {text}");
                        self.asked += 1;
                        return Answer {
                            status,
                            text,
                            is_repeated,
                        };
                    }
                }
                is_repeated = true;
                self.preferred += 1;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}
