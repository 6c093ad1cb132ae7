//! Which sockets beside the mesh's own carry paths?

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use super::SocketRequest;
use crate::peer::table::PeerIdx;

/// The most that are kept: each is waited for in every turn of the data plane.
const MOST: usize = 16;
/// How often they are looked at.
const CHECK: Duration = Duration::from_secs(10);
/// A socket without a path is kept for this long: after trouble the path may come back to it.
const UNUSED: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Socket {
    peer: PeerIdx,
    base: SocketAddr,
    used: Option<Instant>,
}

/// The sockets, by local port.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sockets: BTreeMap<u16, Socket>,
    check: Option<Instant>,
}

impl Kept {
    /// Whether one more may be kept.
    pub(super) fn has_room(&self) -> bool {
        self.sockets.len() < MOST
    }

    /// Whether one has this port.
    pub(super) fn has(&self, port: u16) -> bool {
        self.sockets.contains_key(&port)
    }

    /// Keeps the socket of this address.
    pub(super) fn add(&mut self, peer: PeerIdx, base: SocketAddr) {
        let socket = Socket {
            peer,
            base,
            used: None,
        };
        self.sockets.insert(base.port(), socket);
    }

    /// The newest address for a peer.
    pub(super) fn base(&self, peer: PeerIdx) -> Option<SocketAddr> {
        let mut own = self.sockets.values().filter(|socket| socket.peer == peer);
        own.next_back().map(|socket| socket.base)
    }

    /// When they are to be looked at.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.check.filter(|_| !self.sockets.is_empty())
    }

    /// Lets go of those of a peer.
    pub(super) fn forget(&mut self, peer: PeerIdx) -> Vec<SocketRequest> {
        self.close(|_, socket| socket.peer == peer)
    }

    /// Lets go of those that were not used for a while.
    pub(super) fn tidy(
        &mut self,
        is_used: impl Fn(PeerIdx, u16) -> bool,
        now: Instant,
    ) -> Vec<SocketRequest> {
        if self.check.is_some_and(|at| now < at) {
            return Vec::new();
        }
        self.check = (!self.sockets.is_empty()).then_some(now + CHECK);
        for (port, socket) in &mut self.sockets {
            if socket.used.is_none() || is_used(socket.peer, *port) {
                socket.used = Some(now);
            }
        }
        self.close(|_, socket| socket.used.is_some_and(|at| now >= at + UNUSED))
    }

    fn close(&mut self, which: impl Fn(u16, &Socket) -> bool) -> Vec<SocketRequest> {
        let closed = self
            .sockets
            .extract_if(.., |port, socket| which(*port, socket));
        let ports = closed.filter_map(|(port, _)| NonZeroU16::new(port));
        ports.map(SocketRequest::Close).collect()
    }
}
