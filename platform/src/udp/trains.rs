//! How do datagrams go by the train through a socket that the runtime waits for, and that others send on too?
//!
//! [`super::UdpSocket`] belongs to one thread and never fragments; this is for a relay, which has many sockets, and sends what
//! others have made as it came. Linux joins and cuts; other systems take and send one datagram at a time.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

use socket2::SockRef;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
};
use tokio::net::UdpSocket;

/// Room for the longest train, which is one IP packet to the system.
pub const TRAIN: usize = 65_536;

/// Datagrams of one departing train: Linux takes no more (`UDP_MAX_SEGMENTS` of kernels before 6.9).
const MAX_SEGMENTS: usize = 64;

/// A train that arrived: `length` bytes, of which each datagram has `stride` and the last may have fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Sender, as the socket tells it: IPv4 may be mapped.
    pub from: SocketAddr,
    length: usize,
    stride: usize,
}

impl Arrived {
    /// Its datagrams, in the buffer that it was received into. None is empty.
    pub fn datagrams<'a>(&self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let train = &buffer[..self.length.min(buffer.len())];
        // An empty datagram is one too, and comes alone.
        let empty = train.is_empty().then_some(train);
        train.chunks(self.stride.max(1)).chain(empty)
    }
}

/// Has the system join what arrives into trains, where it can; without that each datagram comes alone.
pub fn join_arrivals(socket: &UdpSocket) {
    if let Err(error) = system::join_arrivals(socket) {
        tracing::debug!(%error, "datagrams are received one by one");
    }
}

/// Receives one train into a buffer of [`TRAIN`] bytes; a longer datagram than that is cut. `WouldBlock` when there is none,
/// until `socket` is readable again.
pub fn try_recv_train(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
    system::try_recv_train(socket, buffer)
}

/// As [`try_recv_train`], once there is one.
pub async fn recv_train(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
    loop {
        socket.readable().await?;
        match try_recv_train(socket, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            arrived => return arrived,
        }
    }
}

/// Datagrams for one receiver that may leave by one system call: all of one length but the last, which may be shorter. Each
/// is a header, which may be empty, and what follows it; neither is copied.
#[derive(Debug, Default)]
pub struct Departing<'a> {
    datagrams: Vec<[IoSlice<'a>; 2]>,
    /// Bytes of each datagram but the last.
    segment: usize,
    bytes: usize,
    /// A shorter datagram is its last.
    closed: bool,
}

impl<'a> Departing<'a> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a datagram, unless this train can take it no more; whether it did. An empty train takes any.
    #[must_use]
    pub fn push(&mut self, header: &'a [u8], data: &'a [u8]) -> bool {
        let length = header.len() + data.len();
        if self.datagrams.is_empty() {
            self.segment = length;
        } else if self.closed
            || length > self.segment
            || length == 0
            || self.datagrams.len() == MAX_SEGMENTS
            || self.bytes + length > super::MAX_TRAIN
        {
            return false;
        }
        self.datagrams
            .push([IoSlice::new(header), IoSlice::new(data)]);
        self.bytes += length;
        self.closed = length < self.segment || length == 0;
        true
    }

    /// Sends them at once or not at all, and is empty then. `lost` is told of each datagram that was not sent.
    pub fn send(&mut self, socket: &UdpSocket, to: SocketAddr, mut lost: impl FnMut(&io::Error)) {
        let socket = SockRef::from(socket);
        if self.datagrams.len() > 1 {
            match system::send_together(&socket, to, &self.datagrams, self.segment) {
                Ok(()) => self.datagrams.clear(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.datagrams.iter().for_each(|_| lost(&error));
                    self.datagrams.clear();
                }
                // Such as datagrams that the system must cut into fragments, or a device that cannot cut trains: alone they
                // may pass. If they do not, each says why.
                Err(_) => {}
            }
        }
        for datagram in &self.datagrams {
            if let Err(error) = socket.send_to_vectored(datagram, &to.into()) {
                lost(&error);
            }
        }
        *self = Self {
            datagrams: std::mem::take(&mut self.datagrams),
            ..Self::default()
        };
        self.datagrams.clear();
    }
}

#[cfg(test)]
mod tests;
