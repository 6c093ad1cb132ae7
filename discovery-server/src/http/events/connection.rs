//! How does one event connection live, from its challenge to its end?

mod follow;

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message, WebSocket, close_code},
};
use data_encoding::BASE64;
use mesh_wire::{
    NetworkId, NodeId,
    discovery::{
        ClientMessage, MAX_SIGNAL, SIGNAL_REFILL, SIGNALS_AT_ONCE, ServerMessage, hello_bytes,
    },
    peer_info::Directory,
    problem::Problem,
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::end::{End, ended, failed, going_away, hello_expected};
use crate::{
    app::App,
    mailbox::{Attachment, ConnectionId, encode},
    rate::{Bucket, Rate},
    slots::Slot,
    store::Wanted,
};

/// Keeps NAT mappings alive, whose shortest usual lifetime for TCP is some minutes, and shows who is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Three pings without any answer: gone.
const MAX_SILENCE: Duration = Duration::from_secs(90);

/// One message must leave within this time. Behind it, the kernel holds some 128 kB more that did not leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Half of what the whole server gets to end.
const FAREWELL_AT_SHUTDOWN: Duration = Duration::from_secs(1);

/// A member that joins talks to a few dozen others at once, then now and then as candidates come up.
const SIGNAL_RATE: Rate = Rate {
    burst: SIGNALS_AT_ONCE,
    refill: SIGNAL_REFILL,
};

/// One event connection.
pub(super) struct Connection {
    app: Arc<App>,
    network: NetworkId,
    socket: WebSocket,
    /// Its place among all connections.
    slot: Arc<Slot>,
    id: ConnectionId,
    nonce: String,
    node: Option<NodeId>,
    signals: Bucket,
    follows: Bucket,
    heard: Instant,
}

impl Connection {
    /// A connection that nothing was sent on yet.
    pub(super) fn new(
        app: Arc<App>,
        network: NetworkId,
        socket: WebSocket,
        slot: Arc<Slot>,
        id: ConnectionId,
    ) -> Self {
        let now = Instant::now();
        Self {
            app,
            network,
            socket,
            slot,
            id,
            nonce: String::new(),
            node: None,
            signals: Bucket::new(now),
            follows: Bucket::new(now),
            heard: now,
        }
    }

    /// Serves it until it ends, for the reason returned. `list` is the network before the first event of
    /// `attachment`. `hello_within` is how long the client may go without a hello, if it needs one at all.
    pub(super) async fn run(
        &mut self,
        attachment: Attachment,
        (list, complete): (Directory, bool),
        hello_within: Option<Duration>,
    ) -> End {
        // What happens once, or now and then, is in memory of its own meanwhile: ten thousand connections that mostly wait shall
        // not each have room for all of it.
        let greeted = Box::pin(self.greet(list, complete)).await;
        match greeted {
            Ok(()) => self.serve(attachment, hello_within).await,
            Err(end) => end,
        }
    }

    /// Tells the client why its connection ends. A client that does not take it in time is cut off without it.
    pub(super) async fn farewell(mut self, end: End) {
        let End::Closed(code, problem) = end else {
            return;
        };
        tracing::debug!(network = %self.network, code, "closing an event connection");
        let shutdown = self.app.shutdown.clone();
        let cut_off_at_shutdown = async {
            shutdown.cancelled().await;
            sleep(FAREWELL_AT_SHUTDOWN).await;
        };
        tokio::select! {
            _ = timeout(SEND_TIMEOUT, self.close(code, problem)) => {}
            () = cut_off_at_shutdown => {}
        }
    }

    async fn close(&mut self, code: u16, problem: Option<Problem>) -> Result<(), axum::Error> {
        let reason = problem
            .as_ref()
            .map_or("", |problem| problem.code.as_str())
            .to_owned();
        if let Some(problem) = problem {
            let text = encode(&ServerMessage::Error { problem });
            self.socket.send(Message::Text(text)).await?;
        }
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        self.socket.send(Message::Close(Some(frame))).await?;
        // Up to the client's own close frame, so that the kernel does not reset what it has not read yet.
        while let Some(Ok(_)) = self.socket.recv().await {}
        Ok(())
    }

    /// Sends the challenge and the whole list.
    async fn greet(&mut self, list: Directory, complete: bool) -> Result<(), End> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(|error| {
            tracing::error!(%error, "no random numbers");
            End::Closed(close_code::ERROR, None)
        })?;
        self.nonce = BASE64.encode(&random);
        let nonce = self.nonce.clone();
        self.send(ServerMessage::Challenge { nonce }).await?;
        self.send(ServerMessage::Snapshot {
            revision: list.revision,
            complete,
            peers: list.peers,
            revocations: list.revocations,
        })
        .await
    }

    async fn serve(&mut self, mut attachment: Attachment, hello_within: Option<Duration>) -> End {
        let shutdown = self.app.shutdown.clone();
        let mut hello_missing = pin!(sleep(hello_within.unwrap_or_default()));
        let mut turn_due = pin!(sleep(Duration::ZERO));
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(going_away()),
                _ = attachment.ending.changed() => Err(ended(&attachment)),
                () = &mut hello_missing, if self.node.is_none() && hello_within.is_some() => {
                    Err(hello_expected())
                }
                Some(text) = attachment.queue.recv() => {
                    self.send_unless_ended(Message::Text(text), &mut attachment).await
                }
                () = &mut turn_due, if self.node.is_some() && self.app.turn.is_some() => {
                    let pause = self.app.turn.as_ref().map(|turn| turn.renewal());
                    turn_due.as_mut().reset(tokio::time::Instant::now() + pause.unwrap_or_default());
                    Box::pin(self.hand_out_turn(&mut attachment)).await
                }
                received = self.socket.recv() => self.receive(received).await,
                _ = ping.tick() => match is_silent(self.heard, Instant::now()) {
                    true => Err(End::Gone),
                    false => {
                        let ping = Message::Ping(Bytes::new());
                        self.send_unless_ended(ping, &mut attachment).await
                    }
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Sends, but not longer than the connection is wanted. A message that is given up here stays in the socket's
    /// buffer whole, so what follows it is not garbled.
    async fn send_unless_ended(
        &mut self,
        message: Message,
        attachment: &mut Attachment,
    ) -> Result<(), End> {
        let shutdown = self.app.shutdown.clone();
        tokio::select! {
            sent = timeout(SEND_TIMEOUT, self.socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(End::Gone),
            },
            _ = attachment.ending.changed() => Err(ended(attachment)),
            () = shutdown.cancelled() => Err(going_away()),
        }
    }

    /// Tells the member how it may use TURN.
    async fn hand_out_turn(&mut self, attachment: &mut Attachment) -> Result<(), End> {
        let Some((turn, node)) = self.app.turn.as_ref().zip(self.node) else {
            return Ok(());
        };
        let text = encode(&ServerMessage::Turn(turn.access(node)));
        // Asked after it was made: a member that is put out first loses its connection, then what it was handed. So it
        // is either seen here, or what was made is among the latter.
        let is_over = attachment.ending.borrow().is_some();
        if is_over {
            return Err(ended(attachment));
        }
        self.send_unless_ended(Message::Text(text), attachment)
            .await
    }

    async fn send(&mut self, message: ServerMessage) -> Result<(), End> {
        let text = Message::Text(encode(&message));
        match timeout(SEND_TIMEOUT, self.socket.send(text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    async fn receive(&mut self, received: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let message = match received {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                tracing::debug!(%error, "an event connection broke");
                return Err(End::Gone);
            }
            None => return Err(End::Gone),
        };
        self.heard = Instant::now();
        if let Some(node) = self.node {
            self.app.networks.touch(&self.network, node);
        }
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => Box::pin(self.obey(message)).await,
                Err(error) => {
                    let problem =
                        Problem::new(400, "malformed-message", "a message was not understood")
                            .detail(error.to_string());
                    Err(End::Closed(close_code::PROTOCOL, Some(problem)))
                }
            },
            Message::Binary(_) => {
                let problem = Problem::new(400, "malformed-message", "messages must be JSON text");
                Err(End::Closed(close_code::UNSUPPORTED, Some(problem)))
            }
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(End::Gone),
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Hello { node_id, signature } => self.hello(node_id, &signature).await,
            ClientMessage::Signal { to, payload } => self.signal(to, payload).await,
            ClientMessage::Follow {
                nodes,
                addresses,
                names,
            } => {
                let wanted = Wanted {
                    nodes: &nodes,
                    addresses: &addresses,
                    names: &names,
                };
                self.follow(wanted).await
            }
        }
    }

    async fn hello(&mut self, node: NodeId, signature: &str) -> Result<(), End> {
        let bytes = hello_bytes(&self.network, &self.nonce);
        let signature = BASE64.decode(signature.as_bytes()).unwrap_or_default();
        if self.node.is_some() || !node.verify(&bytes, &signature) {
            let problem = Problem::new(401, "hello-refused", "the hello does not prove who sent it")
                .detail("its signature is not the node's over this connection's challenge, or it is a second one")
                .fix("connect again and sign the new challenge with the node's key");
            return Err(End::Closed(close_code::POLICY, Some(problem)));
        }
        let networks = Arc::clone(&self.app.networks);
        let member = networks
            .come_online(&self.network, self.id, node)
            .await
            .map_err(failed)?;
        if !member {
            let problem = Problem::new(
                403,
                "not-registered",
                "the node is no member of this network",
            )
            .fix("register it first, then connect again");
            return Err(End::Closed(close_code::POLICY, Some(problem)));
        }
        self.node = Some(node);
        self.slot.proven();
        Ok(())
    }

    async fn signal(&mut self, to: NodeId, payload: String) -> Result<(), End> {
        let problem = if self.node.is_none() {
            Problem::new(
                403,
                "hello-required",
                "only members that said hello may send signals",
            )
        } else if payload.len() > MAX_SIGNAL {
            Problem::new(
                413,
                "signal-too-large",
                "a signal was too large and not forwarded",
            )
            .detail(format!("at most {MAX_SIGNAL} bytes are forwarded"))
        } else if !self.signals.take(SIGNAL_RATE, Instant::now()) {
            Problem::new(
                429,
                "too-many-signals",
                "a signal was not forwarded: there were too many",
            )
            .detail(format!(
                "after {} at once, 20 per second are forwarded",
                SIGNAL_RATE.burst
            ))
            .fix("wait a second and send it again")
        } else {
            return self.forward(to, payload).await;
        };
        self.send(ServerMessage::Error { problem }).await
    }

    async fn forward(&mut self, to: NodeId, payload: String) -> Result<(), End> {
        let Some(from) = self.node else {
            return Ok(());
        };
        let networks = Arc::clone(&self.app.networks);
        let forwarded = networks.forward(&self.network, (from, to), payload).await;
        if forwarded.map_err(failed)? {
            self.app.metrics.signals.fetch_add(1, Relaxed);
            return Ok(());
        }
        self.send(ServerMessage::Undeliverable { to }).await
    }
}

/// Whether nothing was heard for so long that the client must be gone.
fn is_silent(heard: Instant, now: Instant) -> bool {
    now.saturating_duration_since(heard) >= MAX_SILENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_gone_after_three_silent_pings_and_not_before() {
        let heard = Instant::now();
        assert!(!is_silent(heard, heard + 2 * PING_INTERVAL));
        assert!(!is_silent(heard, heard + Duration::from_secs(89)));
        assert!(is_silent(heard, heard + 3 * PING_INTERVAL));
    }
}
