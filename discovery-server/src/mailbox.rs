//! Who is connected to a network's events, and what waits to be sent to whom?
//!
//! One [`Hub`] per network, in memory only. Nothing here blocks: a connection whose queue is full is ended, so that
//! it delays nobody else.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::ws::Utf8Bytes;
use mesh_wire::{NodeId, discovery::ServerMessage};
use tokio::sync::{mpsc, watch};

use crate::registry::MAX_MEMBERS;

/// Messages that wait for one slow connection before it must resynchronize.
pub(crate) const QUEUE: usize = 256;

/// Connections per network: each member's, and as many again that are being replaced or only watch.
const MAX_CONNECTIONS: usize = 2 * MAX_MEMBERS;

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It read too slowly and missed messages.
    Resync,
    /// A newer connection of the same member took its place.
    Replaced,
    /// Its member was deregistered.
    Deregistered,
    /// The network was deleted.
    NetworkDeleted,
}

/// Numbers connections within a hub.
pub(crate) type ConnectionId = u64;

/// What a new connection holds of the hub.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) id: ConnectionId,
    /// Messages to send, in order.
    pub(crate) queue: mpsc::Receiver<Utf8Bytes>,
    /// Turns to `Some` when the connection must end.
    pub(crate) ending: watch::Receiver<Option<Ending>>,
}

/// A network's connections and presence.
#[derive(Debug)]
pub(crate) struct Hub {
    revision: u64,
    next_id: ConnectionId,
    connections: BTreeMap<ConnectionId, Connection>,
    /// The connection that is a member's presence and mailbox.
    members: BTreeMap<NodeId, ConnectionId>,
    /// Members that are connected to other servers, and to which.
    elsewhere: BTreeMap<NodeId, BTreeSet<u64>>,
    seen: BTreeMap<NodeId, Seen>,
}

#[derive(Debug)]
struct Connection {
    queue: mpsc::Sender<Utf8Bytes>,
    ending: watch::Sender<Option<Ending>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: u64,
    saved: bool,
}

impl Hub {
    /// Nobody is connected. Revisions begin above those of all earlier epochs; 2^32 changes fit into one, and 2^21
    /// epochs into the integers that JSON readers hold exactly.
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            revision: epoch << 32,
            next_id: 0,
            connections: BTreeMap::new(),
            members: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether a live connection is this member's presence, here or at another server.
    pub(crate) fn online(&self, node: &NodeId) -> bool {
        self.members.contains_key(node) || self.elsewhere.contains_key(node)
    }

    /// Another server that the member is connected to: the one that started last, the others may be dead.
    pub(crate) fn elsewhere(&self, node: &NodeId) -> Option<u64> {
        self.elsewhere.get(node)?.last().copied()
    }

    /// Notes that a member is connected to another server, or not any more; whether it came online or went offline by that.
    pub(crate) fn set_elsewhere(&mut self, node: NodeId, (replica, there): (u64, bool)) -> bool {
        let before = self.online(&node);
        let at = self.elsewhere.entry(node).or_default();
        match there {
            true => at.insert(replica),
            false => at.remove(&replica),
        };
        if at.is_empty() {
            self.elsewhere.remove(&node);
        }
        before != self.online(&node)
    }

    /// The last sign of life since the server started, in seconds since the Unix epoch.
    pub(crate) fn last_seen(&self, node: &NodeId) -> Option<u64> {
        self.seen.get(node).map(|seen| seen.at)
    }

    /// Connections and online members.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.connections.len(), self.members.len())
    }

    /// Adds a connection; `None` when there are too many.
    pub(crate) fn attach(&mut self) -> Option<Attachment> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let (ending_sender, ending) = watch::channel(None);
        let id = self.next_id;
        self.next_id += 1;
        let connection = Connection {
            queue: sender,
            ending: ending_sender,
        };
        self.connections.insert(id, connection);
        Some(Attachment { id, queue, ending })
    }

    /// Makes a connection the presence and mailbox of `node`, in place of an older one; whether it was not connected here.
    pub(crate) fn claim(&mut self, id: ConnectionId, node: NodeId, now: u64) -> bool {
        self.touch(node, now);
        match self.members.insert(node, id) {
            Some(older) if older != id => {
                self.end(older, Ending::Replaced);
                false
            }
            Some(_) => false,
            None => true,
        }
    }

    /// Removes a connection; the member that is not connected here any more because of it.
    pub(crate) fn detach(&mut self, id: ConnectionId) -> Option<NodeId> {
        self.connections.remove(&id);
        let (&node, _) = self.members.iter().find(|(_, holder)| **holder == id)?;
        self.members.remove(&node);
        Some(node)
    }

    /// Notes a sign of life.
    pub(crate) fn touch(&mut self, node: NodeId, now: u64) {
        self.seen.insert(
            node,
            Seen {
                at: now,
                saved: false,
            },
        );
    }

    /// Signs of life that were not taken before, to be written down.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(NodeId, u64)> {
        let unsaved = self.seen.iter_mut().filter(|(_, seen)| !seen.saved);
        unsaved
            .map(|(node, seen)| {
                seen.saved = true;
                (*node, seen.at)
            })
            .collect()
    }

    /// Tells all connections of a change, which gets the next revision.
    pub(crate) fn publish(&mut self, change: impl FnOnce(u64) -> ServerMessage) {
        self.revision += 1;
        let text = encode(&change(self.revision));
        let mut slow = Vec::new();
        for (id, connection) in &self.connections {
            if connection.queue.try_send(text.clone()).is_err() {
                slow.push(*id);
            }
        }
        for id in slow {
            self.end(id, Ending::Resync);
        }
    }

    /// Puts a message into a member's mailbox; `false` if it has no live connection or does not keep up.
    pub(crate) fn deliver(&mut self, to: &NodeId, message: &ServerMessage) -> bool {
        let Some(&id) = self.members.get(to) else {
            return false;
        };
        let Some(connection) = self.connections.get(&id) else {
            return false;
        };
        let delivered = connection.queue.try_send(encode(message)).is_ok();
        if !delivered {
            self.end(id, Ending::Resync);
        }
        delivered
    }

    /// Ends the connection of a member that was deregistered.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.seen.remove(node);
        self.elsewhere.remove(node);
        if let Some(id) = self.members.remove(node) {
            self.end(id, Ending::Deregistered);
        }
    }

    /// Forgets who is connected to other servers.
    pub(crate) fn forget_elsewhere(&mut self) {
        self.elsewhere.clear();
    }

    /// Ends all connections.
    pub(crate) fn end_all(&mut self, ending: Ending) {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.end(id, ending);
        }
    }

    /// The connection gets no further message; its task says why and detaches it.
    fn end(&mut self, id: ConnectionId, ending: Ending) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.ending.send_replace(Some(ending));
        }
    }
}

