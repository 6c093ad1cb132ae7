//! By tokio, where descriptors of sockets and of the interface cannot be polled together.

use super::{Additional, Ready};
use crate::{tun::Tun, udp::UdpSocket};
use std::{future::pending, io, sync::Arc, time::Duration};
use tokio::{
    net::UdpSocket as TokioSocket,
    runtime::{Builder, Runtime},
    sync::Notify,
    time::timeout as within,
};

/// Whether more sockets than the first two can be waited for.
pub const ADDITIONAL_SOCKETS: bool = false;

/// The waiting side.
#[derive(Debug)]
pub struct Watch {
    runtime: Runtime,
    bell: Bell,
    /// The sockets that were given first, as tokio sees them.
    sockets: Option<[Option<TokioSocket>; 2]>,
}

/// The ringing side, one for as many threads as want it.
#[derive(Debug, Clone)]
pub struct Bell(Arc<Notify>);

impl Watch {
    /// A watch and its bell.
    pub fn new() -> io::Result<(Self, Bell)> {
        let bell = Bell(Arc::new(Notify::new()));
        let watch = Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            bell: bell.clone(),
            sockets: None,
        };
        Ok((watch, bell))
    }

    /// Its bell.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Waits until something is ready, for `timeout` at most; `None` waits for ever. The first two sockets
    /// are the same each time; more are not waited for.
    pub fn wait(
        &mut self,
        tun: &Tun,
        (sockets, _): ([Option<&UdpSocket>; 2], &[UdpSocket]),
        timeout: Option<Duration>,
    ) -> io::Result<Ready> {
        let _context = self.runtime.enter();
        let sockets = match self.sockets.take() {
            Some(known) => known,
            None => {
                let [first, second] = sockets.map(|socket| socket.map(register).transpose());
                [first?, second?]
            }
        };
        let sockets = self.sockets.insert(sockets);
        let event = first_ready(&self.bell.0, tun, sockets);
        self.runtime.block_on(async {
            match timeout {
                Some(limit) => within(limit, event).await.unwrap_or(Ok(Ready::default())),
                None => event.await,
            }
        })
    }

    /// Nothing.
    pub fn additional(&self) -> &[Additional] {
        &[]
    }

    /// Waits until `socket` may take a datagram, for `timeout` at most; returns whether it may.
    pub fn wait_writable(&self, socket: &UdpSocket, timeout: Duration) -> io::Result<bool> {
        let _context = self.runtime.enter();
        let socket = register(socket)?;
        self.runtime
            .block_on(async { within(timeout, socket.writable()).await })
            .map_or(Ok(false), |writable| writable.map(|()| true))
    }
}

impl Bell {
    /// Ends the wait under way, or the next one.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

async fn first_ready(
    bell: &Notify,
    tun: &Tun,
    sockets: &[Option<TokioSocket>; 2],
) -> io::Result<Ready> {
    let mut ready = Ready::default();
    tokio::select! {
        () = bell.notified() => ready.bell = true,
        readable = tun.readable() => {
            readable?;
            ready.tun = true;
        }
        () = readable(sockets[0].as_ref()) => ready.sockets[0] = true,
        () = readable(sockets[1].as_ref()) => ready.sockets[1] = true,
    }
    Ok(ready)
}

/// Returns when the socket has a datagram or an error. A look at it forgets readiness that is over.
async fn readable(socket: Option<&TokioSocket>) {
    let Some(socket) = socket else {
        return pending().await;
    };
    while socket.readable().await.is_ok() {
        match socket.try_peek_from(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn register(socket: &UdpSocket) -> io::Result<TokioSocket> {
    TokioSocket::from_std(socket.std().try_clone()?)
}
