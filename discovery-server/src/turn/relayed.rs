//! Where are relayed addresses, and how do peers' packets come from there?

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use platform::udp::{enlarge_buffers, trains};
use socket2::SockRef;
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

/// After so many packets from one socket others have their turn. A train that came together is taken whole.
const BATCH: usize = 32;

/// What waits at a relayed address while the program is busy: a third of what one member may have relayed at once, and
/// sixteen trains. All of them together are bounded by the system.
const WAITING: usize = 1 << 20;

/// Room for a packet, the header before it, and padding.
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

    /// Sends packets to a peer; `lost` is told of each that is not sent.
    pub(super) fn send_all<'a>(
        &self,
        packets: impl Iterator<Item = &'a [u8]>,
        peer: SocketAddr,
        lost: impl FnMut(Dropped),
    ) {
        let datagrams = packets.map(|packet| (&[][..], packet));
        outlet::send_all(&self.socket, peer, datagrams, lost);
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
                // It only tunes.
                let _ = enlarge_buffers(&SockRef::from(&socket), WAITING);
                let socket = UdpSocket::from_std(socket)?;
                trains::join_arrivals(&socket);
                return Ok(socket);
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

/// Relays for ever.
async fn hear(turn: &Turn, allocation: (Client, u64), socket: &UdpSocket) {
    loop {
        if let Err(error) = socket.readable().await {
            tracing::debug!(%error, "a relayed socket cannot be read");
            return;
        }
        ARRIVED.with_borrow_mut(|buffer| {
            buffer.resize(trains::TRAIN, 0);
            drain(turn, allocation, socket, buffer);
        });
        tokio::task::yield_now().await;
    }
}

thread_local! {
    /// What arrived at the socket that this thread reads: one for all sockets, since each train is sent on at once.
    static ARRIVED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn drain(turn: &Turn, allocation: (Client, u64), socket: &UdpSocket, buffer: &mut [u8]) {
    let mut taken = 0;
    while taken < BATCH {
        match trains::try_recv_train(socket, buffer) {
            Ok(arrived) => {
                let packets: Vec<&[u8]> = arrived.datagrams(buffer).collect();
                taken += packets.len();
                turn.deliver(allocation, arrived.from, &packets);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error for an earlier packet, mostly.
            Err(error) => {
                tracing::debug!(%error, "receiving at a relayed address failed");
                taken += 1;
            }
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
