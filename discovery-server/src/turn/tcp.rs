//! How does a client live that reaches STUN and TURN over TCP? (RFC 8489 section 6.2.2)

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use mesh_wire::turn_stream::{self, Framed};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::{sleep, timeout, timeout_at},
};

use super::{
    Client, MAX_FRAME, Transport,
    outlet::{Outbox, Outlet},
    served::Served,
};
use crate::{
    app::App,
    listen::{SEND_BUFFER, is_due},
    slots::{Slot, Slots},
};

/// A connection without an allocation is closed after this time without a whole message.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// What a client must take of what waits for it, before it counts as gone.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for the longest message and the beginning of the next.
const BUFFER: usize = MAX_FRAME + 4_096;

/// Takes up to `limit` connections at once, until the server ends.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, limit: usize) {
    let slots = Slots::new(limit);
    let mut warned = None;
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if is_due(&mut warned, Instant::now()) {
                    tracing::warn!(%error, "could not accept a STUN connection");
                }
                // Out of file descriptors, mostly: without a pause this loop would spin.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match slots.take(remote.ip()) {
            Ok(slot) => {
                let app = Arc::clone(&app);
                let tasks = app.tasks.clone();
                tasks.spawn(async move { connection(stream, remote, slot, &app).await });
            }
            Err(full) => {
                if is_due(&mut warned, Instant::now()) {
                    tracing::warn!(%remote, ?full, "closing STUN connections: there are too many");
                }
            }
        }
    }
}

async fn connection(mut stream: TcpStream, remote: SocketAddr, slot: Slot, app: &App) {
    let socket = SockRef::from(&stream);
    // Both only tune: without them the connection works, with more delay.
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = socket.set_tcp_nodelay(true);
    let outbox = Arc::new(Outbox::default());
    let client = Served {
        client: Client {
            transport: Transport::Tcp,
            address: remote,
        },
        outlet: Outlet::Stream(Arc::clone(&outbox)),
        app,
        slot: Arc::new(slot),
        proven: AtomicBool::new(false),
    };
    let (reader, writer) = stream.split();
    tokio::select! {
        () = read(&client, reader) => {}
        () = write(writer, &outbox) => {}
        () = app.shutdown.cancelled() => {}
    }
}

/// Takes messages until the client is done, idle or not understood.
async fn read(client: &Served<'_>, mut reader: ReadHalf<'_>) {
    let mut buffer = vec![0; BUFFER];
    let (mut filled, mut deadline) = (0, tokio::time::Instant::now() + IDLE);
    loop {
        match timeout_at(deadline, reader.read(&mut buffer[filled..])).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(count)) => filled += count,
            // A client with an allocation may be silent for as long as that lives.
            Err(_) if client.is_relayed() => {}
            Err(_) => return,
        }
        let mut at = 0;
        loop {
            match turn_stream::next(&buffer[at..filled], MAX_FRAME) {
                Framed::Message { length, total } => {
                    if !client.take(&buffer[at..at + length]) {
                        return;
                    }
                    at += total;
                    deadline = tokio::time::Instant::now() + IDLE;
                }
                Framed::Incomplete => break,
                Framed::Garbage => {
                    client.app.metrics.stun_garbage.fetch_add(1, Relaxed);
                    return;
                }
            }
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if deadline <= tokio::time::Instant::now() {
            deadline = tokio::time::Instant::now() + IDLE;
        }
    }
}

/// Writes what waits for the client until it does not take it.
async fn write(mut writer: WriteHalf<'_>, outbox: &Outbox) {
    let mut pending = Vec::new();
    loop {
        outbox.take(&mut pending).await;
        match timeout(WRITE_TIMEOUT, writer.write_all(&pending)).await {
            Ok(Ok(())) => pending.clear(),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
