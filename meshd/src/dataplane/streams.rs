//! How do messages for a TURN server travel where UDP does not? The thread has a bounded queue for each connection, and a
//! task does the rest.
//!
//! The thread never waits for a connection: what does not fit is lost, as on any full link.

mod connection;
mod websocket;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::BytesMut;
use mesh_core::{
    Arrival, StreamId, StreamRequest, Trouble,
    queue::{ecn::Ecn, transmit::Train},
};
use mesh_wire::turn_stream::{self, Framed};
use platform::readiness::Bell;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connection::{Connection, Tls};
use crate::discovery::dial::Certificates;

/// Bytes that wait for one connection: a tenth of a second at 20 Mbit/s. What waits longer is of little use.
const WAITING: usize = 256 << 10;
/// Trains that wait for one connection; most are shorter than they may be.
const TRAINS: usize = 256;
/// Pieces of streams that wait for the thread. A server that sends faster has to wait.
const PIECES: usize = 32;

/// The connections of one thread.
pub(super) struct Streams {
    open: HashMap<StreamId, Outbox>,
    /// To be closed when what waits in the queue of the node was handed over.
    closing: Vec<StreamId>,
    news: mpsc::Receiver<News>,
    surroundings: Surroundings,
    lost: u64,
}

/// What all connections share.
#[derive(Clone)]
struct Surroundings {
    news: mpsc::Sender<News>,
    bell: Bell,
    /// Of the thread's UDP sockets: what comes by a connection came to the same node.
    port: u16,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    tls: Tls,
    /// For WebSockets.
    certificates: Certificates,
    shutdown: CancellationToken,
}

/// What waits for one connection.
struct Outbox {
    trains: mpsc::Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

/// What a connection tells the thread.
pub(super) enum News {
    /// Whole messages.
    Arrived(Arrival, BytesMut),
    /// It is over.
    Ended(StreamId, Trouble),
}

impl Streams {
    /// None yet. Called in the runtime that shall have the tasks.
    pub(super) fn new(
        (bell, port): (Bell, u16),
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (sender, news) = mpsc::channel(PIECES);
        Self {
            open: HashMap::new(),
            closing: Vec::new(),
            news,
            surroundings: Surroundings {
                news: sender,
                bell,
                port,
                runtime: tokio::runtime::Handle::current(),
                tasks: tasks.clone(),
                tls: Tls::default(),
                certificates: Certificates::default(),
                shutdown: shutdown.clone(),
            },
            lost: 0,
        }
    }

    /// Does what the node asks for.
    pub(super) fn carry_out(&mut self, request: StreamRequest) {
        match request {
            StreamRequest::Open {
                stream,
                server,
                transport,
            } => {
                let (trains, queue) = mpsc::channel(TRAINS);
                let waiting = Arc::new(AtomicUsize::new(0));
                let connection = Connection {
                    stream,
                    server,
                    transport,
                    queue,
                    waiting: Arc::clone(&waiting),
                    surroundings: self.surroundings.clone(),
                };
                let Surroundings { tasks, runtime, .. } = &self.surroundings;
                tasks.spawn_on(connection.run(), runtime);
                self.open.insert(stream, Outbox { trains, waiting });
            }
            StreamRequest::Close(stream) => self.closing.push(stream),
        }
    }

    /// Hands over a train for a connection, as far as there is room.
    pub(super) fn send(&mut self, stream: StreamId, train: &Train) {
        let Some(outbox) = self.open.get(&stream) else {
            self.lost += 1;
            return;
        };
        let room = WAITING.saturating_sub(outbox.waiting.load(Relaxed));
        let mut bytes = Vec::with_capacity(train.contents().len().min(room));
        for datagram in train.datagrams() {
            if bytes.len() + datagram.len() > room {
                self.lost += 1;
                continue;
            }
            turn_stream::push(&mut bytes, datagram);
        }
        let written = bytes.len();
        if written > 0 {
            outbox.waiting.fetch_add(written, Relaxed);
            if outbox.trains.try_send(bytes).is_err() {
                outbox.waiting.fetch_sub(written, Relaxed);
                self.lost += 1;
            }
        }
    }

    /// Ends the connections that are done with; what was handed over still goes.
    pub(super) fn end_closed(&mut self) {
        for stream in self.closing.drain(..) {
            self.open.remove(&stream);
        }
    }

    /// The next that a connection has told.
    pub(super) fn next(&mut self) -> Option<News> {
        let news = self.news.try_recv().ok()?;
        if let News::Ended(stream, _) = news {
            self.open.remove(&stream);
        }
        Some(news)
    }

    /// Datagrams that found no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

impl Surroundings {
    fn arrival(&self, stream: StreamId, from: SocketAddr, local: SocketAddr) -> Arrival {
        Arrival {
            from,
            to: SocketAddr::new(local.ip(), self.port),
            ecn: Ecn::NotEct,
            stream: Some(stream),
        }
    }

    /// Waits while the thread has enough to do. Whether it still runs.
    async fn tell(&self, news: News) -> bool {
        let told = self.news.send(news).await.is_ok();
        self.bell.ring();
        told
    }
}

/// Gives the messages of a piece of a stream to `each`.
pub(super) fn each_message(piece: &mut [u8], mut each: impl FnMut(&mut [u8])) {
    let mut at = 0;
    while let Framed::Message { length, total } =
        turn_stream::next(&piece[at..], turn_stream::LONGEST)
    {
        each(&mut piece[at..at + length]);
        at += total;
    }
}
