//! What happens when a member registers, leaves, comes online or goes offline?
//!
//! Each change of a network is stored and told under that network's one lock, so that all connections hear of the
//! changes in the order in which they happened. The lock is never held while a socket is written.

mod connected;
mod elsewhere;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_wire::{
    NetworkId, NodeId,
    discovery::{PAGE, RegisterPeer, ServerMessage},
    peer_info::{Directory, PeerInfo},
    trust::{Certificate, Revocation},
};

use crate::{
    auth::NodeProof,
    mailbox::{Attachment, Ending, Hub},
    registry::Member,
    store::{Applicant, Effect, NetworkRow, Registered, Revoked, Store, StoreError},
    turn::credential::Issuer,
};

/// What became of a wish to deregister.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deregistered {
    Done,
    /// No such member.
    Unknown,
    /// The proof is not this member's, not for its record, or too old.
    NotProven,
}

/// What became of a wish to hear of events.
#[derive(Debug)]
pub(crate) enum Attached {
    /// With the list before the first event, and whether that is all of it.
    Yes(Attachment, Directory, bool),
    /// The network has too many connections.
    TooMany,
    /// The network was deleted meanwhile.
    NetworkGone,
}

/// The networks, stored and live.
#[derive(Debug)]
pub(crate) struct Networks {
    pub(crate) store: Store,
    /// Hears who is put out.
    issuer: Arc<Issuer>,
    live: Mutex<BTreeMap<NetworkId, Arc<LiveNetwork>>>,
}

/// What a list is made of, beside who is online.
struct Stored {
    members: Vec<Member>,
    revocations: Vec<String>,
}

/// What is known of one network in memory only.
#[derive(Debug)]
struct LiveNetwork {
    /// Orders what is stored and told.
    changes: tokio::sync::Mutex<()>,
    hub: Mutex<Hub>,
}

impl LiveNetwork {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Networks {
    /// The networks of an opened store.
    pub(crate) fn new(store: Store, issuer: Arc<Issuer>) -> Self {
        Self {
            store,
            issuer,
            live: Mutex::default(),
        }
    }

    /// Registers a record that was verified, with its certificate where the network has a key, and tells the others if
    /// that changed anything.
    pub(crate) async fn register(
        &self,
        network: &NetworkRow,
        request: &RegisterPeer,
        certificate: Option<&Certificate>,
    ) -> Result<(Registered, Option<PeerInfo>), StoreError> {
        let live = self.live(&network.id);
        let _order = live.changes.lock().await;
        let applicant = Applicant {
            record: &request.record,
            certificate,
            wish: request.requested_ip,
        };
        let registered = self.store.register(network, &applicant, now()).await?;
        let mut hub = live.hub();
        let info = registered.taken().map(|(member, effect)| {
            match effect {
                Effect::Joined => publish_joined(&mut hub, member),
                Effect::Updated => publish_presence(&mut hub, member),
                Effect::Nothing => {}
            }
            info(&hub, member)
        });
        drop(hub);
        Ok((registered, info))
    }

    /// Removes a member, if `proof` proves that it asks for it itself or no proof is asked for.
    pub(crate) async fn deregister(
        &self,
        network: &NetworkId,
        node: &NodeId,
        proof: Option<&NodeProof>,
    ) -> Result<Deregistered, StoreError> {
        let live = self.live(network);
        let _order = live.changes.lock().await;
        let Some(member) = self.store.member(network, node).await? else {
            return Ok(Deregistered::Unknown);
        };
        if proof.is_some_and(|proof| !proof.proves(network, node, member.record.seq, now())) {
            return Ok(Deregistered::NotProven);
        }
        self.store.remove_member(network, node).await?;
        let mut hub = live.hub();
        self.publish_left(&mut hub, node);
        Ok(Deregistered::Done)
    }

    /// Takes a key out for good, if `revocation` was verified, and tells the others.
    pub(crate) async fn revoke(
        &self,
        network: &NetworkId,
        revocation: &Revocation,
    ) -> Result<Revoked, StoreError> {
        let live = self.live(network);
        let _order = live.changes.lock().await;
        let revoked = self.store.revoke(network, revocation).await?;
        let Revoked::Done(out) = &revoked else {
            return Ok(revoked);
        };
        let mut hub = live.hub();
        let text = revocation.to_text();
        hub.publish(None, |revision| ServerMessage::Revoked {
            revision,
            revocation: text,
        });
        for node in out {
            self.publish_left(&mut hub, node);
        }
        Ok(revoked)
    }

