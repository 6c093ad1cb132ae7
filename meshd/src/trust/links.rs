//! Whom has each join link for some machines let in, as far as this node has heard?
//!
//! Each discovery server counts for itself, and several know nothing of each other. So each member counts as well: whom it
//! hears of first is let in, up to the link's number, and nobody else by that link. Who made the link is its judge: those that
//! it has counted get a certificate of its own, which does not rest on the link, and it puts the others out.

use std::collections::{BTreeMap, BTreeSet};

use mesh_wire::{
    NodeId,
    trust::{Certificate, Invite, Issuer},
};
use serde::{Deserialize, Serialize};

/// Links that are kept in mind; then the one that ended first is forgotten.
const MAX_LINKS: usize = 1_000;

/// Machines that one link lets in, whatever it says: as many as a discovery server takes by it.
const MAX_USES: u32 = 10_000;

/// Machines beyond a link's number that its judge puts out one by one. A server in league with the link's holder can make up
/// any number, and a network keeps 1,000 revocations: after so many the link itself is ended.
const MAX_SURPLUS: usize = 4;

/// The links for some machines of which somebody was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Links {
    known: BTreeMap<NodeId, Link>,
    #[serde(skip)]
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    uses: u32,
    until: u64,
    /// The admin who made it; absent where the network key did.
    maker: Option<NodeId>,
    let_in: BTreeSet<NodeId>,
    surplus: Vec<Surplus>,
}

/// A machine that came by a link which had let in as many as it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surplus {
    /// The machine.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// When it was first heard, in seconds since the Unix epoch.
    pub at: u64,
}

/// A link that more machines than it is for have come by.
#[derive(Debug, Clone, Copy)]
pub struct Overused<'a> {
    /// Its key.
    pub key: NodeId,
    /// For how many machines it is.
    pub uses: u32,
    /// Those that it let in.
    pub let_in: &'a BTreeSet<NodeId>,
    /// The others; no more than some.
    pub surplus: &'a [Surplus],
}

/// A certificate's link, if it is one for some machines.
pub fn counted(certificate: &Certificate) -> Option<(&Invite, u32)> {
    match &certificate.issuer {
        Issuer::Invite(invite) => Some((invite, invite.terms.uses?.min(MAX_USES))),
        Issuer::Network | Issuer::Admin(_) => None,
    }
}

/// The admin who made a link; absent where the network key did.
pub fn maker(invite: &Invite) -> Option<NodeId> {
    let admin = invite.admin.as_ref();
    admin.map(|admin| admin.binding.node_id)
}

impl Links {
    /// Who has used up the link of this certificate, and how many machines it is for, if it lets its node in no more.
    pub fn used_up(&self, certificate: &Certificate) -> Option<(u32, &BTreeSet<NodeId>)> {
        let (invite, uses) = counted(certificate)?;
        let let_in = &self.known.get(&invite.terms.key)?.let_in;
        let is_full = let_in.len() >= uses as usize;
        (is_full && !let_in.contains(&certificate.binding.node_id)).then_some((uses, let_in))
    }

    /// The link of this certificate, which was verified, has let its node in.
    pub fn note(&mut self, certificate: &Certificate) {
        let node = certificate.binding.node_id;
        if let Some(link) = self.link(certificate) {
            self.changed |= link.let_in.insert(node);
        }
    }

    /// The node of this certificate, which was verified, came when its link was used up.
    pub fn note_surplus(&mut self, certificate: &Certificate, now: u64) {
        let node = certificate.binding.node_id;
        let Some(link) = self.link(certificate) else {
            return;
        };
        let is_known = link.surplus.iter().any(|other| other.node == node);
        if is_known || link.surplus.len() >= MAX_SURPLUS {
            return;
        }
        link.surplus.push(Surplus {
            node,
            name: certificate.binding.name.clone(),
            at: now,
        });
        self.changed = true;
    }

    /// The others that came by the link of this certificate, and for how many machines it is.
    pub fn others(&self, certificate: &Certificate) -> Option<(u32, Vec<NodeId>)> {
        let (invite, uses) = counted(certificate)?;
        let link = self.known.get(&invite.terms.key)?;
        let surplus = link.surplus.iter().map(|surplus| surplus.node);
        let all = link.let_in.iter().copied().chain(surplus);
        let others = all.filter(|node| *node != certificate.binding.node_id);
        Some((uses, others.collect()))
    }

    /// The links by which too many came, of those that `is_maker` has made.
    pub fn overused(
        &self,
        is_maker: impl Fn(Option<NodeId>) -> bool,
    ) -> impl Iterator<Item = Overused<'_>> {
        let overused = self.known.iter();
        let overused =
            overused.filter(move |(_, link)| !link.surplus.is_empty() && is_maker(link.maker));
        overused.map(|(key, link)| Overused {
            key: *key,
            uses: link.uses,
            let_in: &link.let_in,
            surplus: &link.surplus,
        })
    }

    /// Whether there is something that is not written down.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// All of it is written down.
    pub fn saved(&mut self) {
        self.changed = false;
    }

    fn link(&mut self, certificate: &Certificate) -> Option<&mut Link> {
        let (invite, uses) = counted(certificate)?;
        let key = invite.terms.key;
        if !self.known.contains_key(&key) && self.known.len() >= MAX_LINKS {
            let links = self.known.iter();
            let first = links
                .min_by_key(|(_, link)| link.until)
                .map(|(key, _)| *key);
            self.known.remove(&first?);
        }
        Some(self.known.entry(key).or_insert_with(|| Link {
            uses,
            until: invite.terms.span.until,
            maker: maker(invite),
            let_in: BTreeSet::new(),
            surplus: Vec::new(),
        }))
    }
}

impl Overused<'_> {
    /// Which keys its judge revokes: the machines beyond its number; once these are too many to be all that there are, the link
    /// too, if no machine that it let in `rests_on` it any more.
    pub fn sentence(&self, rests_on: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let mut out: Vec<NodeId> = self.surplus.iter().map(|surplus| surplus.node).collect();
        if out.len() >= MAX_SURPLUS && !self.let_in.iter().any(rests_on) {
            out.push(self.key);
        }
        out
    }
}

#[cfg(test)]
mod tests;
