//! Where are relayed addresses, and how do peers' packets come from there?

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Client, MAX_DATA, Turn,
    message::HEADROOM,
    outlet::{self, Outlet},
};
use crate::metrics::turn::Dropped;

/// RFC 8656 section 7.2: the ports that systems do not give to services.
pub(super) const FIRST_PORT: u16 = 49_152;

/// Ports that are tried for one allocation. With the most allocations there can be, one in eight is taken.
const ATTEMPTS: usize = 32;

/// Packets taken from one socket in a row, before others have their turn.
const BATCH: usize = 32;

/// Room for a packet, the header before it, padding, and one byte that shows that a packet is too long.
pub(super) const BUFFER: usize = HEADROOM + MAX_DATA + 4;

/// A relayed address and the client that it is for. Dropping it ends what is relayed from there.
#[derive(Debug)]
pub(super) struct Relayed {
    socket: Arc<UdpSocket>,
    pub(super) outlet: Outlet,
    _end: DropGuard,
}

impl Relayed {
    /// Sends to a peer.
    pub(super) fn send(&self, bytes: &[u8], peer: SocketAddr) -> Result<(), Dropped> {
        outlet::send(&self.socket, bytes, peer)
    }
}

/// A socket on a random port of `ip` that `is_free` approves of.
pub(super) fn bind(ip: IpAddr, is_free: impl Fn(u16) -> bool) -> io::Result<UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let port = FIRST_PORT | u16::from_be_bytes(random);
        if !is_free(port) {
            continue;
        }
        match std::net::UdpSocket::bind((ip, port)) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                return UdpSocket::from_std(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Begins to relay what arrives at `socket` to the client with this allocation.
pub(super) fn open(
    turn: &Arc<Turn>,
    allocation: (Client, u64),
    socket: UdpSocket,
    outlet: Outlet,
) -> Arc<Relayed> {
    let (socket, end) = (Arc::new(socket), CancellationToken::new());
    let relayed = Relayed {
        socket: Arc::clone(&socket),
        outlet,
        _end: end.clone().drop_guard(),
    };
    let turn = Arc::clone(turn);
    tokio::spawn(async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = hear(&turn, allocation, &socket) => {}
        }
    });
    Arc::new(relayed)
}

/// Relays for ever. The buffer is on the stack, and only while there is something to read.
async fn hear(turn: &Turn, allocation: (Client, u64), socket: &UdpSocket) {
    loop {
        if let Err(error) = socket.readable().await {
            tracing::debug!(%error, "a relayed socket cannot be read");
            return;
        }
        drain(turn, allocation, socket);
        tokio::task::yield_now().await;
    }
}

fn drain(turn: &Turn, allocation: (Client, u64), socket: &UdpSocket) {
    let mut buffer = [0; BUFFER];
    for _ in 0..BATCH {
        match socket.try_recv_from(&mut buffer[HEADROOM..]) {
            Ok((length, _)) if length > MAX_DATA => turn.metrics.dropped(Dropped::TooLong),
            Ok((length, peer)) => turn.deliver(allocation, peer, &mut buffer, length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error for an earlier packet, mostly.
            Err(error) => tracing::debug!(%error, "receiving at a relayed address failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn relayed_ports_are_of_the_ephemeral_range_and_not_in_a_row() {
        let bound: Vec<_> = (0..8)
            .map(|_| bind([127, 0, 0, 1].into(), |_| true).unwrap())
            .collect();
        let ports: Vec<u16> = bound
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .collect();
        assert!(ports.iter().all(|port| *port >= FIRST_PORT), "{ports:?}");
        assert!(ports.windows(2).any(|two| two[0].abs_diff(two[1]) > 1));
        assert!(bind([127, 0, 0, 1].into(), |_| false).is_err());
    }
}
