//! What do we believe of what the servers say about members? Only what is signed, and never less than we knew: an older
//! record does not replace a newer one, neither an error nor an empty server empties the list, and who is revoked stays out.
//! Whom one server lists is a member, whatever the others list, and online if one of them says so.

use std::collections::BTreeMap;

use mesh_wire::{
    NodeId,
    discovery::ServerMessage,
    peer_info::{Directory, PeerInfo},
    trust::Revocation,
};

mod counted;
mod listed;
mod met;
mod refused;

pub use refused::Objection;

use super::{
    connection::ServerId,
    presence::{Presence, Seen},
    scope::Scope,
};
use crate::trust::{links::Links, revoked::Revoked};

/// How long a member is kept, as offline, that the server does not list any more: it may have lost its records, and whoever
/// is there registers again within the hour. In seconds.
const KEPT: u64 = 24 * 3600;

/// By how much our clock may be ahead of the newest record that others signed before it is not believed: a certificate that
/// would have expired meanwhile still holds. In seconds.
const AHEAD: u64 = 30 * 24 * 3600;

/// The most members that are kept: twice what a discovery server of this version admits. One that lists more is hostile
/// or broken; the first ones still work.
const MAX_PEERS: usize = 2_000;

/// The directory as it is being heard.
#[derive(Debug)]
pub struct Believed {
    scope: Scope,
    directory: Directory,
    revoked: Revoked,
    /// Whom each server lists.
    presence: Presence,
    /// Members that no server lists any more, and since when.
    unlisted: BTreeMap<NodeId, u64>,
    /// Members that a server lists and that are refused, as it showed them.
    refused: BTreeMap<NodeId, (ServerId, PeerInfo)>,
    /// Whom links for some machines have let in.
    links: Links,
    evicted: bool,
    rejected: u64,
}

impl Believed {
    /// Begins with what an earlier run had heard.
    pub fn new(scope: Scope, cached: Directory, now: u64) -> Self {
        Self::counting(scope, cached, Links::default(), now)
    }

    /// As [`Self::new`], with whom links had let in as it had heard.
    pub fn counting(scope: Scope, cached: Directory, links: Links, now: u64) -> Self {
        let mut believed = Self {
            revoked: Revoked::new(scope.root.clone(), &cached.revocations),
            scope,
            directory: Directory::default(),
            presence: Presence::default(),
            unlisted: BTreeMap::new(),
            refused: BTreeMap::new(),
            links,
            evicted: false,
            rejected: 0,
        };
        for peer in cached.peers {
            // Nobody is online just because it was when the cache was written.
            let peer = PeerInfo {
                online: false,
                ..peer
            };
            believed.put(peer, now, Claim::Ours);
        }
        believed.directory.revision = cached.revision;
        believed.directory.revocations = believed.revoked.texts();
        believed
    }

    /// The members as they stand.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// How many records were refused because nobody had signed them, or because they were older than what is known.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Takes a message of a server; returns whether it changed anything.
    pub fn apply(&mut self, server: ServerId, message: &ServerMessage, now: u64) -> bool {
        self.evicted = false;
        let changed = self.take(server, message, now);
        self.settle();
        changed
    }

    fn take(&mut self, server: ServerId, message: &ServerMessage, now: u64) -> bool {
        match message {
            ServerMessage::Snapshot {
                revision,
                complete,
                peers,
                revocations,
            } => {
                let list = (*revision, peers.as_slice());
                self.take_list(server, list, (*complete, revocations), now)
            }
            ServerMessage::PeerJoined { revision, peer }
            | ServerMessage::PeerUpdated { revision, peer } => {
                self.directory.revision = *revision;
                let shown = self.presence.note(server, peer);
                self.put(PeerInfo::clone(peer), now, Claim::Of(server, shown))
            }
            ServerMessage::PeerLeft { revision, node_id } => {
                self.directory.revision = *revision;
                self.presence.remove(server, node_id);
                if self.presence.is_listed(node_id) {
                    return self.refresh();
                }
                if self.scope.root.is_none() {
                    // Who is a member is the server's to say.
                    let members = (&mut self.directory, &mut self.unlisted);
                    return remove(members, |peer| peer.record.node_id == *node_id);
                }
                let before = self.directory.clone();
                self.note_listed(now);
                self.directory != before
            }
            ServerMessage::Revoked {
                revision,
                revocation,
            } => {
                self.directory.revision = *revision;
                let news = self.revoked.learn_text(revocation);
                if news {
                    self.drop_the_revoked();
                }
                news
            }
            ServerMessage::Challenge { .. }
            | ServerMessage::Signal { .. }
            | ServerMessage::Turn(_)
            | ServerMessage::Undeliverable { .. }
            | ServerMessage::Error { .. } => false,
        }
    }

