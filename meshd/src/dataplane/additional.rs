//! Which UDP sockets are there beside the mesh's own? Those that birthday probing opens for a few seconds, and of them the
//! one that then carries the path to a peer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use platform::udp::UdpSocket;

/// The additional sockets of one thread.
pub(super) struct Additional {
    sockets: Vec<UdpSocket>,
    /// Local ports of those that the attempt under way has opened.
    begun: Vec<u16>,
    /// Whether the attempt under way on this machine is ours.
    holds: bool,
    leave: Leave,
}

/// Shared by all threads: one attempt at a time is made on this machine.
pub(super) type Leave = Arc<AtomicBool>;

impl Additional {
    pub(super) fn new(leave: Leave) -> Self {
        Self {
            sockets: Vec::new(),
            begun: Vec::new(),
            holds: false,
            leave,
        }
    }

    /// Begins an attempt with so many sockets, whose local ports are returned; `None` while another thread makes one, or when
    /// the system does not give enough sockets.
    pub(super) fn begin(&mut self, count: u16) -> Option<Vec<u16>> {
        if self.leave.swap(true, Ordering::SeqCst) {
            return None;
        }
        self.holds = true;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        for _ in 0..count {
            match UdpSocket::bind(any) {
                Ok(socket) => {
                    self.begun.push(socket.local_addr().port());
                    self.sockets.push(socket);
                }
                Err(error) => {
                    // The last descriptors are for others.
                    tracing::info!(%error, "not enough sockets for birthday probing");
                    self.end(None);
                    return None;
                }
            }
        }
        tracing::debug!(sockets = count, "birthday probing begins");
        Some(self.begun.clone())
    }

    /// Closes the sockets of the attempt but the one with this local port.
    pub(super) fn end(&mut self, keep: Option<NonZeroU16>) {
        if !std::mem::take(&mut self.holds) {
            return;
        }
        let closed = std::mem::take(&mut self.begun);
        self.sockets.retain(|socket| {
            let port = socket.local_addr().port();
            NonZeroU16::new(port) == keep || !closed.contains(&port)
        });
        self.leave.store(false, Ordering::SeqCst);
        tracing::debug!(found = keep.is_some(), "birthday probing ends");
    }

    /// Closes one.
    pub(super) fn close(&mut self, port: NonZeroU16) {
        self.sockets
            .retain(|socket| socket.local_addr().port() != port.get());
    }

    /// All, for whoever waits for them.
    pub(super) fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    /// The one with this local port.
    pub(super) fn with_port(&mut self, port: NonZeroU16) -> Option<&mut UdpSocket> {
        let mut all = self.sockets.iter_mut();
        all.find(|socket| socket.local_addr().port() == port.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(additional: &Additional) -> Vec<u16> {
        let all = additional.sockets().iter();
        all.map(|socket| socket.local_addr().port()).collect()
    }

    #[test]
    fn one_attempt_at_a_time_and_one_socket_of_it_stays() {
        let leave = Leave::default();
        let [mut one, mut other] = [(); 2].map(|()| Additional::new(leave.clone()));
        let opened = one.begin(8).expect("eight sockets");
        assert_eq!(opened, ports(&one));
        assert_eq!(other.begin(0), None);
        other.end(None);
        assert_eq!(other.begin(0), None, "it was not the other's to end");
        let keep = NonZeroU16::new(opened[3]);
        one.end(keep);
        assert_eq!(ports(&one), [opened[3]]);
        assert_eq!(other.begin(0), Some(Vec::new()));
        assert_eq!(one.begin(8), None);
        assert_eq!(ports(&one), [opened[3]]);
        other.end(None);
        one.begin(8).expect("eight more");
        one.end(None);
        assert_eq!(ports(&one), [opened[3]], "of an earlier attempt");
        let port = keep.expect("a port");
        assert!(one.with_port(port).is_some());
        one.close(port);
        assert!(one.with_port(port).is_none());
    }
}
