//! Which datagrams shall be sent, to whom, and which of them may share one system call?
//!
//! Datagrams to one destination are laid into one contiguous train, ready for UDP segmentation offload: all of the
//! same length but the last, which may be shorter and then closes the train.

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
};

use super::ecn::Ecn;

/// Linux takes at most 64 segments in one send (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const MAX_SEGMENTS: usize = 64;
/// The greatest UDP payload over IPv4: 65,535 - 20 - 8 bytes.
pub const MAX_TRAIN: usize = 65_507;
/// A new datagram looks this many trains back for one of its destination, so that a few busy peers still share calls.
const LOOK_BACK: usize = 4;
/// Buffers kept for later trains: 2 MiB at most, of which only pages that were ever written are real.
const MAX_SPARE: usize = 32;

/// Bytes of a ChannelData header (RFC 8656 section 12.4). Over UDP no padding follows the data; over a stream whoever
/// writes it adds that.
pub const CHANNEL_HEADER: usize = 4;

/// Names a connection to a TURN server. A node gives each name once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub NonZeroU32);

/// Where a datagram goes, and from which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The receiver's address and port; a TURN server's if there is a channel.
    pub dst: SocketAddr,
    /// The local address to send from; `None` leaves it to the operating system.
    pub src: Option<IpAddr>,
    /// The channel of the TURN server behind which the receiver is. Each datagram then goes behind a ChannelData header.
    pub channel: Option<NonZeroU16>,
    /// The connection to that server which carries each datagram as a message of its own, in place of UDP.
    pub stream: Option<StreamId>,
    /// The local port of the socket to send from, where that is not the mesh's own: see `path::birthday`.
    pub port: Option<NonZeroU16>,
}

impl Route {
    /// Straight to an address, from wherever the operating system likes.
    pub fn to(dst: SocketAddr) -> Self {
        Self {
            dst,
            src: None,
            channel: None,
            stream: None,
            port: None,
        }
    }

    /// Straight to an address, from one of ours.
    pub fn between(src: IpAddr, dst: SocketAddr) -> Self {
        Self {
            dst,
            src: Some(src),
            channel: None,
            stream: None,
            port: None,
        }
    }

    /// Behind relay headers, over neighbours that carry for us, to the member with this address. No datagram goes there: port 0
    /// says that it is laid into a frame for whoever is next.
    pub fn over_mesh(member: IpAddr) -> Self {
        Self::to(SocketAddr::new(member, 0))
    }

    /// Whether neighbours carry what goes this way.
    pub fn is_over_mesh(&self) -> bool {
        self.dst.port() == 0
    }

    /// Bytes that go before a message: the IP header without options, the UDP header and that of a channel.
    pub fn overhead(&self) -> usize {
        let outer = match self.dst {
            SocketAddr::V4(_) => 20 + 8,
            SocketAddr::V6(_) => 40 + 8,
        };
        outer + self.channel.map_or(0, |_| CHANNEL_HEADER)
    }
}

/// A run of datagrams to one destination.
#[derive(Debug)]
pub struct Train {
    route: Route,
    ecn: Ecn,
    /// Of the IP headers; the system's own if absent.
    hop_limit: Option<u8>,
    segment: usize,
    segments: usize,
    /// Nothing may be added: a shorter datagram is its last, it is full, or a newer train goes the same way.
    closed: bool,
    /// Bytes in front that were sent already.
    sent: usize,
    /// Bytes in use, the sent ones included.
    len: usize,
    /// [`MAX_TRAIN`] bytes, of which those behind `len` are of no meaning.
    bytes: Box<[u8]>,
}

impl Train {
    /// Where it goes.
    pub fn route(&self) -> Route {
        self.route
    }

    /// The ECN field of the IP headers that carry it.
    pub fn ecn(&self) -> Ecn {
        self.ecn
    }

    /// The hop limit (TTL) of the IP headers that carry it, where that is not left to the system.
    pub fn hop_limit(&self) -> Option<u8> {
        self.hop_limit
    }

    /// Length of each datagram in bytes; the last may be shorter.
    pub fn segment_size(&self) -> usize {
        self.segment
    }

    /// All datagrams that are still to be sent, back to back.
    pub fn contents(&self) -> &[u8] {
        &self.bytes[self.sent..self.len]
    }

    /// The datagrams that are still to be sent, one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.contents().chunks(self.segment.max(1))
    }

    fn takes(&self, ecn: Ecn, len: usize) -> bool {
        !self.closed && self.ecn == ecn && len <= self.segment
    }

    /// Counts a datagram that was written behind the others.
    fn grow(&mut self, written: usize) {
        if self.segments == 0 {
            self.segment = written;
        }
        self.len += written;
        self.segments += 1;
        self.closed = written < self.segment
            || self.segments == MAX_SEGMENTS
            || self.len + self.segment > MAX_TRAIN;
    }
}

