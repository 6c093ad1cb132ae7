//! What follows from a server's list?

use std::collections::BTreeSet;

use mesh_wire::{NodeId, peer_info::PeerInfo, trust::ListView};

use super::{AHEAD, Believed, Claim, KEPT, certificate_end, remove};
use crate::discovery::connection::ServerId;

impl Believed {
    /// Whether the server lists only those that we follow.
    pub fn is_partial(&self, server: ServerId) -> bool {
        self.presence.is_partial(server)
    }

    /// Whether each server has said whom it lists, all of them, and would tell us who comes.
    pub fn hears_all(&self) -> bool {
        self.presence.hears_all()
    }

    /// Whom the servers list, in short.
    pub fn list_view(&self) -> ListView {
        self.presence.view()
    }

    /// Takes the list that a server begins with; whether it changed anything.
    pub(super) fn take_list(
        &mut self,
        server: ServerId,
        (revision, peers): (u64, &[PeerInfo]),
        (complete, revocations): (bool, &[String]),
        now: u64,
    ) -> bool {
        let before = self.directory.clone();
        for text in revocations {
            self.revoked.learn_text(text);
        }
        if !complete {
            // Whoever we know and ask for comes next; who does not is kept for a while, as always.
            self.presence.begin_partial(server);
            self.note_listed(now);
        } else {
            let now = self.latest_listed(peers, now);
            let before_that = self.presence.replace(server, peers);
            self.note_listed(now);
            for peer in peers {
                let shown = before_that.get(&peer.record.node_id).copied();
                self.put(peer.clone(), now, Claim::Of(server, shown));
            }
        }
        self.drop_the_revoked();
        self.directory.revision = revision;
        self.directory != before
    }

    /// Notes whom the servers list, and forgets who is gone.
    pub(super) fn note_listed(&mut self, now: u64) {
        let presence = &self.presence;
        self.unlisted.retain(|node, _| !presence.is_listed(node));
        for known in &mut self.directory.peers {
            let node = known.record.node_id;
            if !self.presence.is_listed(&node) {
                known.online = false;
                self.unlisted.entry(node).or_insert(now);
            }
        }
        self.refresh();
        self.forget_gone(now);
    }

    /// Forgets who has not been listed for long, or whose certificate is over; whether there was anybody.
    pub(super) fn forget_gone(&mut self, now: u64) -> bool {
        let gone: BTreeSet<NodeId> = self
            .unlisted
            .iter()
            .filter(|(_, since)| now.saturating_sub(**since) > KEPT)
            .map(|(node, _)| *node)
            .collect();
        let expired = self.latest(now);
        remove((&mut self.directory, &mut self.unlisted), |peer| {
            gone.contains(&peer.record.node_id) || certificate_end(peer) < expired
        })
    }

    /// As [`Self::latest`] where nobody is known yet: our clock is compared with what is listed, if it lists two, because one
    /// alone is no witness for itself. Our own certificate is one.
    fn latest_listed(&self, peers: &[PeerInfo], now: u64) -> u64 {
        let is_other = |peer: &&PeerInfo| peer.record.node_id != self.scope.node_id;
        if self.directory.peers.iter().any(|peer| is_other(&peer)) {
            return now;
        }
        let others = peers.iter().filter(is_other);
        let times: Vec<u64> = others
            .filter(|peer| self.scope.admits(peer))
            .map(|peer| peer.record.seq)
            .collect();
        let newest = times.iter().max().filter(|_| times.len() > 1).copied();
        let newest = newest.or_else(|| self.own_beginning(peers));
        newest.map_or(now, |newest| now.min(newest.saturating_add(AHEAD)))
    }
}

#[cfg(test)]
mod tests;
