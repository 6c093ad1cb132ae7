//! Who hears of whom?

use std::collections::{BTreeMap, BTreeSet};

use mesh_wire::{NodeId, discovery::MAX_FOLLOWED};

use super::ConnectionId;

/// Which connections hear of all members, and which of some.
#[derive(Debug, Default)]
pub(super) struct Interest {
    everybody: BTreeSet<ConnectionId>,
    followed: BTreeMap<ConnectionId, BTreeSet<NodeId>>,
    followers: BTreeMap<NodeId, BTreeSet<ConnectionId>>,
}

impl Interest {
    /// This connection hears of all.
    pub(super) fn everybody(&mut self, id: ConnectionId) {
        self.everybody.insert(id);
    }

    /// This one hears of `node` too; whether it did not before. `None`: it follows too many.
    pub(super) fn follow(&mut self, id: ConnectionId, node: NodeId) -> Option<bool> {
        let followed = self.followed.entry(id).or_default();
        if followed.contains(&node) {
            return Some(false);
        }
        if followed.len() >= MAX_FOLLOWED {
            return None;
        }
        followed.insert(node);
        self.followers.entry(node).or_default().insert(id);
        Some(true)
    }

    /// This connection has ended.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.everybody.remove(&id);
        for node in self.followed.remove(&id).unwrap_or_default() {
            if let Some(followers) = self.followers.get_mut(&node) {
                followers.remove(&id);
                if followers.is_empty() {
                    self.followers.remove(&node);
                }
            }
        }
    }

    /// Those who hear of `node`.
    pub(super) fn of(&self, node: &NodeId) -> impl Iterator<Item = ConnectionId> {
        let followers = self.followers.get(node).into_iter().flatten();
        self.everybody.iter().chain(followers).copied()
    }
}
