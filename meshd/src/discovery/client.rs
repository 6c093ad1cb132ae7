//! What keeps us known to the discovery server, and the others known to us? Register, listen, and whenever that ends,
//! begin again with growing pauses. The mesh itself goes on meanwhile.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use mesh_core::{Command, NodeStatus};
use mesh_wire::{
    NodeId,
    discovery::{Network, ServerMessage},
    letter::Content,
    peer_info::{Directory, PeerInfo},
    signal::Signal,
    trust::Revocation,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    ServerError,
    directory::Believed,
    events::Events,
    hearsay::{Hearsay, Passed, tell_everybody},
    rest::Rest,
};
use crate::{
    dataplane::Commands,
    feed::Roster,
    membership::Membership,
    problem::Problem,
    status::ServerStatus,
    trust::{correspondence::Correspondence, unix_time},
};

/// The first pause after a failure. A server that is being restarted is back within a second or two.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A connection that held for this long proves that the server is well: the next pause is short again.
const HEALTHY: Duration = Duration::from_secs(10);

/// What the client is made of.
pub struct DiscoveryClient {
    /// The server.
    pub rest: Rest,
    /// Our identity.
    pub key: SigningKey,
    /// How often the connection is proven to be alive.
    pub heartbeat: Duration,
    /// Signs what is registered.
    pub membership: Membership,
    /// What we believe.
    pub believed: Believed,
    /// Turns what we believe into peers.
    pub roster: Roster,
    /// Rises when the host's addresses change: connections from the old ones are dead then, though nobody says so.
    pub moved: watch::Receiver<u64>,
    /// Seals and opens what members write to each other.
    pub correspondence: Correspondence,
    /// Who was sent a new certificate, and when.
    pub renewed: BTreeMap<NodeId, Instant>,
    /// Who is reached, and where.
    pub reached: watch::Receiver<Arc<NodeStatus>>,
    /// Letters of others that were passed on.
    pub passed: Passed,
    /// Where it is published.
    pub outlets: Outlets,
}

/// Where the client tells what it hears.
#[derive(Debug)]
pub struct Outlets {
    /// The members.
    pub directory: watch::Sender<Arc<Directory>>,
    /// The network.
    pub network: watch::Sender<Arc<Network>>,
    /// How the server is doing.
    pub server: watch::Sender<ServerStatus>,
    /// Ourselves, as the server registered us.
    pub own: watch::Sender<Option<PeerInfo>>,
    /// To the data plane: the members, then their signals, in this order.
    pub commands: Commands,
}

/// Signals on their way to the server.
const SIGNAL_QUEUE: usize = 256;

/// Where things come from that are not the server's.
#[derive(Debug)]
pub struct Inlets {
    /// Signals of the data plane for peers.
    pub signals: mpsc::Receiver<(NodeId, Signal)>,
    /// What others say of the network.
    pub hearsay: mpsc::Receiver<Hearsay>,
}

impl Inlets {
    /// Both, with the ends to put things in.
    pub fn open() -> (mpsc::Sender<(NodeId, Signal)>, mpsc::Sender<Hearsay>, Self) {
        let (to_signal, signals) = mpsc::channel(SIGNAL_QUEUE);
        let (to_hear, hearsay) = mpsc::channel(SIGNAL_QUEUE);
        (to_signal, to_hear, Self { signals, hearsay })
    }
}

