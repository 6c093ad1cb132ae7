//! Whom does each server list, and whom do they say to be online?

use std::collections::{BTreeMap, BTreeSet};

use mesh_wire::{NodeId, peer_info::PeerInfo, trust::ListView};

use super::connection::ServerId;

/// The most members of one server's list that are kept; an honest one has half as many.
const MAX_LISTED: usize = 2_000;

/// What one server says of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The sequence number of the record that it shows.
    pub seq: u64,
    online: bool,
    last_seen: u64,
}

/// The list of one server.
#[derive(Debug, Default)]
struct List {
    members: BTreeMap<NodeId, Seen>,
    /// Whether the server would tell us of changes.
    live: bool,
    /// Whether it lists only those that we follow.
    partial: bool,
}

/// The lists of all servers.
#[derive(Debug, Default)]
pub struct Presence {
    lists: BTreeMap<ServerId, List>,
    /// The servers that are used, also those that have given no list.
    expected: BTreeSet<ServerId>,
}

impl Presence {
    /// Takes a whole list; returns the one that the server had before.
    pub fn replace(&mut self, server: ServerId, peers: &[PeerInfo]) -> BTreeMap<NodeId, Seen> {
        let peers = peers.iter().take(MAX_LISTED);
        let members = peers.map(|peer| (peer.record.node_id, seen(peer)));
        let list = List {
            members: members.collect(),
            live: true,
            partial: false,
        };
        let before = self.lists.insert(server, list);
        before.map(|list| list.members).unwrap_or_default()
    }

    /// The server lists only those that we follow, one after the other.
    pub fn begin_partial(&mut self, server: ServerId) {
        let list = List {
            members: BTreeMap::new(),
            live: true,
            partial: true,
        };
        self.lists.insert(server, list);
    }

    /// Whether the server lists only those that we follow.
    pub fn is_partial(&self, server: ServerId) -> bool {
        self.lists.get(&server).is_some_and(|list| list.partial)
    }

    /// Takes one member; returns what the server said of it before.
    pub fn note(&mut self, server: ServerId, peer: &PeerInfo) -> Option<Seen> {
        let list = self.lists.entry(server).or_default();
        let node = peer.record.node_id;
        if list.members.len() >= MAX_LISTED && !list.members.contains_key(&node) {
            return None;
        }
        list.members.insert(node, seen(peer))
    }

    /// The server does not list the member any more.
    pub fn remove(&mut self, server: ServerId, node: &NodeId) {
        if let Some(list) = self.lists.get_mut(&server) {
            list.members.remove(node);
        }
    }

    /// The connection to the server is lost: its list says who is a member, but not who is there.
    pub fn lose(&mut self, server: ServerId) {
        if let Some(list) = self.lists.get_mut(&server) {
            list.live = false;
        }
    }

    /// The server's list counts no more.
    pub fn forget(&mut self, server: ServerId) {
        self.lists.remove(&server);
        self.expected.remove(&server);
    }

    /// These servers are used.
    pub fn expect(&mut self, servers: impl Iterator<Item = ServerId>) {
        self.expected = servers.collect();
    }

    /// Whether each server that is used has said whom it lists, and would tell us who comes.
    pub fn hears_all(&self) -> bool {
        let mut lists = self.lists.values();
        let mut expected = self.expected.iter();
        !self.lists.is_empty()
            && lists.all(|list| list.live && !list.partial)
            && expected.all(|server| self.lists.contains_key(server))
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whom the servers list, as far as they would tell us of changes.
    pub fn view(&self) -> ListView {
        if self.is_empty() || self.lists.values().any(|list| !list.live) {
            return ListView::Unknown;
        }
        if self.lists.values().any(|list| list.partial) {
            return ListView::Part;
        }
        let listed = self.lists.values().flat_map(|list| list.members.keys());
        ListView::whole(listed.collect::<BTreeSet<_>>().into_iter())
    }

    /// Whether only one server has given a list.
    pub fn is_of_one(&self) -> bool {
        self.lists.len() == 1
    }

    /// Whether some server lists the member.
    pub fn is_listed(&self, node: &NodeId) -> bool {
        self.lists
            .values()
            .any(|list| list.members.contains_key(node))
    }

    /// Whether a server other than this one lists the member.
    pub fn is_listed_beside(&self, server: ServerId, node: &NodeId) -> bool {
        let mut others = self.lists.iter().filter(|(other, _)| **other != server);
        others.any(|(_, list)| list.members.contains_key(node))
    }

    /// Whether this server says that the member is there.
    pub fn is_online_at(&self, server: ServerId, node: &NodeId) -> bool {
        let list = self.lists.get(&server);
        let seen = list.and_then(|list| list.members.get(node));
        seen.is_some_and(|seen| seen.online)
    }

    /// Whether the member is there, and when it was last; `None` if no server lists it. Servers that are lost are asked only
    /// if all are.
    pub fn of(&self, node: &NodeId) -> Option<(bool, u64)> {
        let any_live = self.lists.values().any(|list| list.live);
        let listed = self.lists.values();
        let listed = listed.filter_map(|list| Some((list.live, list.members.get(node)?)));
        listed
            .map(|(live, seen)| (seen.online && (live || !any_live), seen.last_seen))
            .reduce(|a, b| (a.0 || b.0, a.1.max(b.1)))
    }
}

fn seen(peer: &PeerInfo) -> Seen {
    Seen {
        seq: peer.record.seq,
        online: peer.online,
        last_seen: peer.last_seen,
    }
}
