//! What do we make of what the discovery servers say? One view of the members, whatever each of them lists, for everybody
//! in the daemon. The mesh itself goes on without any of them.

use std::{collections::BTreeMap, sync::Arc};

use mesh_core::{Command, NodeStatus};
use mesh_wire::{
    NodeId,
    discovery::{Network, ServerMessage},
    letter::Content,
    peer_info::{Directory, PeerInfo},
    signal::Signal,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    connection::{Errand, News, ServerId},
    directory::Believed,
    hearsay::{Hearsay, Passed},
    post::UnderWay,
    review::REVIEW,
    servers::{Described, Relays, Servers},
    views::Views,
};
use crate::{
    dataplane::{Commands, Ended},
    feed::Roster,
    health::Health,
    membership::Membership,
    trust::{correspondence::Correspondence, unix_time},
};

/// What the client is made of.
pub struct DiscoveryClient {
    /// The servers.
    pub servers: Servers,
    /// Which servers there shall be.
    pub wanted: watch::Receiver<Vec<Url>>,
    /// Signs what is registered.
    pub membership: Membership,
    /// What we believe.
    pub believed: Believed,
    /// Turns what we believe into peers.
    pub roster: Roster,
    /// Seals and opens what members write to each other.
    pub correspondence: Correspondence,
    /// Who was sent a new certificate, and when.
    pub renewed: BTreeMap<NodeId, Instant>,
    /// Who is reached, and where.
    pub reached: watch::Receiver<Arc<NodeStatus>>,
    /// Letters of others that were passed on.
    pub passed: Passed,
    /// Whom others hear of.
    pub views: Views,
    /// Letters of ours whose fate is not known.
    pub under_way: Vec<UnderWay>,
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
    /// The network as each connected server describes it.
    pub described: watch::Sender<Described>,
    /// What lets us use the servers' TURN.
    pub relays: watch::Sender<Relays>,
    /// Ourselves, as a server registered us.
    pub own: watch::Sender<Option<PeerInfo>>,
    /// What is wrong.
    pub health: Health,
    /// To the data plane: the members, then their signals, in this order.
    pub commands: Commands,
}

/// Signals on their way to a server.
const SIGNAL_QUEUE: usize = 256;

