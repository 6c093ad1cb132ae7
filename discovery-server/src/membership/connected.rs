//! What follows from what the clients of the event connections say and do?

use mesh_wire::{
    NetworkId, NodeId,
    discovery::{MAX_WHOLE_LIST, PAGE, ServerMessage},
};

use super::{Attached, Networks, Stored, directory, info, now, publish_presence};
use crate::{
    mailbox::{ConnectionId, Hears, Hub, encode},
    news::Change,
    registry::Member,
    store::{NetworkRow, StoreError, Wanted},
};

impl Networks {
    /// Begins a connection to the events of a network that its client was let into, with the list as it is before the
    /// first event.
    pub(crate) async fn attach(&self, network: &NetworkRow) -> Result<Attached, StoreError> {
        let live = self.live(&network.id);
        let _order = live.changes.lock().await;
        // It may have been deleted since, and made anew by others.
        if self.store.network(&network.id).await?.as_ref() != Some(network) {
            return Ok(Attached::NetworkGone);
        }
        let count = self.store.count_members(&network.id).await?;
        let is_whole = count <= MAX_WHOLE_LIST as u64;
        let stored = Stored {
            members: match is_whole {
                true => self.store.members(&network.id, ("", PAGE)).await?,
                false => Vec::new(),
            },
            revocations: self.store.revocations(&network.id).await?,
        };
        let hears = match is_whole {
            true => Hears::Everybody,
            false => Hears::Followed,
        };
        // No await from here on: a request that is given up must not leave an attachment behind.
        let mut hub = live.hub();
        Ok(match hub.attach(hears) {
            Some(attachment) => Attached::Yes(attachment, directory(&hub, stored), is_whole),
            None => Attached::TooMany,
        })
    }

    /// Makes a connection a member's presence; `false` if it is no member.
    pub(crate) async fn come_online(
        &self,
        network: &NetworkId,
        id: ConnectionId,
        node: NodeId,
    ) -> Result<bool, StoreError> {
        let live = self.live(network);
        let _order = live.changes.lock().await;
        let Some(member) = self.store.member(network, &node).await? else {
            return Ok(false);
        };
        let has_come;
        {
            let mut hub = live.hub();
            // Of itself it always hears.
            hub.follow(id, node);
            let was_online = hub.online(&node);
            has_come = hub.claim(id, node, now());
            if !was_online {
                publish_presence(&mut hub, &member);
            }
        }
        // Also where it never left: it may have been elsewhere meanwhile, and letters go to where it came last.
        if has_come {
            self.tell_presence(network, node, true).await;
        }
        Ok(true)
    }

    /// Ends a connection, and tells the others if its member is offline now.
    pub(crate) async fn detach(
        &self,
        network: &NetworkId,
        id: ConnectionId,
    ) -> Result<(), StoreError> {
        let live = self.live(network);
        let _order = live.changes.lock().await;
        let Some(node) = live.hub().detach(id) else {
            return Ok(());
        };
        self.tell_presence(network, node, false).await;
        if let Some(member) = self.store.member(network, &node).await?
            && live.hub().elsewhere(&node).is_none()
        {
            publish_presence(&mut live.hub(), &member);
        }
        Ok(())
    }

    /// Notes a sign of life of a member, in memory.
    pub(crate) fn touch(&self, network: &NetworkId, node: NodeId) {
        self.live(network).hub().touch(node, now());
    }

    /// Forwards a signal to a member; `false` if it has no live connection.
    pub(crate) async fn forward(
        &self,
        network: &NetworkId,
        (from, to): (NodeId, NodeId),
        payload: String,
    ) -> Result<bool, StoreError> {
        let live = self.live(network);
        self.introduce(network, (&from, &to)).await?;
        let message = ServerMessage::Signal { from, payload };
        let elsewhere = {
            let mut hub = live.hub();
            if hub.deliver(&to, &message) {
                return Ok(true);
            }
            hub.elsewhere(&to)
        };
        let (Some(replica), ServerMessage::Signal { payload, .. }) = (elsewhere, message) else {
            return Ok(false);
        };
        let change = Change::Signal {
            replica,
            from,
            to,
            payload,
        };
        self.store.tell(network, &change).await?;
        Ok(true)
    }

    /// Shows a member to another one that it is about to write to, and that does not hear of it yet: a letter of somebody
    /// unknown is not read.
    pub(super) async fn introduce(
        &self,
        network: &NetworkId,
        (from, to): (&NodeId, &NodeId),
    ) -> Result<(), StoreError> {
        let live = self.live(network);
        let is_new = {
            let mut hub = live.hub();
            let id = hub.mailbox(to);
            id.filter(|id| hub.follow(*id, *from) == Some(true))
        };
        let Some(id) = is_new else {
            return Ok(());
        };
        if let Some(member) = self.store.member(network, from).await? {
            show_to(&mut live.hub(), id, &member);
        }
        Ok(())
    }

    /// Lets a connection hear of these members from now on, and shows it those that there are. `false`: it follows too many.
    pub(crate) async fn follow(
        &self,
        network: &NetworkId,
        id: ConnectionId,
        wanted: Wanted<'_>,
    ) -> Result<bool, StoreError> {
        let live = self.live(network);
        // In order with the changes, so that none falls between what is read and what is heard.
        let _order = live.changes.lock().await;
        let found = self.store.find_members(network, wanted).await?;
        let mut hub = live.hub();
        let found_nodes = found.iter().map(|member| &member.record.node_id);
        for node in wanted.nodes.iter().chain(found_nodes) {
            if hub.follow(id, *node).is_none() {
                return Ok(false);
            }
        }
        for member in &found {
            show_to(&mut hub, id, member);
        }
        Ok(true)
    }
}

fn show_to(hub: &mut Hub, id: ConnectionId, member: &Member) {
    let peer = Box::new(info(hub, member));
    let revision = hub.revision();
    hub.put(id, &encode(&ServerMessage::PeerUpdated { revision, peer }));
}
