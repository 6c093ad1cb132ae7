//! How is one event connection held? Opened, proven to be ours, kept alive, read until it ends.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use mesh_wire::{
    NetworkId,
    discovery::{ClientMessage, ServerMessage, hello},
};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{ServerError, rest::Conversation};

/// The challenge must come in this time behind the upgrade, which has its own.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A message of ours must have gone out in this time.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A snapshot of the greatest directory; single messages are far smaller.
const MAX_FRAME: usize = 8 * 1024 * 1024;

/// A live connection on which the server knows who we are.
#[derive(Debug)]
pub struct Events {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    heartbeat: Duration,
    next_heartbeat: Instant,
    heard: Instant,
}

impl Events {
    /// Makes the event connection of `conversation` and answers the challenge.
    pub async fn open(
        conversation: Conversation<'_>,
        network: &NetworkId,
        key: &SigningKey,
        heartbeat: Duration,
    ) -> Result<Self, ServerError> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let stream = conversation.events(network).await?;
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await;
        let now = Instant::now();
        let mut events = Self {
            socket,
            heartbeat,
            next_heartbeat: now + heartbeat,
            heard: now,
        };
        let challenge = timeout(CHALLENGE_TIMEOUT, events.next());
        let no_challenge = |_| {
            let seconds = CHALLENGE_TIMEOUT.as_secs();
            ServerError::Unreachable(format!("no answer within {seconds} s"))
        };
        match challenge.await.map_err(no_challenge)?? {
            ServerMessage::Challenge { nonce } => events.send(&hello(key, network, &nonce)).await?,
            ServerMessage::Error { problem } => {
                return Err(ServerError::refused(problem));
            }
            ServerMessage::Snapshot { .. }
            | ServerMessage::PeerJoined { .. }
            | ServerMessage::PeerUpdated { .. }
            | ServerMessage::PeerLeft { .. }
            | ServerMessage::Revoked { .. }
            | ServerMessage::Signal { .. }
            | ServerMessage::Turn(_)
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
        // A server that answers pings and reads nothing must not hold up everything else.
        timeout(SEND_TIMEOUT, self.socket.send(Message::text(text)))
            .await
            .map_err(|_| ServerError::Unreachable("does not read what is sent to it".to_owned()))?
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
