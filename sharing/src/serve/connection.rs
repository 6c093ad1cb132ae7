//! One connection: HTTP/1.1 within limits, from accept to close.

use std::error::Error;

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    body::Body,
    client::Client,
    limits::{HEADER_BYTES, HEADERS, IDLE_TIME},
    phase::Phase,
    router::{self, Dismissed},
    site::Site,
    timed::Timed,
};

/// Serves one connection until the client is done, breaks a limit, or `shutdown` is cancelled; then the response under
/// way is still finished.
pub(crate) async fn serve(
    stream: TcpStream,
    site: Site,
    client: Client,
    shutdown: CancellationToken,
) {
    let phase = Phase::default();
    let io = TokioIo::new(Timed::new(stream, phase.clone()));
    let service = service_fn(move |request: Request<Incoming>| {
        respond(site.clone(), client, phase.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The socket itself times an incomplete header block; this one also covers the time between two requests.
        .header_read_timeout(IDLE_TIME)
        .max_headers(HEADERS)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(HEADER_BYTES)
        // `nc` closes its sending side after the request and still wants the answer.
        .half_close(true)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Broken connections are everyday life; what the owner must know is reported where it happens.
    if let Err(error) = outcome {
        tracing::debug!(
            cause = error.source().map(tracing::field::display),
            "connection ended: {error}"
        );
    }
}

async fn respond(
    site: Site,
    client: Client,
    phase: Phase,
    request: Request<Incoming>,
) -> Result<Response<Body>, Dismissed> {
    let responding = phase.respond();
    let response = router::answer(&site, client, &request).await?;
    Ok(response.map(|body| body.with(responding)))
}