    /// Tells that a member is none any more.
    fn publish_left(&self, hub: &mut Hub, node: &NodeId) {
        hub.publish(Some(node), |revision| ServerMessage::PeerLeft {
            revision,
            node_id: *node,
        });
        self.put_out(hub, node);
    }

    /// Ends what a former member has: its connection first, so that it is handed nothing more, then what it was handed.
    fn put_out(&self, hub: &mut Hub, node: &NodeId) {
        hub.forget(node);
        self.issuer.put_out(*node, now());
    }

    /// Deletes a network and ends its connections, and remembers that or forgets what was remembered of it; whether there was
    /// anything to delete or to forget.
    pub(crate) async fn delete(
        &self,
        network: &NetworkId,
        is_remembered: bool,
    ) -> Result<bool, StoreError> {
        let live = self.live(network);
        let _order = live.changes.lock().await;
        let deleted = self.store.delete_network(network, is_remembered.then(now));
        let deleted = deleted.await?;
        let mut hub = live.hub();
        hub.end_all(Ending::NetworkDeleted);
        hub.forget_elsewhere();
        for node in deleted.iter().flatten() {
            self.issuer.put_out(*node, now());
        }
        Ok(deleted.is_some())
    }

    /// The members as they are now, in order of name, from behind the name `after` on: at most [`PAGE`] of them;
    /// and whether there are no more.
    pub(crate) async fn directory(
        &self,
        network: &NetworkId,
        after: &str,
    ) -> Result<(Directory, bool), StoreError> {
        let live = self.live(network);
        let _order = live.changes.lock().await;
        let stored = self.stored(network, after).await?;
        let is_last = stored.members.len() < PAGE;
        Ok((directory(&live.hub(), stored), is_last))
    }

    /// Writes down the signs of life that are not stored yet.
    pub(crate) async fn save_last_seen(&self, at_the_end: bool) -> Result<(), StoreError> {
        let mut seen = Vec::new();
        for (network, live) in self.all_live() {
            let unsaved = live.hub().take_unsaved(at_the_end);
            seen.extend(
                unsaved
                    .into_iter()
                    .map(|(node, at)| (network.clone(), node, at)),
            );
        }
        if seen.is_empty() {
            return Ok(());
        }
        let saved = self.store.save_last_seen(&seen).await;
        if saved.is_err() {
            for (network, node, _) in &seen {
                self.live(network).hub().put_back_unsaved(node);
            }
        }
        saved
    }

    /// Live connections and online members of all networks.
    pub(crate) fn live_counts(&self) -> (usize, usize) {
        self.all_live()
            .iter()
            .map(|(_, live)| live.hub().counts())
            .fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
    }

    async fn stored(&self, network: &NetworkId, after: &str) -> Result<Stored, StoreError> {
        Ok(Stored {
            members: self.store.members(network, (after, PAGE)).await?,
            revocations: self.store.revocations(network).await?,
        })
    }

    fn live(&self, network: &NetworkId) -> Arc<LiveNetwork> {
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = all.entry(network.clone()).or_insert_with(|| {
            Arc::new(LiveNetwork {
                changes: tokio::sync::Mutex::default(),
                hub: Mutex::new(Hub::new(self.store.epoch())),
            })
        });
        Arc::clone(live)
    }

    fn all_live(&self) -> Vec<(NetworkId, Arc<LiveNetwork>)> {
        let all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(id, live)| (id.clone(), Arc::clone(live)))
            .collect()
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs())
}

fn publish_joined(hub: &mut Hub, member: &Member) {
    let peer = Box::new(info(hub, member));
    let about = Some(&member.record.node_id);
    hub.publish(about, |revision| ServerMessage::PeerJoined {
        revision,
        peer,
    });
}

fn publish_presence(hub: &mut Hub, member: &Member) {
    let peer = Box::new(info(hub, member));
    let about = Some(&member.record.node_id);
    hub.publish(about, |revision| ServerMessage::PeerUpdated {
        revision,
        peer,
    });
}

fn directory(hub: &Hub, stored: Stored) -> Directory {
    Directory {
        revision: hub.revision(),
        peers: stored
            .members
            .iter()
            .map(|member| info(hub, member))
            .collect(),
        revocations: stored.revocations,
    }
}

fn info(hub: &Hub, member: &Member) -> PeerInfo {
    let node = &member.record.node_id;
    PeerInfo {
        name: member.name.clone(),
        virtual_ips: vec![IpAddr::V4(member.virtual_ip)],
        online: hub.online(node),
        last_seen: hub
            .last_seen(node)
            .map_or(member.last_seen, |seen| seen.max(member.last_seen)),
        record: member.record.clone(),
    }
}
