//! How is one event connection held? Opened, proven to be ours, kept alive, read until it ends.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::{SinkExt, StreamExt};
use mesh_wire::{
    NetworkId,
    discovery::{ClientMessage, ServerMessage, hello},
    problem::Problem,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};

use super::{ServerError, rest::Rest};

/// Connecting and the challenge must be done in this time.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A snapshot of the greatest directory; single messages are far smaller.
const MAX_FRAME: usize = 8 * 1024 * 1024;

/// A live connection on which the server knows who we are.
#[derive(Debug)]
pub struct Events {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    heartbeat: Duration,
    next_heartbeat: Instant,
    heard: Instant,
}

impl Events {
    /// Opens the connection and answers the challenge.
    pub async fn open(
        rest: &Rest,
        network: &NetworkId,
        key: &SigningKey,
        heartbeat: Duration,
    ) -> Result<Self, ServerError> {
        match timeout(OPEN_TIMEOUT, Self::connect(rest, network, key, heartbeat)).await {
            Ok(opened) => opened,
            Err(_) => Err(ServerError::Unreachable(format!(
                "no answer within {} s",
                OPEN_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn connect(
        rest: &Rest,
        network: &NetworkId,
        key: &SigningKey,
        heartbeat: Duration,
    ) -> Result<Self, ServerError> {
        let mut request = rest
            .events_url(network)?
            .as_str()
            .into_client_request()
            .map_err(|error| ServerError::unreachable(&error))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", rest.token()))
            .map_err(|error| ServerError::unreachable(&error))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (socket, _response) = connect_async_with_config(request, Some(limits), true)
            .await
            .map_err(refusal)?;
        let now = Instant::now();
        let mut events = Self {
            socket,
            heartbeat,
            next_heartbeat: now + heartbeat,
            heard: now,
        };
        match events.next().await? {
            ServerMessage::Challenge { nonce } => events.send(&hello(key, network, &nonce)).await?,
            ServerMessage::Error { problem } => {
                return Err(ServerError::refused(problem));
            }
            ServerMessage::Snapshot { .. }
            | ServerMessage::PeerJoined { .. }
            | ServerMessage::PeerUpdated { .. }
            | ServerMessage::PeerLeft { .. }
            | ServerMessage::Signal { .. }
            | ServerMessage::Undeliverable { .. } => {
                return Err(ServerError::Unreachable(
                    "the server did not begin with a challenge".to_owned(),
                ));
            }
        }
        Ok(events)
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), ServerError> {
        let text =
            serde_json::to_string(message).map_err(|error| ServerError::unreachable(&error))?;
        self.socket
            .send(Message::text(text))
            .await
            .map_err(|error| ServerError::unreachable(&error))
    }

    /// Waits for the next message, sending heartbeats meanwhile. Three heartbeats without any sign of the server end
    /// the connection. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<ServerMessage, ServerError> {
        loop {
            let message = tokio::select! {
                message = self.socket.next() => message,
                () = tokio::time::sleep_until(self.next_heartbeat) => {
                    self.beat().await?;
                    continue;
                }
            };
            self.heard = Instant::now();
            match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(message) => return Ok(message),
                    // A newer server may have more to say than we understand.
                    Err(error) => {
                        tracing::debug!(%error, "skipped a message of the discovery server")
                    }
                },
                Some(Ok(Message::Close(_))) | None => {
                    return Err(ServerError::Unreachable(
                        "the server closed the connection".to_owned(),
                    ));
                }
                Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
                )) => {}
                Some(Err(error)) => return Err(ServerError::unreachable(&error)),
            }
        }
    }

    /// Says goodbye, so that the others see us leave at once.
    pub async fn close(mut self) {
        if let Err(error) = timeout(Duration::from_millis(500), self.socket.close(None)).await {
            tracing::debug!(%error, "the discovery server did not hear our goodbye");
        }
    }

    async fn beat(&mut self) -> Result<(), ServerError> {
        if self.heard.elapsed() > self.heartbeat * 3 {
            return Err(ServerError::Unreachable(
                "the server has gone silent".to_owned(),
            ));
        }
        self.next_heartbeat = Instant::now() + self.heartbeat;
        let ping = Message::Ping(Vec::new().into());
        self.socket
            .send(ping)
            .await
            .map_err(|error| ServerError::unreachable(&error))
    }
}

/// The server answers the upgrade like any request: a refusal has a problem document.
fn refusal(error: tungstenite::Error) -> ServerError {
    if let tungstenite::Error::Http(response) = &error
        && let Some(body) = response.body()
        && let Ok(mut problem) = serde_json::from_slice::<Problem>(body)
    {
        problem.status = response.status().as_u16();
        return ServerError::refused(problem);
    }
    ServerError::unreachable(&error)
}