/// A message as the text that goes onto a WebSocket.
pub(crate) fn encode(message: &ServerMessage) -> Utf8Bytes {
    serde_json::to_string(message)
        .expect("a server message has no map with keys that are not strings")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn change(revision: u64) -> ServerMessage {
        ServerMessage::PeerLeft {
            revision,
            node_id: node(9),
        }
    }

    #[test]
    fn revisions_rise_and_those_of_a_later_epoch_are_greater() {
        let mut hub = Hub::new(1);
        let mut attachment = hub.attach().unwrap();
        let before = hub.revision();
        hub.publish(change);
        hub.publish(change);
        assert_eq!(hub.revision(), before + 2);
        assert_eq!(attachment.queue.try_recv(), Ok(encode(&change(before + 1))));
        assert!(Hub::new(2).revision() > hub.revision());
    }

    #[test]
    fn presence_begins_with_a_claim_and_ends_with_its_connection() {
        let mut hub = Hub::new(0);
        let id = hub.attach().unwrap().id;
        assert!(!hub.online(&node(1)));
        assert!(hub.claim(id, node(1), 7));
        assert!(hub.online(&node(1)));
        assert_eq!(hub.last_seen(&node(1)), Some(7));
        assert_eq!(hub.detach(id), Some(node(1)));
        assert!(!hub.online(&node(1)));
        assert_eq!(hub.counts(), (0, 0));
    }

    #[test]
    fn a_newer_claim_replaces_the_older_connection_without_an_offline_gap() {
        let mut hub = Hub::new(0);
        let (old, mut new) = (hub.attach().unwrap(), hub.attach().unwrap());
        assert!(hub.claim(old.id, node(1), 0));
        assert!(!hub.claim(new.id, node(1), 0));
        assert_eq!(*old.ending.borrow(), Some(Ending::Replaced));
        assert_eq!(hub.detach(old.id), None);
        assert!(hub.online(&node(1)));
        assert!(hub.deliver(&node(1), &change(0)));
        assert!(new.queue.try_recv().is_ok());
    }

    #[test]
    fn a_slow_connection_is_ended_and_the_others_lose_nothing() {
        let mut hub = Hub::new(0);
        let (slow, mut quick) = (hub.attach().unwrap(), hub.attach().unwrap());
        for _ in 0..=QUEUE {
            hub.publish(change);
            assert!(quick.queue.try_recv().is_ok());
        }
        assert_eq!(*slow.ending.borrow(), Some(Ending::Resync));
        assert_eq!(*quick.ending.borrow(), None);
    }

    #[test]
    fn a_full_mailbox_is_undeliverable() {
        let mut hub = Hub::new(0);
        let member = hub.attach().unwrap();
        assert!(!hub.deliver(&node(1), &change(0)));
        hub.claim(member.id, node(1), 0);
        let delivered = (0..=QUEUE).filter(|_| hub.deliver(&node(1), &change(0)));
        assert_eq!(delivered.count(), QUEUE);
        assert_eq!(*member.ending.borrow(), Some(Ending::Resync));
    }

    #[test]
    fn connections_are_bounded() {
        let mut hub = Hub::new(0);
        let held: Vec<Attachment> = std::iter::from_fn(|| hub.attach()).collect();
        assert_eq!(held.len(), MAX_CONNECTIONS);
        hub.detach(held[0].id);
        assert!(hub.attach().is_some());
    }

    #[test]
    fn signs_of_life_are_taken_once() {
        let mut hub = Hub::new(0);
        hub.touch(node(1), 5);
        assert_eq!(hub.take_unsaved(), [(node(1), 5)]);
        assert_eq!(hub.take_unsaved(), []);
        hub.touch(node(1), 6);
        assert_eq!(hub.take_unsaved(), [(node(1), 6)]);
    }

    #[test]
    fn a_deregistered_member_loses_its_connection() {
        let mut hub = Hub::new(0);
        let member = hub.attach().unwrap();
        hub.claim(member.id, node(1), 0);
        hub.forget(&node(1));
        assert!(!hub.online(&node(1)));
        assert_eq!(*member.ending.borrow(), Some(Ending::Deregistered));
    }
}
