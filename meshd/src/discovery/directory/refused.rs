//! Whom does a server list that we do not take for a member, and why? It is told to the user, and judged again later.

use mesh_wire::{
    id::check_dns_label,
    peer_info::PeerInfo,
    trust::{Certificate, Issuer},
};

use super::{Believed, Claim, certificate_end, shares_address};

/// Members of whom it is kept; the log tells of the others.
const MAX_REFUSED: usize = 16;

/// Why somebody is not taken for a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// Nobody who may has signed that it is one, or what is said of it cannot be.
    Unsigned,
    /// A key that it rests on is revoked, or its certificate is over. Old records are about for a while.
    Over,
    /// It came by a link for some machines, and these were heard of first.
    LinkUsedUp {
        /// For how many.
        uses: u32,
        /// Their names.
        by: Vec<String>,
    },
    /// It has the address or session key of this member.
    Claims {
        /// The other's name.
        of: String,
        /// Whether a server still lists the other.
        is_listed: bool,
    },
}

impl Believed {
    /// Whether the member is none, or claims what is another's. What has an owner stays with whom it was known first, as
    /// long as the server lists that one too.
    pub(super) fn objection(&self, peer: &PeerInfo, now: u64) -> Option<Objection> {
        if !self.scope.admits(peer) {
            return Some(Objection::Unsigned);
        }
        if self.revoked.has(&peer.record) || certificate_end(peer) < self.latest(now) {
            return Some(Objection::Over);
        }
        if let Some(why) = self.link_objection(peer) {
            return Some(why);
        }
        let node = peer.record.node_id;
        let owner = self.directory.peers.iter().find(|known| {
            let other = known.record.node_id;
            let claims = known.record.wireguard_key == peer.record.wireguard_key
                || shares_address(known, peer);
            let is_left = || self.unlisted.contains_key(&other) && may_follow(peer);
            other != node && claims && !is_left()
        })?;
        Some(Objection::Claims {
            of: owner.name.clone(),
            is_listed: !self.unlisted.contains_key(&owner.record.node_id),
        })
    }

    /// Keeps in mind whom a server lists and we do not take in.
    pub(super) fn refuse(&mut self, peer: PeerInfo, claim: Claim, why: &Objection) {
        self.rejected += 1;
        let node = peer.record.node_id;
        let is_worth_it = match why {
            Objection::Unsigned | Objection::LinkUsedUp { .. } | Objection::Claims { .. } => true,
            Objection::Over => false,
        };
        let has_room = self.refused.len() < MAX_REFUSED || self.refused.contains_key(&node);
        match claim {
            Claim::Of(server, _) if is_worth_it && has_room => {
                self.refused.insert(node, (server, peer));
            }
            Claim::Of(..) | Claim::Ours => {}
        }
    }

    /// Whom the servers list and we refuse: the name that they give it, or else its id, and why.
    pub fn refused(&self, now: u64) -> Vec<(String, Objection)> {
        let listed = self.refused.values().map(|(_, peer)| peer);
        let listed = listed.filter(|peer| self.presence.is_listed(&peer.record.node_id));
        let judged = listed.filter_map(|peer| {
            // A name is the server's word so far, and is shown to the user.
            let name = match check_dns_label("name", &peer.name) {
                Ok(_) => peer.name.clone(),
                Err(_) => peer.record.node_id.short(),
            };
            Some((name, self.objection(peer, now)?))
        });
        judged.collect()
    }

    /// Forgets who has not been listed for long, and judges again whom we refused. Whether anything changed.
    pub fn review(&mut self, now: u64) -> bool {
        let mut changed = self.forget_gone(now);
        // What it was refused for before is not the server's fault again.
        let rejected = self.rejected;
        for (node, (server, peer)) in std::mem::take(&mut self.refused) {
            if self.presence.is_listed(&node) {
                changed |= self.put(peer, now, Claim::Of(server, None));
            }
        }
        self.rejected = rejected;
        self.settle();
        changed
    }
}

/// Whether this member may have what belongs to one that is not listed any more. Not by a link: its holder signs for
/// whatever it likes, and a server that leaves somebody out may be in league with it.
fn may_follow(peer: &PeerInfo) -> bool {
    let certificate = peer.record.stated_certificate();
    let is_by_link = |certificate: Certificate| matches!(certificate.issuer, Issuer::Invite(_));
    !certificate.is_some_and(is_by_link)
}