impl DiscoveryClient {
    /// Runs until `shutdown`. `signals` are ours for others.
    pub async fn run(mut self, mut inlets: Inlets, shutdown: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.converse(&mut inlets, &shutdown) => ended,
                () = shutdown.cancelled() => return,
            };
            let Err(error) = ended else { return };
            if began.elapsed() > HEALTHY {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(server = %self.rest.server(), %error, "discovery server lost; trying again in {pause:?}");
            self.outlets.server.send_modify(|status| {
                status.connected = false;
                status.error = Some(error.to_string());
                status.retry_in_s = Some(whole_seconds(pause));
            });
            tokio::select! {
                () = self.go_on_alone(&mut inlets, jittered(pause)) => {}
                () = shutdown.cancelled() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Registers and listens, until something fails or `shutdown`.
    async fn converse(
        &mut self,
        inlets: &mut Inlets,
        shutdown: &CancellationToken,
    ) -> Result<(), ServerError> {
        let mut events = self.enter().await?;
        loop {
            tokio::select! {
                message = events.next() => self.on_message(message?, &mut events).await?,
                Some((to, signal)) = inlets.signals.recv() => {
                    self.write(&to, Content::Signal(signal), &mut events).await?;
                }
                Some(hearsay) = inlets.hearsay.recv() => {
                    if let Some(news) = self.hear(hearsay).await? {
                        self.publish(&news).await?;
                    }
                }
                Ok(()) = self.moved.changed() => {
                    return Err(ServerError::Unreachable("this host's addresses have changed".to_owned()));
                }
                () = shutdown.cancelled() => {
                    events.close().await;
                    return Ok(());
                }
            }
        }
    }

    /// Registers, and begins to listen.
    async fn enter(&mut self) -> Result<Events, ServerError> {
        let own_trouble = |problem: Problem| ServerError::Unreachable(problem.to_string());
        let network = self.membership.network().id.clone();
        let mut conversation = self.rest.converse().await?;
        let registered = self.membership.register(&mut conversation).await;
        let own = match registered.map_err(own_trouble)? {
            // The server has lost the network. Whoever made it can make it again.
            Err(ServerError::Refused(refusal))
                if refusal.status == 401 && self.membership.is_creator() =>
            {
                self.membership.find_or_create(&mut conversation).await?;
                let registered = self.membership.register(&mut conversation).await;
                registered.map_err(own_trouble)??
            }
            answer => answer?,
        };
        let described = conversation.network(&network).await?;
        let scope = self.membership.scope();
        let objection = scope
            .object_to_network(&described, true)
            .or_else(|| scope.object_to_own(&own));
        if let Some(why) = objection {
            return Err(ServerError::Unreachable(format!(
                "what the server says cannot be true: {why}"
            )));
        }
        self.membership.registered(&own).map_err(own_trouble)?;
        self.outlets.network.send_replace(Arc::new(described));
        self.outlets.own.send_replace(Some(own));
        let events = Events::open(conversation, &network, &self.key, self.heartbeat).await?;
        tracing::info!(server = %self.rest.server(), "connected to the discovery server");
        self.outlets.server.send_modify(|status| {
            status.connected = true;
            status.error = None;
            status.retry_in_s = None;
        });
        Ok(events)
    }

    async fn on_message(
        &mut self,
        message: ServerMessage,
        events: &mut Events,
    ) -> Result<(), ServerError> {
        let rejected = self.believed.rejected();
        let changed = self.believed.apply(&message, unix_time());
        if self.believed.rejected() > rejected {
            tracing::warn!(
                server = %self.rest.server(),
                records = self.believed.rejected() - rejected,
                "refused members that the server lists: unsigned, older than known, or with what is not theirs"
            );
        }
        if changed {
            let directory = self.believed.directory();
            // A signal of a new member may be next; the data plane must know the member by then.
            let command = match self.believed.has_evicted() {
                true => Some(self.roster.command(directory)),
                false => self.roster.changes(&message, directory),
            };
            self.show_directory(command).await?;
            self.renew(events).await?;
        }
        self.spread(&message, changed).await?;
        let command = match message {
            ServerMessage::Signal { from, payload } => {
                return self.on_letter(from, &payload).await;
            }
            ServerMessage::Undeliverable { to } => Command::Undeliverable { to },
            ServerMessage::Error { problem } if problem.status == 429 => {
                tracing::debug!(%problem, "the server did not forward a letter");
                return Ok(());
            }
            ServerMessage::Error { problem } => {
                return Err(ServerError::refused(problem));
            }
            ServerMessage::Challenge { .. }
            | ServerMessage::Snapshot { .. }
            | ServerMessage::PeerJoined { .. }
            | ServerMessage::PeerUpdated { .. }
            | ServerMessage::PeerLeft { .. }
            | ServerMessage::Revoked { .. } => return Ok(()),
        };
        self.tell(command).await
    }

    /// Sees that both the members and the server know what was revoked.
    async fn spread(&self, message: &ServerMessage, is_news: bool) -> Result<(), ServerError> {
        if let ServerMessage::Revoked { revocation, .. } = message
            && is_news
            && let Ok(revocation) = Revocation::from_text(revocation)
        {
            // The server may have told us alone.
            tell_everybody(self.outlets.commands.clone(), &revocation);
        }
        if let ServerMessage::Snapshot { revocations, .. } = message {
            // It was not there when we heard of them, or has lost them.
            for unheard in self.believed.revocations().missing_in(revocations) {
                self.publish(&unheard).await?;
            }
        }
        Ok(())
    }

    /// Lets everybody in the daemon know who the members are now; the data plane by `command`.
    pub(super) async fn show_directory(&self, command: Option<Command>) -> Result<(), ServerError> {
        if let Some(command) = command {
            self.tell(command).await?;
        }
        self.outlets
            .directory
            .send_replace(Arc::new(self.believed.directory().clone()));
        Ok(())
    }

    /// While the server is away: signals go by way of other members, hearsay is taken in. Ends after the pause, or when this
    /// host's addresses change, and never in the middle of something.
    async fn go_on_alone(&mut self, inlets: &mut Inlets, pause: Duration) {
        let mut over = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut over => return,
                Some((to, signal)) = inlets.signals.recv() => {
                    if let Err(error) = self.write_through_members(to, signal).await {
                        tracing::debug!(%error, "a letter was not written");
                    }
                }
                Some(hearsay) = inlets.hearsay.recv() => {
                    // The server hears of it when it is back: it will not list it.
                    if let Err(error) = self.hear(hearsay).await {
                        tracing::debug!(%error, "not taken in");
                    }
                }
                Ok(()) = self.moved.changed() => return,
            }
        }
    }

