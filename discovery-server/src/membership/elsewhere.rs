//! What follows here from what happened at another server of the same database?

use mesh_wire::{NetworkId, NodeId, discovery::ServerMessage};

use super::{LiveNetwork, Networks, publish_joined, publish_presence};
use crate::{
    mailbox::Ending,
    news::{Change, News},
    store::{Beginning, Listener, StoreError},
};

impl Networks {
    /// Begins among the servers, at first and whenever this one may have missed something: who is connected here must
    /// connect again, and so learns what it missed. Returns the last news that is known.
    pub(crate) async fn begin_among_servers(&self) -> Result<u64, StoreError> {
        let beginning = self.store.enlist().await?;
        Ok(self.begin(beginning))
    }

    /// Is cut off from the database: whoever is connected here does better at another server.
    pub(crate) fn cut_off(&self) {
        self.store.cut_off();
        for (_, live) in self.all_live() {
            live.hub().end_all(Ending::CutOff);
        }
    }

    /// Tries to begin among the servers after it was cut off.
    pub(crate) async fn come_back(&self) -> Result<(Listener, u64), StoreError> {
        let (listener, beginning) = self.store.come_back().await?;
        let seq = self.begin(beginning);
        self.store.resume();
        Ok((listener, seq))
    }

    fn begin(&self, Beginning { seq, present }: Beginning) -> u64 {
        // Only now that the database is there: whoever is thrown off can come back.
        for (_, live) in self.all_live() {
            let mut hub = live.hub();
            hub.end_all(Ending::BeganAnew);
            hub.forget_elsewhere();
        }
        // Who was put out meanwhile is not known one by one.
        self.issuer.put_out_all();
        for (network, node, replica) in present {
            let live = self.live(&network);
            live.hub().set_elsewhere(node, (replica, true));
        }
        seq
    }

    /// Tells the clients that are connected here.
    pub(crate) async fn apply(&self, news: News) -> Result<(), StoreError> {
        if news.replica == self.store.epoch() {
            return Ok(());
        }
        let network = &news.network;
        let live = self.live(network);
        let _order = live.changes.lock().await;
        match news.change {
            Change::Joined { node } => {
                if let Some(member) = self.store.member(network, &node).await? {
                    publish_joined(&mut live.hub(), &member);
                }
            }
            Change::Updated { node } => self.show(network, &live, &node).await?,
            Change::Left { node } => self.publish_left(&mut live.hub(), &node),
            Change::Revoked { revocation } => {
                live.hub().publish(None, |revision| ServerMessage::Revoked {
                    revision,
                    revocation,
                })
            }
            Change::Deleted => {
                let mut hub = live.hub();
                hub.end_all(Ending::NetworkDeleted);
                hub.forget_elsewhere();
            }
            Change::Online { node } => {
                let at = (news.replica, true);
                self.note_elsewhere(network, (&live, node), at).await?;
            }
            Change::Offline { node, replica } => {
                let at = (replica, false);
                self.note_elsewhere(network, (&live, node), at).await?;
            }
            Change::Signal {
                replica,
                from,
                to,
                payload,
            } => {
                if replica == self.store.epoch() {
                    self.deliver_here(network, (from, to), payload).await?;
                }
            }
            Change::Undeliverable { from, to } => {
                live.hub()
                    .deliver(&from, &ServerMessage::Undeliverable { to });
            }
        }
        Ok(())
    }

    async fn note_elsewhere(
        &self,
        network: &NetworkId,
        (live, node): (&LiveNetwork, NodeId),
        at: (u64, bool),
    ) -> Result<(), StoreError> {
        let changed = live.hub().set_elsewhere(node, at);
        match changed {
            true => self.show(network, live, &node).await,
            false => Ok(()),
        }
    }

    /// Delivers a letter that another server took, because its receiver is connected here.
    async fn deliver_here(
        &self,
        network: &NetworkId,
        (from, to): (NodeId, NodeId),
        payload: String,
    ) -> Result<(), StoreError> {
        self.introduce(network, (&from, &to)).await?;
        let message = ServerMessage::Signal { from, payload };
        if self.live(network).hub().deliver(&to, &message) {
            return Ok(());
        }
        let lost = Change::Undeliverable { from, to };
        self.store.tell(network, &lost).await
    }

    /// Tells the other servers who came or went here. What they do not hear of makes this server begin anew.
    pub(super) async fn tell_presence(&self, network: &NetworkId, node: NodeId, online: bool) {
        let replica = self.store.epoch();
        let change = match online {
            true => Change::Online { node },
            false => Change::Offline { node, replica },
        };
        if let Err(error) = self.store.tell(network, &change).await {
            tracing::warn!(%error, "the other servers do not know who is connected here");
            self.store.must_begin_anew();
        }
    }

    async fn show(
        &self,
        network: &NetworkId,
        live: &LiveNetwork,
        node: &NodeId,
    ) -> Result<(), StoreError> {
        if let Some(member) = self.store.member(network, node).await? {
            publish_presence(&mut live.hub(), &member);
        }
        Ok(())
    }
}
