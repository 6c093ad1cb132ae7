//! Which requests are made of the discovery server? A conversation is one connection: requests one after the other,
//! and at its end, if wanted, the upgrade to the event connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderValue},
    upgrade::{self, Upgraded},
};
use hyper_util::rt::TokioIo;
use mesh_wire::{
    NetworkId,
    discovery::{CreateNetwork, Network, PAGE, RegisterPeer, Revoke},
    peer_info::{Directory, PeerInfo},
    problem::Problem,
    trust::Revocation,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use url::{Position, Url};

use super::{ServerError, dial::Dialer};

/// A request that takes longer than this is as good as lost.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The greatest answer that is read, in bytes: six times a page of a list.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Pages of a list: those of the largest network.
const MAX_PAGES: usize = 20;
/// A request without a body.
const NOTHING: Option<&()> = None;

/// A client for one server.
#[derive(Clone)]
pub struct Rest {
    dialer: Dialer,
    /// Proves that we may join; never logged, never part of a URL.
    token: String,
}

impl Rest {
    /// A client for `server` that shows the admission `token`.
    pub fn new(server: Url, token: String) -> Self {
        Self {
            dialer: Dialer::new(server),
            token,
        }
    }

    /// The server's URL.
    pub fn server(&self) -> &Url {
        self.dialer.server()
    }

    /// Connects.
    pub async fn converse(&self) -> Result<Conversation<'_>, ServerError> {
        Ok(Conversation {
            rest: self,
            sender: self.connect().await?,
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ServerError> {
        let stream = TokioIo::new(self.dialer.dial().await?);
        let (sender, connection) = http1::handshake(stream)
            .await
            .map_err(|error| ServerError::unreachable(&error))?;
        // Ends when the sender is dropped, or hands the stream on when it is upgraded. Errors reach the requests.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest")
            .field("server", &self.server().as_str())
            .finish_non_exhaustive()
    }
}

/// A connection to the server. Redirects are not followed: the join link named this server.
#[derive(Debug)]
pub struct Conversation<'a> {
    rest: &'a Rest,
    sender: SendRequest<Full<Bytes>>,
}

impl Conversation<'_> {
    /// `POST /api/v1/mesh/networks`
    pub async fn create(&mut self, network: &CreateNetwork) -> Result<Network, ServerError> {
        self.ask(Method::POST, "networks", Some(network)).await
    }

    /// `GET /api/v1/mesh/networks/{id}`
    pub async fn network(&mut self, id: &NetworkId) -> Result<Network, ServerError> {
        self.ask(Method::GET, &format!("networks/{id}"), NOTHING)
            .await
    }

    /// `POST /api/v1/mesh/networks/{id}/peers`
    pub async fn register(
        &mut self,
        id: &NetworkId,
        peer: &RegisterPeer,
    ) -> Result<PeerInfo, ServerError> {
        self.ask(Method::POST, &format!("networks/{id}/peers"), Some(peer))
            .await
    }

    /// `GET /api/v1/mesh/networks/{id}/peers`, page by page.
    pub async fn peers(&mut self, id: &NetworkId) -> Result<Directory, ServerError> {
        let path = format!("networks/{id}/peers");
        let mut all: Directory = self.ask(Method::GET, &path, NOTHING).await?;
        let mut is_last = all.peers.len() < PAGE;
        for _ in 1..MAX_PAGES {
            let Some(last) = all.peers.last().filter(|_| !is_last) else {
                break;
            };
            let path = format!("{path}?after={}", last.name);
            let page: Directory = self.ask(Method::GET, &path, NOTHING).await?;
            is_last = page.peers.len() < PAGE;
            all.peers.extend(page.peers);
        }
        Ok(all)
    }

    /// Takes a key out for good.
    pub async fn revoke(
        &mut self,
        id: &NetworkId,
        revocation: &Revocation,
    ) -> Result<(), ServerError> {
        let body = Revoke {
            revocation: revocation.to_text(),
        };
        let path = format!("networks/{id}/revocations");
        let request = self.request(Method::POST, &path, Some(&body))?;
        let response = self.send(request).await?;
        let status = response.status();
        let body = whole(response).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(refusal(status, &body)),
        }
    }

    /// `GET /api/v1/mesh/networks/{id}/events`, which turns the connection into a WebSocket (RFC 6455, 4.1).
    pub async fn events(mut self, id: &NetworkId) -> Result<TokioIo<Upgraded>, ServerError> {
        let key = generate_key();
        let mut request = self.request(Method::GET, &format!("networks/{id}/events"), NOTHING)?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        headers.insert(header::SEC_WEBSOCKET_KEY, header_value(&key)?);
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            return Err(refusal(status, &whole(response).await?));
        }
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
            return Err(ServerError::Unreachable(
                "did not accept the event connection as a WebSocket".to_owned(),
            ));
        }
        upgrade::on(response)
            .await
            .map(TokioIo::new)
            .map_err(|error| ServerError::unreachable(&error))
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ServerError> {
        let request = self.request(method, path, body)?;
        let response = self.send(request).await?;
        let status = response.status();
        let body = whole(response).await?;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|_| {
            ServerError::Unreachable(format!(
                "answered {status} with something else than expected"
            ))
        })
    }

    /// `path` is relative to `/api/v1/mesh/` of the server's URL.
    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Full<Bytes>>, ServerError> {
        let server = self.rest.server();
        let url = server
            .join(&format!("api/v1/mesh/{path}"))
            .map_err(|error| ServerError::unreachable(&error))?;
        let mut request = Request::builder()
            .method(method)
            .uri(url.path())
            .header(
                header::HOST,
                &url[Position::BeforeHost..Position::AfterPort],
            )
            .header(header::ACCEPT, "application/json");
        let mut bearer = header_value(&format!("Bearer {}", self.rest.token))?;
        bearer.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, bearer);
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| ServerError::unreachable(&error))?
            }
            None => Vec::new(),
        };
        request
            .body(Full::from(body))
            .map_err(|error| ServerError::unreachable(&error))
    }

    /// Sends a request and waits for the head of the answer.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ServerError> {
        let answer = async {
            // A server may close behind each answer (RFC 9112, 9.6).
            if self.sender.ready().await.is_err() {
                self.sender = self.rest.connect().await?;
            }
            let response = self.sender.send_request(request).await;
            response.map_err(|error| ServerError::unreachable(&error))
        };
        in_time(answer).await
    }
}