    pub(super) async fn on_content(
        &mut self,
        from: NodeId,
        content: Content,
    ) -> Result<(), ServerError> {
        match content {
            Content::Signal(signal) => self.tell(Command::Signal { from, signal }).await,
            Content::Certificate(text) => self.adopt(&text).await,
        }
    }

    async fn on_letter(&mut self, from: NodeId, payload: &str) -> Result<(), ServerError> {
        let Some(peer) = self.believed.directory().by_node(&from) else {
            tracing::debug!(peer = %from.short(), "refused a letter of somebody who is no member");
            return Ok(());
        };
        match self.correspondence.open(&peer.record, payload) {
            Ok(content) => self.on_content(from, content).await,
            Err(error) => {
                tracing::debug!(peer = %from.short(), %error, "refused a letter");
                Ok(())
            }
        }
    }

    pub(super) async fn tell(&self, command: Command) -> Result<(), ServerError> {
        self.outlets
            .commands
            .send(command)
            .await
            .map_err(|_| ServerError::Unreachable("the data plane has ended".to_owned()))
    }
}

/// Rounded up: "in 0 s" would be now.
pub(crate) fn whole_seconds(pause: Duration) -> u64 {
    pause
        .as_millis()
        .div_ceil(1000)
        .try_into()
        .unwrap_or(u64::MAX)
}

/// Half to one and a half of `pause`, so that a thousand clients do not come back in one instant.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    if getrandom::fill(&mut byte).is_err() {
        return pause;
    }
    pause.mul_f64(0.5 + f64::from(byte[0]) / 256.0)
}