    /// Takes in a revocation that did not come from the server; whether it is news.
    pub fn revoke(&mut self, revocation: &Revocation) -> bool {
        let news = self.revoked.learn(revocation);
        if news {
            self.drop_the_revoked();
        }
        news
    }

    /// Revocations that were learnt and not yet taken, `most` of them.
    pub fn take_news(&mut self, most: usize) -> Vec<Revocation> {
        self.revoked.take_news(most)
    }

    /// The revocations that are known.
    pub fn revocations(&self) -> &Revoked {
        &self.revoked
    }

    /// We hear nothing of this server at the moment: who is online is what the others say. Without any other, what was said
    /// last stays. Whether anything changed.
    pub fn lost(&mut self, server: ServerId) -> bool {
        self.presence.lose(server);
        self.refresh()
    }

    /// The server is used no more. Whether anything changed.
    pub fn forget(&mut self, server: ServerId, now: u64) -> bool {
        self.presence.forget(server);
        // With the last one gone, who was listed there is not gone.
        if self.presence.is_empty() {
            return false;
        }
        let before = self.directory.clone();
        self.note_listed(now);
        self.directory != before
    }

    /// Whether this server says that the member is there.
    pub fn is_online_at(&self, server: ServerId, node: &NodeId) -> bool {
        self.presence.is_online_at(server, node)
    }

    /// Brings presence up to date; whether anything changed.
    fn refresh(&mut self) -> bool {
        let mut changed = false;
        for known in &mut self.directory.peers {
            if let Some((online, last_seen)) = self.presence.of(&known.record.node_id) {
                changed |= known.online != online;
                known.online = online;
                known.last_seen = last_seen;
            }
        }
        changed
    }

    fn drop_the_revoked(&mut self) {
        self.directory.revocations = self.revoked.texts();
        let revoked = &self.revoked;
        let members = (&mut self.directory, &mut self.unlisted);
        remove(members, |peer| revoked.has(&peer.record));
    }

    /// Whether the last message made us forget members for others that it did not name.
    pub fn has_evicted(&self) -> bool {
        self.evicted
    }

    /// What time it is at the latest: our clock may be years ahead, those of all members are not. Their sequence numbers
    /// are times, see [`mesh_wire::peer_info::PeerRecord::seq`].
    fn latest(&self, now: u64) -> u64 {
        let others = self
            .directory
            .peers
            .iter()
            .filter(|peer| peer.record.node_id != self.scope.node_id);
        let newest = others.map(|peer| peer.record.seq).max();
        let newest = newest.or_else(|| self.own_beginning(&self.directory.peers));
        newest.map_or(now, |newest| now.min(newest.saturating_add(AHEAD)))
    }

    /// When our own certificate begins. Its date is its issuer's, or within the time that our link holds.
    fn own_beginning(&self, peers: &[PeerInfo]) -> Option<u64> {
        let is_own = |peer: &&PeerInfo| peer.record.node_id == self.scope.node_id;
        let own = peers.iter().find(is_own)?;
        let is_genuine = self.scope.admits(own);
        let certificate = own.record.stated_certificate().filter(|_| is_genuine)?;
        Some(certificate.binding.span.from)
    }

