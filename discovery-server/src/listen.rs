//! How are the sockets bound, and how are HTTP connections taken from one?

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    app::App,
    slots::{self, Full, Slot, Slots},
};

/// A client that has not sent a request's head by then is a slow attack or gone.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the kernel holds for a client that does not read. Linux doubles it. Enough for 5 Mbit/s over 200 ms.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// Who floods the server shall not flood its log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Waiting connections while the server is busy.
const BACKLOG: i32 = 1_024;

/// All addresses of this host, IPv6 and IPv4, at `port`.
pub const fn any_address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

/// Binds a TCP listener. `[::]` takes IPv4 too, and becomes `0.0.0.0` on a host without IPv6.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address, Type::STREAM, Protocol::TCP)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds a UDP socket, as [`bind_tcp`].
pub(crate) fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(bind(address, Type::DGRAM, Protocol::UDP)?.into())
}

fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    match bind_exactly(address, kind, protocol) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            let all_v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind_exactly(all_v4, kind, protocol)
        }
        result => result,
    }
}

fn bind_exactly(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // A restarted server takes its port again although old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    if kind == Type::DGRAM {
        // It only tunes: relayed packets of all members wait here while the program is busy for a moment.
        let _ = platform::udp::enlarge_buffers(&socket, platform::udp::BUFFER);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// How often another port is tried when any will do.
const ATTEMPTS: usize = 16;

/// Binds UDP and TCP at the same port, whichever is free if it is 0.
pub(crate) fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        let udp = bind_udp(address)?;
        let port = udp.local_addr()?.port();
        match bind_tcp(SocketAddr::new(address.ip(), port)) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error)
                if address.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && attempts.next().is_some() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Serves HTTP/1.1 until `shutdown`; then requests under way get `grace` to finish. The connections have `open_files`
/// for themselves and the rest of the program.
pub(crate) async fn serve_http(
    listener: TcpListener,
    (app, router): (&App, Router),
    grace: Duration,
    open_files: u64,
) {
    let shutdown = app.shutdown.clone();
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    let slots = Slots::new(slots::limit(open_files));
    let mut warned = None;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if is_due(&mut warned, Instant::now()) {
                    tracing::warn!(%error, "could not accept a connection");
                }
                // Out of file descriptors, mostly: without a pause this loop would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let slot = match slot_for(remote, &slots, app) {
            Ok(slot) => Arc::new(slot),
            Err(full) => {
                if is_due(&mut warned, Instant::now()) {
                    warn_full(remote, full);
                }
                continue;
            }
        };
        let connection = serve_connection(stream, (remote, slot), router.clone(), shutdown.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "an HTTP connection broke");
                },
                () = cut.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("cutting off requests that did not finish in time");
        cut.cancel();
        connections.wait().await;
    }
}

/// A place for a connection. For whom a trusted proxy needs it is known with each request.
fn slot_for(remote: SocketAddr, slots: &Arc<Slots>, app: &App) -> Result<Slot, Full> {
    match app.proxies.trust(remote.ip()) {
        true => slots.take_for_nobody(),
        false => slots.take(remote.ip()),
    }
}

fn warn_full(remote: SocketAddr, full: Full) {
    match full {
        Full::Server => tracing::warn!(%remote, "closing connections: there are too many"),
        Full::Source => tracing::warn!(
            %remote,
            "closing connections: there are too many from this address; if a reverse proxy has it, name it with --trusted-proxy"
        ),
    }
}

/// Whether a warning is due again; if so, it counts as given.
pub(crate) fn is_due(warned: &mut Option<Instant>, now: Instant) -> bool {
    let due = warned.is_none_or(|at| now.saturating_duration_since(at) >= WARNING_INTERVAL);
    if due {
        *warned = Some(now);
    }
    due
}

/// One connection, until its end; after `shutdown` until the answer to its present request. Its requests carry `slot`,
/// so that what they turn the connection into keeps it.
async fn serve_connection(
    stream: TcpStream,
    (remote, slot): (SocketAddr, Arc<Slot>),
    router: Router,
    shutdown: CancellationToken,
) -> hyper::Result<()> {
    let socket = SockRef::from(&stream);
    // Both only tune: without them the connection works, more slowly or with more memory.
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = socket.set_tcp_nodelay(true);
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(remote));
        request.extensions_mut().insert(Arc::clone(&slot));
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_any_address_takes_ipv4_too() {
        let listener = bind_tcp(any_address(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
    }

    #[test]
    fn a_warning_is_given_once_a_minute() {
        let (mut warned, start) = (None, Instant::now());
        assert!(is_due(&mut warned, start));
        assert!(!is_due(&mut warned, start + Duration::from_secs(59)));
        assert!(is_due(&mut warned, start + WARNING_INTERVAL));
        assert!(!is_due(&mut warned, start + WARNING_INTERVAL));
    }

    #[tokio::test]
    async fn a_port_in_use_stays_an_error_and_is_not_shared() {
        let first = bind_udp(any_address(0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = bind_udp(any_address(port));
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let listener = bind_tcp(any_address(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let second = bind_tcp(any_address(port));
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
