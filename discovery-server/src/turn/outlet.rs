//! How do bytes reach a client, without waiting for it?

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use platform::udp::trains::Departing;
use socket2::SockRef;
use tokio::{net::UdpSocket, sync::Notify};

use crate::metrics::turn::Dropped;

/// Relayed data that waits for one client with a connection: a fifth of a second at 5 Mbit/s. More would only be late.
const MAX_DATA_WAITING: usize = 128 * 1024;

/// With the answers that wait behind it. A client that does not even take those is gone.
const MAX_WAITING: usize = MAX_DATA_WAITING + 16 * 1024;

/// The way to one client.
#[derive(Debug, Clone)]
pub(crate) enum Outlet {
    /// The server's socket, and where the client is.
    Udp(Arc<UdpSocket>, SocketAddr),
    /// A connection.
    Stream(Arc<Outbox>),
}

impl Outlet {
    /// Sends relayed data, or says why not.
    pub(super) fn send_data(&self, bytes: &[u8]) -> Result<(), Dropped> {
        match self {
            Self::Udp(socket, to) => send(socket, bytes, *to),
            Self::Stream(outbox) if outbox.push(bytes, MAX_DATA_WAITING) => Ok(()),
            Self::Stream(_) => Err(Dropped::Congested),
        }
    }

    /// Sends an answer; `false` if the client cannot be served any more. A UDP client asks again for what is lost.
    pub(crate) fn answer(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Udp(socket, to) => {
                if let Err(reason) = send(socket, bytes, *to) {
                    tracing::debug!(?reason, "an answer was not sent");
                }
                true
            }
            Self::Stream(outbox) => outbox.push(bytes, MAX_WAITING),
        }
    }

    /// Whether ChannelData must be padded.
    pub(super) fn pads(&self) -> bool {
        match self {
            Self::Udp(..) => false,
            Self::Stream(_) => true,
        }
    }
}

/// Sends a datagram at once or not at all. Past the runtime, which would call a fresh socket not ready.
pub(super) fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> Result<(), Dropped> {
    let sent = SockRef::from(socket).send_to(bytes, &to.into());
    sent.map(|_| ()).map_err(|error| reason(&error))
}

/// Sends datagrams, each a header and data, likewise, by as few system calls as it takes. `lost` is told of each that is not sent.
pub(super) fn send_all<'a>(
    socket: &UdpSocket,
    to: SocketAddr,
    datagrams: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    mut lost: impl FnMut(Dropped),
) {
    let mut departing = Departing::new();
    for (header, data) in datagrams {
        if !departing.push(header, data) {
            departing.send(socket, to, |error| lost(reason(error)));
            // An empty one takes any.
            let _taken = departing.push(header, data);
        }
    }
    departing.send(socket, to, |error| lost(reason(error)));
}

fn reason(error: &io::Error) -> Dropped {
    if error.kind() == io::ErrorKind::WouldBlock {
        Dropped::Congested
    } else {
        Dropped::Unsendable
    }
}

/// What waits to be written to one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Vec<u8>>,
    wake: Notify,
}

impl Outbox {
    fn push(&self, bytes: &[u8], limit: usize) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() + bytes.len() > limit {
            return false;
        }
        waiting.extend_from_slice(bytes);
        self.wake.notify_one();
        true
    }

    /// Swaps what waits, once there is something, for the empty `taken`, whose memory is used again.
    pub(super) async fn take(&self, taken: &mut Vec<u8>) {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.is_empty() {
                    std::mem::swap(&mut *waiting, taken);
                    return;
                }
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_client_is_bounded_and_answers_have_room_behind_data() {
        let outbox = Arc::new(Outbox::default());
        let outlet = Outlet::Stream(Arc::clone(&outbox));
        let mut sent = 0;
        while outlet.send_data(&[1; 1_000]).is_ok() {
            sent += 1_000;
        }
        assert!(sent <= MAX_DATA_WAITING && sent > MAX_DATA_WAITING - 1_000);
        assert!(outlet.answer(&[2; 100]));
        sent += 100;
        while outlet.answer(&[2; 100]) {
            sent += 100;
        }
        assert!(sent <= MAX_WAITING);
        let mut taken = Vec::new();
        outbox.take(&mut taken).await;
        assert_eq!(taken.len(), sent);
        assert!(outlet.send_data(&[1; 1_000]).is_ok());
    }
}
