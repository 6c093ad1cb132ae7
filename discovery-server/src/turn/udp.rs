//! What happens to a datagram that arrives at the server's UDP port?

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::net::UdpSocket;

use super::{Client, Kind, MAX_FRAME, Transport, message::kind, outlet::Outlet, service::Taken};
use crate::{
    app::App,
    stun::{self, Answer},
};

/// Answers and relays datagrams for ever. An answer may leave from `other`.
pub(crate) async fn serve(socket: &Arc<UdpSocket>, other: Option<&UdpSocket>, app: &App) {
    // One byte more than the longest message, so that longer ones are noticed as such.
    let mut buffer = vec![0_u8; MAX_FRAME + 1];
    loop {
        let (datagram, source) = receive(socket, &mut buffer).await;
        if !relay(datagram, source, socket, app) {
            answer(datagram, source, (socket, other), app).await;
        }
    }
}

/// Answers STUN alone, on the other port.
pub(crate) async fn serve_other(other: &UdpSocket, socket: &UdpSocket, app: &App) {
    let mut buffer = vec![0_u8; stun::MAX_REQUEST + 1];
    loop {
        let (datagram, source) = receive(other, &mut buffer).await;
        answer(datagram, source, (other, Some(socket)), app).await;
    }
}

/// The next datagram.
async fn receive<'a>(socket: &UdpSocket, buffer: &'a mut [u8]) -> (&'a [u8], SocketAddr) {
    let (length, source) = loop {
        match socket.recv_from(buffer).await {
            Ok(received) => break received,
            Err(error) => {
                // An ICMP error for an earlier answer, mostly; it must not end the service.
                tracing::debug!(%error, "STUN receive failed");
                tokio::task::yield_now().await;
            }
        }
    };
    (&buffer[..length], source)
}

/// Hands TURN's datagrams to the relay; `false` for the others.
fn relay(datagram: &[u8], source: SocketAddr, socket: &Arc<UdpSocket>, app: &App) -> bool {
    let Some(turn) = &app.turn else {
        return false;
    };
    match kind(datagram) {
        Kind::Other => return false,
        Kind::Channel | Kind::Turn => {}
    }
    let client = Client {
        transport: Transport::Udp,
        address: source,
    };
    let outlet = Outlet::Udp(Arc::clone(socket), source);
    match turn.receive(datagram, client, &outlet) {
        Taken::Yes | Taken::Stuck => {}
        Taken::Garbage => {
            app.metrics.stun_garbage.fetch_add(1, Relaxed);
        }
    }
    true
}

async fn answer(
    datagram: &[u8],
    source: SocketAddr,
    (socket, other): (&UdpSocket, Option<&UdpSocket>),
    app: &App,
) {
    let port = other.and_then(|other| other.local_addr().ok());
    let (reply, from) = match stun::answer_beside(datagram, source, port.map(|at| at.port())) {
        Answer::Reply(reply) => (reply, socket),
        Answer::ReplyFromOther(reply) => (reply, other.unwrap_or(socket)),
        Answer::Garbage => {
            app.metrics.stun_garbage.fetch_add(1, Relaxed);
            return;
        }
        Answer::Silent => return,
    };
    app.metrics.stun_requests.fetch_add(1, Relaxed);
    if let Err(error) = from.send_to(&reply, source).await {
        tracing::debug!(%error, "STUN send failed");
    }
}
