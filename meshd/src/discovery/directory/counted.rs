//! Whom do links for some machines let in? Whoever is heard of first, and nobody beyond a link's number until its maker has
//! vouched for them: each discovery server counts for itself alone.

use mesh_wire::{NodeId, peer_info::PeerInfo, trust::Issuer};

use super::{Believed, Objection};
use crate::trust::links::Links;

impl Believed {
    /// What is known of links.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// All that is known of links is written down.
    pub fn links_saved(&mut self) {
        self.links.saved();
    }

    /// Why the link that it came by does not let this member in, if so. Ourselves we do not judge.
    pub(super) fn link_objection(&self, peer: &PeerInfo) -> Option<Objection> {
        if peer.record.node_id == self.scope.node_id {
            return None;
        }
        let certificate = peer.record.stated_certificate()?;
        let (uses, by) = self.links.used_up(&certificate)?;
        let by = by.iter().map(|node| self.name_of(node)).collect();
        Some(Objection::LinkUsedUp { uses, by })
    }

    /// Counts a member that is let in.
    pub(super) fn count(&mut self, peer: &PeerInfo) {
        if let Some(certificate) = peer.record.stated_certificate() {
            self.links.note(&certificate);
        }
    }

    /// Keeps in mind who came by a link that was used up: its maker puts it out.
    pub(super) fn count_refused(&mut self, peer: &PeerInfo, why: &Objection, now: u64) {
        if let Objection::LinkUsedUp { .. } = why
            && let Some(certificate) = peer.record.stated_certificate()
        {
            self.links.note_surplus(&certificate, now);
        }
    }

    /// Whether this node, once let in by the link with this key, may still rest on it. Who is not known any more may.
    pub fn may_rest_on(&self, link: &NodeId, node: &NodeId) -> bool {
        if self.revoked.covers(&[*node]) {
            return false;
        }
        let known = self.directory.by_node(node);
        let certificate = known.and_then(|peer| peer.record.stated_certificate());
        certificate.is_none_or(|certificate| match &certificate.issuer {
            Issuer::Invite(invite) => invite.terms.key == *link,
            Issuer::Network | Issuer::Admin(_) => false,
        })
    }

    /// The name of a member, or the short form of its id.
    pub fn name_of(&self, node: &NodeId) -> String {
        let known = self.directory.by_node(node);
        known.map_or_else(|| node.short(), |peer| peer.name.clone())
    }
}

#[cfg(test)]
mod tests;