    /// Takes a member in, or what is new of it; whether anything changed.
    fn put(&mut self, mut peer: PeerInfo, now: u64, claim: Claim) -> bool {
        self.keep_agreed(&mut peer, claim);
        if let Some(why) = self.objection(&peer, now) {
            self.count_refused(&peer, &why, now);
            self.refuse(peer, claim, &why);
            return false;
        }
        self.count(&peer, now);
        let node = peer.record.node_id;
        self.refused.remove(&node);
        let known = self.directory.by_node(&node);
        if known.is_some_and(|known| peer.record.seq < known.record.seq) {
            self.rejected += u64::from(self.takes_back(&peer, claim));
        } else {
            self.make_room(&peer);
        }
        self.unlisted.remove(&node);
        let peers = &mut self.directory.peers;
        if let Some(known) = peers
            .iter_mut()
            .find(|known| known.record.node_id == peer.record.node_id)
        {
            if peer.record.seq < known.record.seq {
                peer = PeerInfo {
                    online: peer.online,
                    last_seen: peer.last_seen,
                    ..known.clone()
                };
            }
            let changed = *known != peer;
            *known = peer;
            return changed;
        }
        if peers.len() >= MAX_PEERS {
            self.rejected += 1;
            return false;
        }
        let at = peers.partition_point(|known| known.name < peer.name);
        peers.insert(at, peer);
        true
    }

    /// Presence is what all servers say of it. So are, in a network without a key, name and address: they are nobody's word
    /// but theirs, and what was agreed first stays while another server still says so.
    fn keep_agreed(&self, peer: &mut PeerInfo, claim: Claim) {
        let Claim::Of(server, _) = claim else {
            return;
        };
        let node = peer.record.node_id;
        if let Some((online, last_seen)) = self.presence.of(&node) {
            (peer.online, peer.last_seen) = (online, last_seen);
        }
        if self.scope.root.is_none()
            && self.presence.is_listed_beside(server, &node)
            && let Some(known) = self.directory.by_node(&node)
        {
            peer.name.clone_from(&known.name);
            peer.virtual_ips.clone_from(&known.virtual_ips);
        }
    }

    /// Whether an older record than the known one is the server's fault. One of several may never have seen the newer one.
    fn takes_back(&self, peer: &PeerInfo, claim: Claim) -> bool {
        match claim {
            Claim::Of(_, Some(shown)) if peer.record.seq < shown.seq => true,
            Claim::Of(..) => self.presence.is_of_one(),
            Claim::Ours => true,
        }
    }

    /// Forgets members that the server has ceased to list, and whose key or address is now this one's.
    fn make_room(&mut self, peer: &PeerInfo) {
        if self.unlisted.is_empty() {
            return;
        }
        let node = peer.record.node_id;
        self.evicted |= remove((&mut self.directory, &mut self.unlisted), |known| {
            known.record.node_id != node
                && (known.record.wireguard_key == peer.record.wireguard_key
                    || shares_address(known, peer))
        });
    }
}

/// Who says something of a member.
#[derive(Debug, Clone, Copy)]
enum Claim {
    /// No server: we in an earlier run, or the member itself on our LAN.
    Ours,
    /// This server, and what it said of the member before.
    Of(ServerId, Option<Seen>),
}

/// Removes members; whether there were any such.
fn remove(
    (directory, unlisted): (&mut Directory, &mut BTreeMap<NodeId, u64>),
    which: impl Fn(&PeerInfo) -> bool,
) -> bool {
    let before = directory.peers.len();
    directory.peers.retain(|peer| !which(peer));
    unlisted.retain(|node, _| directory.by_node(node).is_some());
    before != directory.peers.len()
}

fn shares_address(a: &PeerInfo, b: &PeerInfo) -> bool {
    a.virtual_ips.iter().any(|ip| b.virtual_ips.contains(ip))
}

/// Until when the member is one; for good where no certificate says.
fn certificate_end(peer: &PeerInfo) -> u64 {
    let certificate = peer.record.stated_certificate();
    certificate.map_or(u64::MAX, |certificate| certificate.binding.span.until)
}

#[cfg(test)]
mod tests;