/// Where things come from that are not the servers'.
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
    /// Runs until `shutdown`, or until the data plane has ended.
    pub async fn run(mut self, mut inlets: Inlets, shutdown: CancellationToken) {
        self.wanted.mark_changed();
        let started = Instant::now();
        let mut look = interval(REVIEW);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                (server, news) = self.servers.next() => self.on_news(server, news).await,
                Some((to, signal)) = inlets.signals.recv() => self.post(to, signal).await,
                Some(hearsay) = inlets.hearsay.recv() => self.hear(hearsay).await,
                Ok(()) = self.wanted.changed() => self.follow(&shutdown).await,
                _ = look.tick() => self.review(started.elapsed()).await,
                () = shutdown.cancelled() => break,
            };
            if done.is_err() {
                break;
            }
        }
        self.servers.ended().await;
    }

    /// Uses the servers that are wanted now.
    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Ended> {
        let wanted = self.wanted.borrow_and_update().clone();
        let mut is_news = false;
        for server in self.servers.follow(&wanted, shutdown) {
            is_news |= self.believed.forget(server, unix_time());
        }
        self.believed.expect(self.servers.ids());
        self.describe();
        self.outlets.relays.send_replace(self.servers.relays());
        match is_news {
            true => self.show_all().await,
            false => Ok(()),
        }
    }

    async fn on_news(&mut self, server: ServerId, news: News) -> Result<(), Ended> {
        match news {
            News::Connected(_, own) => {
                self.describe();
                self.outlets.own.send_replace(Some(*own));
                self.post_what_waited().await
            }
            News::Registered(own) => {
                self.outlets.own.send_replace(Some(*own));
                Ok(())
            }
            News::Said(message) => self.on_message(server, message).await,
            News::Lost(..) => {
                self.describe();
                self.take_back(server);
                match self.believed.lost(server) {
                    true => self.show_all().await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Tells how the connected servers describe the network; without any, what was said last still holds.
    fn describe(&self) {
        if let Some(network) = self.servers.network() {
            let described = self.servers.described();
            self.outlets.network.send_replace(Arc::new(network.clone()));
            self.outlets.described.send_replace(described);
        }
    }

    async fn on_message(&mut self, server: ServerId, message: ServerMessage) -> Result<(), Ended> {
        let rejected = self.believed.rejected();
        let changed = self.believed.apply(server, &message, unix_time());
        if self.believed.rejected() > rejected {
            tracing::warn!(
                server = self.servers.url(server).map(Url::as_str),
                records = self.believed.rejected() - rejected,
                "refused members that the server lists: unsigned, older than known, or with what is not theirs"
            );
        }
        let refuses = self.believed.rejected() > rejected;
        if changed || refuses {
            self.show_refused();
        }
        if changed {
            let directory = self.believed.directory();
            // A signal of a new member may be next; the data plane must know the member by then.
            let command = match self.believed.has_evicted() {
                true => Some(self.roster.command(directory)),
                false => self.roster.changes(&message, directory),
            };
            self.show_directory(command).await?;
        }
        if changed || self.believed.links().is_changed() {
            self.renew();
        }
        self.spread_news(Some(server));
        if changed || refuses {
            self.judge().await?;
        }
        self.complete(server, &message);
        if let ServerMessage::Snapshot {
            complete: false, ..
        } = message
        {
            self.follow_known(server);
        }
        match message {
            ServerMessage::Signal { from, payload } => self.on_letter(from, &payload).await,
            ServerMessage::Undeliverable { to } => self.on_undeliverable(server, to).await,
            ServerMessage::Challenge { .. }
            | ServerMessage::Snapshot { .. }
            | ServerMessage::PeerJoined { .. }
            | ServerMessage::PeerUpdated { .. }
            | ServerMessage::PeerLeft { .. }
            | ServerMessage::Revoked { .. }
            | ServerMessage::Error { .. } => Ok(()),
            ServerMessage::Turn(_) => {
                self.outlets.relays.send_replace(self.servers.relays());
                Ok(())
            }
        }
    }

    /// Tells a server the revocations that its list lacks.
    fn complete(&self, server: ServerId, message: &ServerMessage) {
        if let ServerMessage::Snapshot { revocations, .. } = message {
            // It was not there when we heard of them, or has lost them.
            for unheard in self.believed.revocations().missing_in(revocations) {
                let errand = || Errand::Revocation(unheard.clone());
                self.servers.ask_all(errand, |other| other == server);
            }
        }
    }

    /// Lets everybody in the daemon know who the members are now; the data plane by `command`.
    pub(super) async fn show_directory(&self, command: Option<Command>) -> Result<(), Ended> {
        if let Some(command) = command {
            self.tell(command).await?;
        }
        self.outlets
            .directory
            .send_replace(Arc::new(self.believed.directory().clone()));
        Ok(())
    }

    /// As [`Self::show_directory`], after a change that concerns many.
    pub(super) async fn show_all(&self) -> Result<(), Ended> {
        let members = self.roster.command(self.believed.directory());
        self.show_directory(Some(members)).await
    }

    pub(super) async fn on_content(&self, from: NodeId, content: Content) -> Result<(), Ended> {
        match content {
            Content::Signal(signal) => self.tell(Command::Signal { from, signal }).await,
            Content::Certificate(text) => {
                self.adopt(&text);
                Ok(())
            }
        }
    }

    async fn on_letter(&mut self, from: NodeId, payload: &str) -> Result<(), Ended> {
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

    pub(super) async fn tell(&self, command: Command) -> Result<(), Ended> {
        self.outlets.commands.send(command).await
    }
}