/// Outgoing datagrams. The owner lends it to the node, sends what it holds and lends it again. No memory is cleared or
/// allocated per datagram once the buffers of a busy moment exist.
#[derive(Debug, Default)]
pub struct TransmitQueue {
    /// Oldest first. Of the trains of one route only the newest is open, and all open ones are among the last
    /// [`LOOK_BACK`].
    trains: Vec<Train>,
    /// Buffers of sent trains, to be used again; the one used last, which caches still hold, first.
    spare: Vec<Box<[u8]>>,
}

impl TransmitQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `fill` write one datagram into a buffer of exactly `len` bytes with unspecified contents, and takes as
    /// many bytes as it returns; 0 sends nothing. No UDP datagram is longer than [`MAX_TRAIN`], so such a one is not
    /// even asked for. The header of a channel is added in front.
    pub fn push_with(&mut self, route: Route, len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.push_marked_with((route, Ecn::NotEct), len, fill);
    }

    /// As [`Self::push_with`], in an IP packet with this ECN field.
    pub fn push_marked_with(
        &mut self,
        (route, ecn): (Route, Ecn),
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let header = match route.channel {
            Some(_) => CHANNEL_HEADER,
            None => 0,
        };
        if len > MAX_TRAIN - header {
            return;
        }
        let index = self.open_train(route, ecn, header + len);
        let train = &mut self.trains[index];
        let place = &mut train.bytes[train.len..train.len + header + len];
        let written = fill(&mut place[header..]).min(len);
        if written > 0 {
            if let Some(channel) = route.channel {
                place[..2].copy_from_slice(&channel.get().to_be_bytes());
                place[2..CHANNEL_HEADER].copy_from_slice(&sixteen(written));
            }
            train.grow(header + written);
        } else if train.segments == 0 {
            let train = self.trains.remove(index);
            self.keep(train.bytes);
        }
    }

    /// Queues a copy of `datagram`.
    pub fn push(&mut self, route: Route, datagram: &[u8]) {
        self.push_with(route, datagram.len(), |buffer| {
            buffer.copy_from_slice(datagram);
            datagram.len()
        });
    }

    /// Queues a copy of `datagram` alone, in an IP packet with this hop limit.
    pub fn push_limited(&mut self, route: Route, hop_limit: u8, datagram: &[u8]) {
        if datagram.is_empty() || datagram.len() > MAX_TRAIN {
            return;
        }
        // A train of its own: what may be extended is closed, and nothing may follow.
        let newest = self.trains.iter_mut().rfind(|train| train.route == route);
        if let Some(train) = newest {
            train.closed = true;
        }
        self.push(route, datagram);
        if let Some(train) = self.trains.last_mut() {
            train.hop_limit = Some(hop_limit);
            train.closed = true;
        }
    }

    /// The trains, oldest first.
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Gives the trains that can grow no more to `send`, oldest first; see [`Self::send_all`].
    pub fn send_closed(&mut self, send: impl FnMut(&Train) -> usize) -> bool {
        self.send_if(|train| train.closed, send)
    }

    /// Gives all trains to `send`, oldest first. It returns how many bytes it is done with, whole datagrams: with all
    /// of them the train is forgotten, with fewer its rest stays for the next time, no later train is given, and the
    /// answer is false.
    pub fn send_all(&mut self, send: impl FnMut(&Train) -> usize) -> bool {
        self.send_if(|_| true, send)
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.send_all(|train| train.contents().len());
    }

    fn send_if(
        &mut self,
        which: impl Fn(&Train) -> bool,
        mut send: impl FnMut(&Train) -> usize,
    ) -> bool {
        let mut index = 0;
        while let Some(train) = self.trains.get_mut(index) {
            if !which(train) {
                index += 1;
                continue;
            }
            train.sent = (train.sent + send(train)).min(train.len);
            if train.sent < train.len {
                // What was sent no longer counts for the limits of one system call: it must not grow again.
                train.closed |= train.sent > 0;
                return false;
            }
            let train = self.trains.remove(index);
            self.keep(train.bytes);
        }
        true
    }

    /// The index of the newest train of this route if it takes `len` more bytes, else of a new one. Only the newest
    /// may be extended: an older one would overtake it.
    fn open_train(&mut self, route: Route, ecn: Ecn, len: usize) -> usize {
        let recent = self.trains.len().saturating_sub(LOOK_BACK);
        let newest = self.trains[recent..]
            .iter()
            .rposition(|train| train.route == route)
            .map(|offset| recent + offset);
        if let Some(index) = newest {
            let train = &mut self.trains[index];
            if train.takes(ecn, len) {
                return index;
            }
            train.closed = true;
        }
        if self.trains.len() >= LOOK_BACK {
            // It is about to leave the window, and nothing will look for it again.
            self.trains[recent].closed = true;
        }
        let bytes = self
            .spare
            .pop()
            .unwrap_or_else(|| vec![0; MAX_TRAIN].into_boxed_slice());
        self.trains.push(Train {
            route,
            ecn,
            hop_limit: None,
            segment: len,
            segments: 0,
            closed: false,
            sent: 0,
            len: 0,
            bytes,
        });
        self.trains.len() - 1
    }

    fn keep(&mut self, bytes: Box<[u8]>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(bytes);
        }
    }
}

/// Lengths here are below those of a datagram.
fn sixteen(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests;
