//! How does a client live that reaches TURN in a WebSocket? Where nothing but HTTP passes, its messages travel as on TCP,
//! cut between them into binary messages (RFC 6455).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::ws::{Message, WebSocket},
};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use mesh_wire::turn_stream::{self, Framed};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::{
    Client, MAX_FRAME, Transport,
    outlet::{Outbox, Outlet},
    served::Served,
    tcp::{IDLE, WRITE_TIMEOUT},
};
use crate::{app::App, slots::Slot};

/// A proxy in between holds a silent connection for a minute, mostly.
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Numbers the WebSockets of this program.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Serves a client from `remote` until it is done.
pub(crate) async fn serve(socket: WebSocket, remote: SocketAddr, slot: Arc<Slot>, app: &App) {
    let outbox = Arc::new(Outbox::default());
    let client = Served {
        client: Client {
            transport: Transport::WebSocket(NUMBERS.fetch_add(1, Relaxed)),
            address: remote,
        },
        outlet: Outlet::Stream(Arc::clone(&outbox)),
        app,
        slot,
        proven: AtomicBool::new(false),
    };
    let (writer, reader) = socket.split();
    tokio::select! {
        () = read(&client, reader) => {}
        () = write(writer, &outbox) => {}
        () = app.shutdown.cancelled() => {}
    }
}

/// Takes messages until the client is done, not understood, or without an allocation for too long, whatever else it says.
async fn read(client: &Served<'_>, mut reader: SplitStream<WebSocket>) {
    let mut deadline = Instant::now() + IDLE;
    loop {
        let received = timeout_at(deadline, reader.next()).await;
        if deadline <= Instant::now() {
            if !client.is_relayed() {
                return;
            }
            deadline = Instant::now() + IDLE;
        }
        match received {
            Ok(Some(Ok(Message::Binary(piece)))) if take_all(client, &piece) => {}
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) | Err(_) => {}
            Ok(
                Some(Ok(Message::Binary(_) | Message::Text(_) | Message::Close(_)) | Err(_)) | None,
            ) => {
                return;
            }
        }
    }
}

/// Takes the messages of a piece, which are whole; whether the connection goes on.
fn take_all(client: &Served<'_>, piece: &[u8]) -> bool {
    let mut rest = piece;
    while !rest.is_empty() {
        match turn_stream::next(rest, MAX_FRAME) {
            Framed::Message { length, total } => {
                if !client.take(&rest[..length]) {
                    return false;
                }
                rest = &rest[total..];
            }
            Framed::Incomplete | Framed::Garbage => {
                client.app.metrics.stun_garbage.fetch_add(1, Relaxed);
                return false;
            }
        }
    }
    true
}

/// Writes what waits for the client until it does not take it.
async fn write(mut writer: SplitSink<WebSocket, Message>, outbox: &Outbox) {
    let mut pending = Vec::new();
    let mut ping = interval(PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_ping = tokio::select! {
            () = outbox.take(&mut pending) => false,
            _ = ping.tick() => true,
        };
        let written = timeout(WRITE_TIMEOUT, async {
            if is_ping {
                return writer.send(Message::Ping(Bytes::new())).await;
            }
            for piece in turn_stream::pieces(&pending) {
                writer
                    .feed(Message::Binary(Bytes::copy_from_slice(piece)))
                    .await?;
            }
            writer.flush().await
        });
        match written.await {
            Ok(Ok(())) => pending.clear(),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
