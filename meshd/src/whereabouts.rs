//! Where were members last reached, and are they still there while the discovery server is away?
//!
//! Addresses are noted on disk as they are proven. A daemon that starts while nobody can signal for it knocks there: with a
//! handshake, which answers only to the right keys.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{Command, NodeStatus};
use mesh_wire::{NetworkId, NodeId, peer_info::Directory};
use tokio::{sync::watch, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    dataplane::Commands, lobby::Meeting, prepare::Prepared, state::StateDir, status::ServerStatus,
};

/// How often it is looked at; a member is knocked at as often at first.
const TICK: Duration = Duration::from_secs(1);
/// Ticks without the server in which each member is knocked at...
const EAGER: u32 = 8;
/// ...and then every so many ticks, as long as it takes.
const PATIENT: u32 = 20;
/// What is new is written to disk every so many ticks at most.
const SAVE_EVERY: u32 = 5;

/// Addresses by member.
pub type Endpoints = BTreeMap<NodeId, SocketAddr>;

/// Notes and knocks.
pub struct Whereabouts {
    /// Where addresses are kept.
    pub state: Arc<StateDir>,
    /// Of which network.
    pub network: NetworkId,
    /// Who is a member.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Who is reached, and where.
    pub node: watch::Receiver<Arc<NodeStatus>>,
    /// Whether a server is there.
    pub servers: watch::Receiver<Vec<ServerStatus>>,
    /// The data plane.
    pub commands: Commands,
}

impl Whereabouts {
    /// Of the network that was prepared.
    pub fn of(
        prepared: &Prepared,
        meeting: &Meeting,
        (node, commands): (watch::Receiver<Arc<NodeStatus>>, Commands),
    ) -> Self {
        Self {
            state: Arc::clone(&prepared.state),
            network: prepared.membership.network().id,
            directory: meeting.directory.subscribe(),
            node,
            servers: meeting.statuses.subscribe(),
            commands,
        }
    }

    /// Runs until `shutdown`, and notes a last time then.
    pub async fn run(self, shutdown: CancellationToken) {
        let known = self.state.endpoints(&self.network);
        let mut known = known.unwrap_or_else(|problem| {
            tracing::warn!(%problem, "where members were last reached cannot be read");
            None
        });
        let known = known.get_or_insert_default();
        let mut saved = known.clone();
        let (mut alone, mut since_save) = (0, 0);
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = shutdown.cancelled() => {
                    self.note(known);
                    return self.save(known, &mut saved);
                }
            }
            self.note(known);
            since_save += 1;
            if since_save >= SAVE_EVERY {
                since_save = 0;
                self.save(known, &mut saved);
            }
            let any_connected = self.servers.borrow().iter().any(|server| server.connected);
            alone = match any_connected {
                true => 0,
                false => alone + 1,
            };
            // Not in the first tick: the server may be about to answer.
            let is_time = (2..2 + EAGER).contains(&alone) || alone > 0 && alone % PATIENT == 0;
            if is_time && self.knock(known).await.is_err() {
                return;
            }
        }
    }

    /// Notes who is reached where, and forgets who is no member any more.
    fn note(&self, known: &mut Endpoints) {
        let directory = self.directory.borrow();
        known.retain(|node, _| directory.by_node(node).is_some());
        for peer in &self.node.borrow().peers {
            // A TURN server relays for a while only.
            if let Some(endpoint) = peer.endpoint.filter(|_| !peer.relayed) {
                known.insert(peer.node_id, endpoint);
            }
        }
    }

    fn save(&self, known: &Endpoints, saved: &mut Endpoints) {
        if known == saved {
            return;
        }
        match self.state.save_endpoints(&self.network, known) {
            Ok(()) => saved.clone_from(known),
            Err(problem) => {
                tracing::warn!(%problem, "where members were last reached could not be noted");
            }
        }
    }

    /// Knocks at all who are not reached.
    async fn knock(&self, known: &Endpoints) -> Result<(), crate::dataplane::Ended> {
        let reached: Vec<NodeId> = self
            .node
            .borrow()
            .peers
            .iter()
            .filter(|peer| peer.endpoint.is_some())
            .map(|peer| peer.node_id)
            .collect();
        for (node, at) in known.iter().filter(|(node, _)| !reached.contains(node)) {
            let (node, at) = (*node, *at);
            self.commands.send(Command::Knock { node, at }).await?;
        }
        Ok(())
    }
}
