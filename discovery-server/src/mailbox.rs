//! Who is connected to a network's events, and what waits to be sent to whom?
//!
//! One [`Hub`] per network, in memory only. Nothing here blocks: a connection whose queue is full is ended, so that
//! it delays nobody else.

mod interest;

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::ws::Utf8Bytes;
use mesh_wire::{NodeId, discovery::ServerMessage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use self::interest::Interest;
use crate::registry::MAX_MEMBERS;

/// Messages that wait for one slow connection before it must resynchronize.
pub(crate) const QUEUE: usize = 256;

/// Their bytes: 256 changes of members, or 32 of the longest letters. A thousand members that do not read must not fill
/// the memory of all.
const QUEUE_BYTES: usize = 256 * 1024;

/// Connections per network: each member's, and as many again that are being replaced or only watch.
const MAX_CONNECTIONS: usize = 2 * MAX_MEMBERS;

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It read too slowly and missed messages.
    Resync,
    /// The server may have missed what other servers told.
    BeganAnew,
    /// The server is cut off from its database.
    CutOff,
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
    pub(crate) queue: Inbox,
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
    /// Whose presence each connection is, or was.
    holders: BTreeMap<ConnectionId, NodeId>,
    /// Members that are connected to other servers, and to which, in the order in which they came there.
    elsewhere: BTreeMap<NodeId, Vec<u64>>,
    seen: BTreeMap<NodeId, Seen>,
    interest: Interest,
}

#[derive(Debug)]
struct Connection {
    queue: mpsc::Sender<Box<Waiting>>,
    room: Arc<Semaphore>,
    ending: watch::Sender<Option<Ending>>,
    hears: Hears,
}

/// Of whom a connection hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Of all.
    Everybody,
    /// Of those that it follows.
    Followed,
}

impl Connection {
    /// Whether there was room for the message.
    fn put(&self, text: &Utf8Bytes) -> bool {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(length);
        let waiting = |_room| {
            Box::new(Waiting {
                text: text.clone(),
                _room,
            })
        };
        room.is_ok_and(|room| self.queue.try_send(waiting(room)).is_ok())
    }
}

/// A message with the room that it takes. In a box, since each queue keeps places for some sixty, mostly empty.
#[derive(Debug)]
struct Waiting {
    text: Utf8Bytes,
    _room: OwnedSemaphorePermit,
}

/// The end of a queue at which its connection takes messages out.
#[derive(Debug)]
pub(crate) struct Inbox(mpsc::Receiver<Box<Waiting>>);

impl Inbox {
    /// The next message; its room is free from now on.
    pub(crate) async fn recv(&mut self) -> Option<Utf8Bytes> {
        self.0.recv().await.map(|waiting| waiting.text)
    }
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
            holders: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            seen: BTreeMap::new(),
            interest: Interest::default(),
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

    /// Another server that the member is connected to: the one that it came to last, the others may be dead.
    pub(crate) fn elsewhere(&self, node: &NodeId) -> Option<u64> {
        self.elsewhere.get(node)?.last().copied()
    }

    /// Notes that a member is connected to another server, or not any more; whether it came online or went offline by that.
    pub(crate) fn set_elsewhere(&mut self, node: NodeId, (replica, there): (u64, bool)) -> bool {
        let before = self.online(&node);
        let at = self.elsewhere.entry(node).or_default();
        at.retain(|other| *other != replica);
        at.extend(there.then_some(replica));
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
    pub(crate) fn attach(&mut self, hears: Hears) -> Option<Attachment> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let (ending_sender, ending) = watch::channel(None);
        let id = self.next_id;
        self.next_id += 1;
        let connection = Connection {
            queue: sender,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            ending: ending_sender,
            hears,
        };
        if hears == Hears::Everybody {
            self.interest.everybody(id);
        }
        self.connections.insert(id, connection);
        Some(Attachment {
            id,
            queue: Inbox(queue),
            ending,
        })
    }

    /// Makes a connection the presence and mailbox of `node`, in place of an older one; whether it was not that already, and so
    /// the member has come here now.
    pub(crate) fn claim(&mut self, id: ConnectionId, node: NodeId, now: u64) -> bool {
        self.touch(node, now);
        self.holders.insert(id, node);
        match self.members.insert(node, id) {
            Some(older) if older != id => {
                self.end(older, Ending::Replaced);
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// Removes a connection; the member that is not connected here any more because of it.
    pub(crate) fn detach(&mut self, id: ConnectionId) -> Option<NodeId> {
        self.connections.remove(&id);
        self.interest.forget(id);
        let node = self.holders.remove(&id)?;
        // A newer connection may have taken its place.
        if self.members.get(&node) != Some(&id) {
            return None;
        }
        self.members.remove(&node);
        Some(node)
    }

    /// Lets a connection hear of a member from now on; whether it was not its to hear before. `None`: it follows too many.
    pub(crate) fn follow(&mut self, id: ConnectionId, node: NodeId) -> Option<bool> {
        match self.connections.get(&id)?.hears {
            Hears::Everybody => Some(false),
            Hears::Followed => self.interest.follow(id, node),
        }
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

    /// Signs of life that were not taken before, to be written down: of those who are offline, as those of the others change
    /// all the time; at the end, of all.
    pub(crate) fn take_unsaved(&mut self, at_the_end: bool) -> Vec<(NodeId, u64)> {
        let members = &self.members;
        let unsaved = self
            .seen
            .iter_mut()
            .filter(|(node, seen)| !seen.saved && (at_the_end || !members.contains_key(*node)));
        unsaved
            .map(|(node, seen)| {
                seen.saved = true;
                (*node, seen.at)
            })
            .collect()
    }

    /// What was taken could not be written down.
    pub(crate) fn put_back_unsaved(&mut self, node: &NodeId) {
        if let Some(seen) = self.seen.get_mut(node) {
            seen.saved = false;
        }
    }

    /// Tells of a change, which gets the next revision: whoever hears of `about`, or all connections if it is about nobody.
    pub(crate) fn publish(
        &mut self,
        about: Option<&NodeId>,
        change: impl FnOnce(u64) -> ServerMessage,
    ) {
        self.revision += 1;
        let text = encode(&change(self.revision));
        let audience: Vec<ConnectionId> = match about {
            Some(node) => self.interest.of(node).collect(),
            None => self.connections.keys().copied().collect(),
        };
        for id in audience {
            self.put(id, &text);
        }
    }

    /// Tells one connection something. One that does not keep up is ended.
    pub(crate) fn put(&mut self, id: ConnectionId, text: &Utf8Bytes) -> bool {
        let Some(connection) = self.connections.get(&id) else {
            return false;
        };
        let is_taken = connection.put(text);
        if !is_taken {
            self.end(id, Ending::Resync);
        }
        is_taken
    }

    /// Puts a message into a member's mailbox; `false` if it has no live connection or does not keep up.
    pub(crate) fn deliver(&mut self, to: &NodeId, message: &ServerMessage) -> bool {
        match self.members.get(to) {
            Some(&id) => self.put(id, &encode(message)),
            None => false,
        }
    }

    /// The connection that is this member's mailbox.
    pub(crate) fn mailbox(&self, node: &NodeId) -> Option<ConnectionId> {
        self.members.get(node).copied()
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
        self.interest.forget(id);
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
mod tests;
