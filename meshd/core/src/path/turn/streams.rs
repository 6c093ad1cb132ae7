//! Over what is a TURN server spoken to, and which connections to servers are there? (RFC 8656 section 2.1)
//!
//! A connection is asked for when the first message goes through it, and is let go when nobody speaks through it any
//! more. A server that is reached again has another one, with another name, so that nothing late of the old is taken for
//! something of the new.

use std::{collections::VecDeque, fmt, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Instant};

use rand::Rng;

use super::{Turn, server::Trouble, stages::Stage};
use crate::queue::transmit::{Route, StreamId};

/// What carries the messages for a TURN server. To its peers it speaks UDP in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams of the mesh's own socket.
    Udp,
    /// A connection.
    Tcp,
    /// The same under TLS, with a server whose certificate is for this name or address.
    Tls(Arc<str>),
    /// A WebSocket (RFC 6455) at the discovery server with this URL, which passes where nothing but HTTP does.
    WebSocket(Arc<str>),
}

impl Transport {
    /// Which of two that answer is taken: the lower one. A connection makes packets wait for one that was lost, and a
    /// WebSocket passes through whatever stands in front of the server besides.
    pub(super) fn rank(&self) -> u32 {
        match self {
            Self::Udp => 0,
            Self::Tcp | Self::Tls(_) => 1,
            Self::WebSocket(_) => 2,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls(_) => "tls",
            Self::WebSocket(_) => "websocket",
        })
    }
}

/// What whoever holds the connections shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRequest {
    /// Make a connection. What is sent through it meanwhile waits; if it fails, [`super::super::super::Node`] is told.
    Open {
        /// Its name.
        stream: StreamId,
        /// Where to; of a WebSocket, whose URL says it, only a name.
        server: SocketAddr,
        /// TCP, TLS over it, or a WebSocket.
        transport: Transport,
    },
    /// End it once all that was sent has gone.
    Close(StreamId),
}

/// A server as it is spoken to at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Where it is.
    pub address: SocketAddr,
    /// The connection to it; none over UDP.
    pub stream: Option<StreamId>,
}

impl Contact {
    /// The way to it, from wherever the system likes.
    pub(super) fn route(self) -> Route {
        Route {
            stream: self.stream,
            ..Route::to(self.address)
        }
    }
}

/// Names connections, and asks for them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    given: u32,
    requests: VecDeque<StreamRequest>,
}

impl Streams {
    fn open(&mut self, server: SocketAddr, transport: Transport) -> StreamId {
        // Four thousand million of them are not made in the life of a node.
        self.given = self.given.wrapping_add(1);
        let stream = StreamId(NonZeroU32::new(self.given).unwrap_or(NonZeroU32::MIN));
        self.requests.push_back(StreamRequest::Open {
            stream,
            server,
            transport,
        });
        stream
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        self.requests.push_back(StreamRequest::Close(stream));
    }
}

impl Turn {
    /// What is to be done about connections. Those that nobody speaks through are closed.
    pub fn poll_stream(&mut self) -> Option<StreamRequest> {
        if let Some(request) = self.streams.requests.pop_front() {
            return Some(request);
        }
        let used = match &self.stage {
            Stage::Idle | Stage::Asking => None,
            Stage::Allocating(attempt) => attempt.server.stream,
            Stage::Standing(allocation) => allocation.server.stream,
        };
        let mut servers = self.servers.iter_mut();
        let idle = servers.find(|server| {
            server.stream.is_some() && server.stream != used && server.probe.is_none()
        });
        idle?.stream.take().map(StreamRequest::Close)
    }

    /// A connection has ended, or never was.
    pub fn on_stream_end(
        &mut self,
        stream: StreamId,
        trouble: Trouble,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        let mut servers = self.servers.iter();
        let Some(at) = servers.position(|server| server.stream == Some(stream)) else {
            return;
        };
        self.servers[at].stream = None;
        match &self.stage {
            Stage::Standing(ours) if ours.server.stream == Some(stream) => {
                // A server that was restarted is asked again at once, one that does nothing but close is not.
                if ours.is_young(now) {
                    self.servers[at].failed(trouble, now);
                }
                self.lose();
            }
            Stage::Allocating(attempt) if attempt.server.stream == Some(stream) => {
                self.servers[at].failed(trouble, now);
                self.stage = Stage::Idle;
            }
            Stage::Idle | Stage::Asking | Stage::Allocating(_) | Stage::Standing(_) => {
                if self.servers[at].probe.is_some() {
                    self.servers[at].failed(trouble, now);
                }
                self.end_asking();
            }
        }
        self.ask(now, rng);
    }

    /// A server answers over UDP: those that were silent are worth a question while ours is reached over a connection.
    pub fn datagrams_pass(&mut self, now: Instant) {
        if self.is_on_stream() {
            let mut servers = self.servers.iter_mut();
            servers
                .by_ref()
                .filter(|server| !server.is_stream())
                .for_each(|server| server.wake(now));
        }
    }

    /// The transport of the connection with this name.
    pub fn transport_of(&self, stream: Option<StreamId>) -> Transport {
        let mut servers = self.servers.iter();
        let server = servers.find(|server| stream.is_some() && server.stream == stream);
        server.map_or(Transport::Udp, |server| server.known.transport.clone())
    }

    pub(super) fn is_on_stream(&self) -> bool {
        self.allocation()
            .is_some_and(|ours| ours.server.stream.is_some())
    }

    /// The rank of the transport that ours is reached over, if there is one.
    pub(super) fn rank(&self) -> Option<u32> {
        let at = self.position(self.allocation()?.server)?;
        Some(self.servers[at].rank())
    }

    /// How to speak to a server, with a connection that is made if there is none.
    pub(super) fn reach(&mut self, at: usize) -> Contact {
        let server = &mut self.servers[at];
        if server.is_stream() && server.stream.is_none() {
            let (address, transport) = (server.known.address, server.known.transport.clone());
            server.stream = Some(self.streams.open(address, transport));
        }
        Contact {
            address: server.known.address,
            stream: server.stream,
        }
    }
}
