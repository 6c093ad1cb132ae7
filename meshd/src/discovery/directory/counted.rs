//! Whom do links for some machines let in? Whoever is heard of first, and nobody beyond a link's number until its maker has
//! vouched for them: each discovery server counts for itself alone.

use std::time::Duration;

use mesh_wire::{
    NodeId,
    peer_info::PeerInfo,
    trust::{Certificate, Issuer},
};

use super::{Believed, Objection};
use crate::{
    discovery::connection::ServerId,
    trust::links::{Links, Standing},
};

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
        let (uses, by) = self.links.used_up(&certificate, self.is_revoked())?;
        let by = by.iter().map(|node| self.name_of(node)).collect();
        Some(Objection::LinkUsedUp { uses, by })
    }

    /// Counts a member that is let in.
    pub(super) fn count(&mut self, peer: &PeerInfo, now: u64) {
        if let Some(certificate) = peer.record.stated_certificate() {
            let revoked = &self.revoked;
            let is_revoked = |node: &NodeId| revoked.covers(&[*node]);
            self.links.note(&certificate, is_revoked, now);
        }
    }

    /// Keeps in mind who came by a link that was used up: its maker puts it out.
    pub(super) fn count_refused(&mut self, peer: &PeerInfo, why: &Objection, now: u64) {
        if let Objection::LinkUsedUp { .. } = why
            && let Some(certificate) = peer.record.stated_certificate()
        {
            let revoked = &self.revoked;
            let is_revoked = |node: &NodeId| revoked.covers(&[*node]);
            self.links.note_surplus(&certificate, is_revoked, now);
        }
    }

    /// These servers are used from now on.
    pub fn expect(&mut self, servers: impl Iterator<Item = ServerId>) {
        self.presence.expect(servers);
    }

    /// Where all servers are heard, whoever links have let in was there before all that come from now on.
    pub(super) fn settle(&mut self) {
        if self.presence.hears_all() {
            let revoked = &self.revoked;
            self.links.settle(|node| revoked.covers(&[*node]));
        }
    }

    /// Whether a node's own key is revoked.
    pub fn is_revoked(&self) -> impl Fn(&NodeId) -> bool {
        |node| self.revoked.covers(&[*node])
    }

    /// This run has gone on for so long, by a clock that nobody sets.
    pub fn runs_for(&mut self, run: Duration) {
        self.links.runs_for(run);
    }

    /// How a member stands that rests on a link for some machines.
    pub fn standing(&self, certificate: &Certificate, now: u64) -> Option<Standing> {
        self.links.standing(certificate, self.is_revoked(), now)
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