/// A hostile server must not fill our memory.
async fn whole(response: Response<Incoming>) -> Result<Vec<u8>, ServerError> {
    let mut body = response.into_body();
    let read = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ServerError::unreachable(&error))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if bytes.len() + data.len() > MAX_ANSWER {
                let why = "sent a longer answer than the protocol allows";
                return Err(ServerError::Unreachable(why.to_owned()));
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    };
    in_time(read).await
}

fn refusal(status: StatusCode, body: &[u8]) -> ServerError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(mut problem) => {
            problem.status = status.as_u16();
            ServerError::refused(problem)
        }
        Err(_) if status.is_redirection() => ServerError::Unreachable(format!(
            "answered {status}; a redirect is not followed, so give the address that it leads to"
        )),
        // A proxy in between, or no discovery server at all.
        Err(_) => ServerError::Unreachable(format!(
            "answered {status}, but not as a discovery server does"
        )),
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    timeout(TIMEOUT, answer).await.map_err(|_| {
        let seconds = TIMEOUT.as_secs();
        ServerError::Unreachable(format!("no answer within {seconds} s"))
    })?
}

fn header_value(text: &str) -> Result<HeaderValue, ServerError> {
    HeaderValue::from_str(text).map_err(|error| ServerError::unreachable(&error))
}

#[cfg(test)]
mod tests;
