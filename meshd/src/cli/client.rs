//! How does a command talk to the daemon? Over the Unix socket in the state directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use mesh_wire::problem::Problem;
use platform::local_socket;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::output::printable_problem;
use crate::problem::{daemon_not_running, operation_failed, socket_path_too_long};

/// How long one request may take: longer than the daemon's own limit, so that the daemon can say why.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The greatest answer, in bytes: a status with ten thousand peers is about 5 MiB.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// The way to one daemon. Each request has its own connection.
pub(super) struct Client {
    state_dir: PathBuf,
    socket: PathBuf,
}

/// A request without a body.
pub(super) const NOTHING: Option<&()> = None;

impl Client {
    /// The daemon whose state directory this is, whether it runs or not.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            socket: state_dir.join("meshd.sock"),
        }
    }

    /// The state directory of that daemon.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Reads a resource.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.send(Method::GET, path, NOTHING).await
    }

    /// Sends a request; an empty answer is read as `null`, so `T` may be `()`.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Problem> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| broken(&error))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        timeout(REQUEST_TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| {
                broken(&format_args!(
                    "no answer within {} s",
                    REQUEST_TIMEOUT.as_secs()
                ))
            })?
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<T, Problem> {
        let stream = local_socket::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let answer = async {
            let response = sender.send_request(request).await;
            read(response.map_err(|error| broken(&error))?).await
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection only ends first when the daemon closes it behind a complete answer, or breaks it;
            // the answer knows which.
            _ = connection => answer.await,
        }
    }

    fn unreachable(&self, error: &io::Error) -> Problem {
        let kind = error.kind();
        if matches!(
            kind,
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) {
            daemon_not_running(&self.state_dir)
        } else if kind == io::ErrorKind::PermissionDenied {
            Problem::new(403, "not-allowed", "this user may not control the daemon")
                .detail(format!("{}: {error}", self.socket.display()))
                .fix("run the command as root, or as the user that the daemon runs as")
        } else if kind == io::ErrorKind::InvalidInput {
            socket_path_too_long(&self.socket)
        } else if kind == io::ErrorKind::Unsupported {
            operation_failed("reach the daemon from a command", error).fix(
                "ask its HTTP API: http://127.0.0.1:7082/api/v1/status, or where api.listen says",
            )
        } else {
            broken(error)
        }
    }
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Problem> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| broken(&error))?
        .to_bytes();
    if !status.is_success() {
        let refusal = serde_json::from_slice(&body).map_err(|error| broken(&error))?;
        return Err(printable_problem(refusal));
    }
    let body = if body.is_empty() { b"null" } else { &body[..] };
    serde_json::from_slice(body).map_err(|error| broken(&error))
}

fn broken(error: &dyn fmt::Display) -> Problem {
    printable_problem(
        Problem::new(
            502,
            "daemon-answer",
            "the daemon gave no answer that can be read",
        )
        .detail(error.to_string())
        .fix("try again; if it stays so, restart the daemon: command and daemon may be of different versions"),
    )
}
