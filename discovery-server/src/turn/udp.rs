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

/// Answers and relays datagrams for ever.
pub(crate) async fn serve(socket: &Arc<UdpSocket>, app: &App) {
    // One byte more than the longest message, so that longer ones are noticed as such.
    let mut buffer = vec![0_u8; MAX_FRAME + 1];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error for an earlier answer, mostly; it must not end the service.
                tracing::debug!(%error, "STUN receive failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        if !relay(&buffer[..length], source, socket, app) {
            answer(&buffer[..length], source, socket, app).await;
        }
    }
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

async fn answer(datagram: &[u8], source: SocketAddr, socket: &UdpSocket, app: &App) {
    match stun::answer(datagram, source) {
        Answer::Reply(reply) => {
            app.metrics.stun_requests.fetch_add(1, Relaxed);
            if let Err(error) = socket.send_to(&reply, source).await {
                tracing::debug!(%error, "STUN send failed");
            }
        }
        Answer::Garbage => {
            app.metrics.stun_garbage.fetch_add(1, Relaxed);
        }
        Answer::Silent => {}
    }
}
