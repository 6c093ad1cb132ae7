//! What happens to a datagram that arrives at the server's UDP port?

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use platform::udp::trains;
use tokio::net::UdpSocket;

use super::{Client, Kind, MAX_FRAME, Transport, message::kind, outlet::Outlet, service::Taken};
use crate::{
    app::App,
    stun::{self, Answer},
};

/// Answers and relays datagrams for ever. An answer may leave from `other`.
pub(crate) async fn serve(socket: &Arc<UdpSocket>, other: Option<&UdpSocket>, app: &App) {
    trains::join_arrivals(socket);
    let mut buffer = vec![0_u8; trains::TRAIN];
    loop {
        let arrived = match trains::recv_train(socket, &mut buffer).await {
            Ok(arrived) => arrived,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        // One byte more than the longest message, so that longer ones are noticed as such.
        let datagrams = arrived.datagrams(&buffer);
        let datagrams = datagrams.map(|datagram| &datagram[..datagram.len().min(MAX_FRAME + 1)]);
        let datagrams: Vec<&[u8]> = datagrams.collect();
        for run in datagrams.chunk_by(|one, next| is_data(one) && is_data(next)) {
            if !relay(run, arrived.from, socket, app) {
                for datagram in run {
                    answer(datagram, arrived.from, (socket, other), app).await;
                }
            }
        }
    }
}

fn is_data(datagram: &[u8]) -> bool {
    match kind(datagram) {
        Kind::Channel => true,
        Kind::Turn | Kind::Other => false,
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
            Err(error) => pause(&error).await,
        }
    };
    (&buffer[..length], source)
}

/// After an ICMP error for an earlier answer, mostly; it must not end the service.
async fn pause(error: &io::Error) {
    tracing::debug!(%error, "STUN receive failed");
    tokio::task::yield_now().await;
}

/// Hands TURN's datagrams, one or several of ChannelData, to the relay; `false` for the others.
fn relay(run: &[&[u8]], source: SocketAddr, socket: &Arc<UdpSocket>, app: &App) -> bool {
    let Some((turn, first)) = app.turn.as_ref().zip(run.first()) else {
        return false;
    };
    let client = Client {
        transport: Transport::Udp,
        address: source,
    };
    let garbage = match kind(first) {
        Kind::Other => return false,
        Kind::Channel => turn.receive_channel_data(run, client),
        Kind::Turn => {
            let outlet = Outlet::Udp(Arc::clone(socket), source);
            match turn.receive(first, client, &outlet) {
                Taken::Yes | Taken::Stuck => 0,
                Taken::Garbage => 1,
            }
        }
    };
    app.metrics.stun_garbage.fetch_add(garbage, Relaxed);
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
