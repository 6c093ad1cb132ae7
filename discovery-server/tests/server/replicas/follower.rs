//! A member that listens and writes letters, and goes to another server when its connection breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{SinkExt as _, StreamExt as _};
use mesh_wire::{
    NodeId,
    discovery::{ClientMessage, ServerMessage, hello},
    peer_info::{Directory, PeerInfo},
};
use tokio::{net::TcpStream, task::JoinHandle, time::sleep};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use super::World;
use crate::harness::{Node, within};

/// As often as a busy member, and less than a server forwards.
const LETTER_INTERVAL: Duration = Duration::from_millis(60);

/// Letters that one writes from one place if it roams.
const STAY: u64 = 8;

type Stream = WebSocketStream<TcpStream>;

/// What a follower knows.
#[derive(Default)]
pub(super) struct View {
    pub(super) list: Directory,
    /// Revocations that it was told of on its connection.
    told: BTreeSet<String>,
    letters: BTreeMap<NodeId, Vec<Letter>>,
}

/// A letter that has come.
#[derive(Debug, PartialEq, Eq)]
struct Letter {
    /// The sender's connection, and its number on that.
    sent: (u64, u64),
    /// The receiver's.
    connection: u64,
}

/// Such a member, seen from the test.
pub(super) struct Follower {
    id: NodeId,
    view: Arc<Mutex<View>>,
}

impl Follower {
    /// Lets it begin, with letters to another member.
    pub(super) fn begin(
        world: World,
        (preferred, roams): (usize, bool),
        node: Node,
        to: NodeId,
    ) -> (Self, JoinHandle<u64>) {
        let (id, view) = (node.id(), Arc::<Mutex<View>>::default());
        let task = Task {
            world,
            node,
            to,
            preferred,
            roams,
            connection: 0,
            view: Arc::clone(&view),
        };
        (Self { id, view }, tokio::spawn(task.run()))
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.lock().unwrap())
    }

    /// How many letters it has got.
    pub(super) fn letters(&self) -> usize {
        self.view(|view| view.letters.values().map(Vec::len).sum())
    }
}

struct Task {
    world: World,
    node: Node,
    to: NodeId,
    preferred: usize,
    roams: bool,
    /// Numbers its connections.
    connection: u64,
    view: Arc<Mutex<View>>,
}

impl Task {
    /// Listens until the test is over; how many letters it has got.
    async fn run(mut self) -> u64 {
        let over = self.world.over.clone();
        while !over.is_cancelled() {
            self.connection += 1;
            tokio::select! {
                // How it broke is of no interest: the server died.
                broken = self.listen() => drop(broken),
                () = over.cancelled() => break,
            }
            self.preferred += 1;
            sleep(Duration::from_millis(20)).await;
        }
        let view = self.view.lock().unwrap();
        view.letters.values().map(|all| all.len() as u64).sum()
    }

    async fn listen(&self) -> Result<(), Error> {
        let Some((_, at)) = self.world.places.near(self.preferred) else {
            return Ok(());
        };
        let net = &self.world.authority.net;
        let url = format!("ws://{at}{}", net.path("/events"));
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {}", net.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (mut stream, _) = client_async(request, TcpStream::connect(at).await?).await?;
        let mut letter = tokio::time::interval(LETTER_INTERVAL);
        let (mut number, mut is_greeted) = (0, false);
        loop {
            tokio::select! {
                message = within(stream.next()) => match message.ok_or(Error::ConnectionClosed)?? {
                    Message::Text(text) => {
                        let message = serde_json::from_str(&text).unwrap();
                        if let Some(answer) = self.take(message) {
                            send(&mut stream, &answer).await?;
                            is_greeted = true;
                        }
                    }
                    Message::Close(_) => return Ok(()),
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                },
                _ = letter.tick(), if is_greeted => {
                    number += 1;
                    // Who roams goes to the other server now and then, but not while all is compared.
                    if self.roams && number >= STAY && self.world.pause.try_read().is_ok() {
                        return Ok(());
                    }
                    let payload = format!("{}/{number}", self.connection);
                    send(&mut stream, &ClientMessage::Signal { to: self.to, payload }).await?;
                }
            }
        }
    }

    /// Takes what the server says; what it must be answered.
    fn take(&self, message: ServerMessage) -> Option<ClientMessage> {
        let mut view = self.view.lock().unwrap();
        match message {
            ServerMessage::Challenge { nonce } => {
                return Some(hello(&self.node.key, &self.world.authority.net.id, &nonce));
            }
            ServerMessage::Snapshot {
                revision,
                complete,
                peers,
                revocations,
            } => {
                assert!(complete);
                view.told.clear();
                view.list = Directory {
                    revision,
                    peers,
                    revocations,
                };
            }
            ServerMessage::PeerJoined { revision, peer }
            | ServerMessage::PeerUpdated { revision, peer } => view.put(revision, *peer),
            ServerMessage::PeerLeft { revision, node_id } => {
                view.rises(revision);
                view.list.peers.retain(|it| it.record.node_id != node_id);
            }
            ServerMessage::Revoked {
                revision,
                revocation,
            } => {
                view.rises(revision);
                assert!(view.told.insert(revocation.clone()), "told twice");
                // A list may be ahead of the news.
                if !view.list.revocations.contains(&revocation) {
                    view.list.revocations.push(revocation);
                }
            }
            ServerMessage::Signal { from, payload } => {
                view.put_letter(from, &payload, self.connection);
            }
            ServerMessage::Undeliverable { .. } | ServerMessage::Turn(_) => {}
            ServerMessage::Error { problem } => {
                // A server that may have missed something says so, and one that a busy machine keeps from its database.
                let fine = ["resync-required", "database-away"];
                assert!(fine.contains(&problem.code.as_str()), "{problem:?}");
            }
        }
        None
    }
}

impl View {
    /// Each change of the network is told to whoever hears of all, in order, with the next number.
    fn rises(&mut self, revision: u64) {
        assert_eq!(revision, self.list.revision + 1, "one was lost or doubled");
        self.list.revision = revision;
    }

    fn put(&mut self, revision: u64, peer: PeerInfo) {
        self.rises(revision);
        let node = peer.record.node_id;
        let known = self
            .list
            .peers
            .iter_mut()
            .find(|it| it.record.node_id == node);
        match known {
            Some(known) => {
                let (old, new) = (known.record.seq, peer.record.seq);
                assert!(old <= new, "{node} is at {new} after {old}");
                *known = peer;
            }
            None => self.list.peers.push(peer),
        }
    }

    /// Never twice, and in order as long as neither of the two goes to another server.
    fn put_letter(&mut self, from: NodeId, payload: &str, connection: u64) {
        let (their, number) = payload.split_once('/').unwrap();
        let sent = (their.parse().unwrap(), number.parse().unwrap());
        let all = self.letters.entry(from).or_default();
        let letter = Letter { sent, connection };
        for other in all.iter() {
            assert_ne!(other.sent, sent, "{letter:?} came twice");
            let is_in_order =
                (other.sent.0, other.connection) != (sent.0, connection) || other.sent.1 < sent.1;
            assert!(is_in_order, "{letter:?} came after {other:?}");
        }
        all.push(letter);
    }
}

async fn send(stream: &mut Stream, message: &ClientMessage) -> Result<(), Error> {
    let text = serde_json::to_string(message).unwrap();
    stream.send(Message::text(text)).await
}
