//! How do datagrams come in and go out? One socket per IP version on one port, batches both ways.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_core::{
    Arrival, Node, PacketQueue, TransmitQueue,
    queue::{ecn::Ecn, transmit::Train},
};
use platform::udp::{RecvBuffers, UdpError, UdpSocket};
use tokio::time::timeout;

use super::{any, tun_io::TunIo};
use crate::problem::{self, Listener, Problem};

/// Receive calls per socket and turn; one call takes up to 16 trains of 64 KiB.
const RECEIVES_PER_TURN: usize = 4;
/// A socket that takes nothing for this long has lost its network; what was to be sent is dropped as on any full link.
const SEND_PATIENCE: Duration = Duration::from_millis(100);

/// The mesh's sockets.
pub(super) struct UdpIo {
    v4: UdpSocket,
    /// Absent on a host without IPv6.
    v6: Option<UdpSocket>,
    buffers: RecvBuffers,
}

impl UdpIo {
    /// Binds the port for both IP versions.
    pub(super) fn bind(port: u16) -> Result<Self, Problem> {
        let bound = |address| match UdpSocket::bind(address) {
            Ok(socket) => Ok(socket),
            Err(UdpError::PortInUse { .. }) => Err(problem::port_in_use(Listener::Mesh, address)),
            Err(error) => Err(problem::operation_failed("open the mesh socket", &error)),
        };
        let v4 = bound(any(port, false))?;
        let v6 = match UdpSocket::bind(any(v4.local_addr().port(), true)) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::info!(%error, "no IPv6 socket");
                None
            }
        };
        Ok(Self {
            v4,
            v6,
            buffers: RecvBuffers::new(),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.v4.local_addr().port()
    }

    /// Waits for a datagram.
    pub(super) async fn readable(&self) {
        let v6 = async {
            match &self.v6 {
                Some(socket) => socket.readable().await,
                None => std::future::pending().await,
            }
        };
        // An error is met again, and counted, by the receive call that follows.
        tokio::select! {
            _ = self.v4.readable() => {}
            _ = v6 => {}
        }
    }

    /// Gives all that waits to the node, within the budget, and what it opens to the TUN.
    pub(super) fn receive(
        &mut self,
        node: &mut Node,
        now: Instant,
        (transmit, packets): (&mut TransmitQueue, &mut PacketQueue),
        tun: &mut TunIo,
    ) -> Result<(), Problem> {
        let mut written = Ok(());
        for socket in [Some(&self.v4), self.v6.as_ref()].into_iter().flatten() {
            let local = socket.local_addr();
            for _ in 0..RECEIVES_PER_TURN {
                let received = socket.try_recv(&mut self.buffers, |meta, train| {
                    let to =
                        SocketAddr::new(meta.to_ip.unwrap_or_else(|| local.ip()), local.port());
                    let arrival = Arrival {
                        from: meta.from,
                        to,
                        ecn: Ecn::from_bits(meta.ecn),
                    };
                    node.handle_train(arrival, (train, meta.stride), now, transmit, packets);
                    if written.is_ok() {
                        written = tun.write(packets.iter(train));
                    }
                    packets.clear();
                });
                match received {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        // An ICMP error for something that we sent; the socket goes on.
                        tracing::debug!(%error, "receive");
                    }
                }
            }
        }
        written
    }

    /// Sends all trains and empties the queue.
    pub(super) async fn send(&self, transmit: &mut TransmitQueue) {
        for train in transmit.trains() {
            let socket = if train.route().dst.is_ipv4() {
                Some(&self.v4)
            } else {
                self.v6.as_ref()
            };
            if let Some(socket) = socket
                && let Err(error) = send_train(socket, train).await
            {
                tracing::debug!(%error, "send");
            }
        }
        transmit.clear();
    }
}

async fn send_train(socket: &UdpSocket, train: &Train) -> io::Result<()> {
    let route = train.route();
    let mut source = route.src.filter(|ip| !ip.is_unspecified());
    let mut rest = train.contents();
    while !rest.is_empty() {
        match socket.try_send(route.dst, source, rest, train.segment_size()) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(SEND_PATIENCE, socket.writable())
                    .await
                    .map_err(io::Error::other)??;
            }
            // The address that this path began with may be gone; the system knows a better one.
            Err(_) if source.is_some() => source = None,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
