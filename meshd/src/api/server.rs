//! How do connections to the local API begin and end, and how much may one caller take?

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Extension, Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use platform::local_socket;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Api, ApiContext, access::Caller, error::ApiError, events, router};
use crate::problem::{Listener, Problem, operation_failed, port_in_use, socket_path_too_long};

/// Connections per listener. TCP has its own count, so that no local program can lock the command line out.
const MAX_CONNECTIONS: usize = 64;
/// How long a caller may take to send a request head, on a connection that waits for one included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request may take in all: a ping takes 5 s at most, everything else milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long answers in progress may take when the daemon stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a request head; browsers send less than 2 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// Where the API listens. Dropping it removes the Unix socket's file.
#[derive(Debug)]
pub struct ApiListeners {
    /// `None` on a system without Unix sockets.
    unix: Option<local_socket::Listener>,
    tcp: TcpListener,
}

impl ApiListeners {
    /// Binds both: `socket` is a path, at most about 100 bytes long; `tcp` must be on loopback (port 0: any).
    /// The caller holds the lock of the state directory. A system without Unix sockets gets TCP alone.
    pub async fn bind(socket: &Path, tcp: SocketAddr) -> Result<Self, Problem> {
        check_address(tcp)?;
        let unix = if_supported(local_socket::Listener::bind(socket), socket)?;
        let tcp = TcpListener::bind(tcp).await.map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                port_in_use(Listener::Api, tcp)
            } else {
                operation_failed(format!("listen on {tcp}"), &error)
            }
        })?;
        Ok(Self { unix, tcp })
    }

    /// The TCP address, after "any port" has become one.
    pub fn tcp_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Leaves out the socket where the system has no such thing.
fn if_supported<T>(bound: io::Result<T>, path: &Path) -> Result<Option<T>, Problem> {
    match bound {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(%error, "the local API answers over TCP alone: meshd's own commands cannot reach this daemon");
            Ok(None)
        }
        // What the standard library says of a path that does not fit into an address.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(socket_path_too_long(path))
        }
        Err(error) => {
            let what = format!("listen on {}", path.display());
            Err(operation_failed(what, &error))
        }
    }
}

/// Whether the API may listen on `address`: only programs of this machine may reach it.
pub fn check_address(address: SocketAddr) -> Result<(), Problem> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(Problem::new(
        0,
        "api-not-loopback",
        format!("the local API cannot listen on {address}"),
    )
    .detail("others could reach it there, and remote control is not built yet")
    .fix("use an address of this machine alone, such as 127.0.0.1:7082"))
}

/// Serves until `shutdown`, then lets answers in progress end (1 s at most) and closes the listeners.
pub async fn serve(
    context: ApiContext,
    listeners: ApiListeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let ApiListeners { unix, tcp } = listeners;
    let local = tcp.local_addr().context("local API: read TCP address")?;
    let connections = Connections {
        router: router(Api {
            context,
            shutdown: shutdown.clone(),
            listeners: Arc::new(Semaphore::new(events::MAX_LISTENERS)),
        }),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    };
    let from_unix = async {
        let Some(unix) = &unix else {
            return std::future::pending().await;
        };
        let owner = unix.owner();
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = permit(&limit).await;
            let accepted = unix.accept().await;
            let accepted = accepted.map(|(stream, uid)| (stream, Caller::Socket { uid, owner }));
            connections.start(accepted, permit).await;
        }
    };
    let from_tcp = async {
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = permit(&limit).await;
            let accepted = tcp.accept().await;
            let accepted = accepted.map(|(stream, peer)| (stream, Caller::Tcp { peer, local }));
            connections.start(accepted, permit).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = from_unix => {}
        () = from_tcp => {}
    }
    connections.tasks.close();
    // Each connection bounds its own end, so this ends too.
    connections.tasks.wait().await;
    Ok(())
}

/// Every request has [`REQUEST_TIMEOUT`] to be read and answered.
pub(super) async fn limit_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "request-timeout",
            "the request took too long",
        )
        .why(format!("the limit is {} s", REQUEST_TIMEOUT.as_secs()))
        .fix("try again; if it stays so, look at the daemon's log")
        .into_response(),
    }
}

/// Nothing of an answer may be kept, guessed at, framed or run by a browser.
pub(super) async fn add_headers(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

struct Connections {
    router: Router,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Connections {
    async fn start<S>(&self, accepted: io::Result<(S, Caller)>, permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match accepted {
            Ok((stream, caller)) => {
                let router = self.router.clone().layer(Extension(caller));
                let shutdown = self.shutdown.clone();
                self.tasks.spawn(async move {
                    serve_connection(stream, router, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: they come back, and a tight loop would not help.
                tracing::warn!(%error, "local API cannot accept a connection");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve_connection<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(DRAIN_TIMEOUT, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "local API connection ended early");
    }
}

async fn permit(limit: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(limit)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_system_without_unix_sockets_goes_without_one() {
        let path = Path::new("/tmp/x");
        let bound = |kind: io::ErrorKind| if_supported::<()>(Err(kind.into()), path);
        assert_eq!(if_supported(Ok(1), path).unwrap(), Some(1));
        assert_eq!(bound(io::ErrorKind::Unsupported).unwrap(), None);
        let problem = bound(io::ErrorKind::InvalidInput).unwrap_err();
        assert!(problem.fix.contains("--state-dir"), "{problem}");
        let problem = bound(io::ErrorKind::PermissionDenied).unwrap_err();
        assert_eq!(problem.code, "operation-failed");
    }
}
