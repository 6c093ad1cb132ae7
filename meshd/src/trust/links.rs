//! Whom has each join link for some machines let in, as far as this node has heard?
//!
//! Each discovery server counts for itself, and several know nothing of each other. So each member counts as well: whom it
//! hears of first is let in, up to the link's number, and nobody else by that link. Who made the link is its judge: those that
//! it has counted get a certificate of its own, which does not rest on the link, and then it ends the link. Where it cannot
//! know who was first, it does neither and asks its user.

mod heard;

use std::{collections::BTreeMap, time::Duration};

use mesh_wire::{
    NodeId,
    trust::{Certificate, Invite, Issuer},
};
use serde::{Deserialize, Serialize};

pub use heard::{Counted, LetIn, Order, Surplus};

/// How a machine that was let in by a link for some machines stands, as to who may vouch for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// No other may have been there before: the link's maker vouches for it.
    pub is_first: bool,
    /// It was let in long ago, and nobody else is known by that link who is not revoked: any admin may renew it.
    pub is_long_known: bool,
    /// It was heard of while the link held, by our own clock.
    pub came_in_time: bool,
}

/// Links that are kept in mind; then the one that ended first is forgotten.
const MAX_LINKS: usize = 1_000;

/// Machines that one link lets in, whatever it says: as many as a discovery server takes by it.
const MAX_USES: u32 = 10_000;

/// Machines beyond a link's number that are kept in mind, and named; those that were put out make room. A server in league with
/// the link's holder can make up any number.
const MAX_SURPLUS: usize = 16;

/// After how long of one run a machine is vouched for though not all servers were heard since it was heard of: one that may
/// have let in others before it may be away for good. Time without us, or that a clock was set forward, says nothing of it.
const MISSING: Duration = Duration::from_secs(3_600);

/// How long an admin who did not make a link has known a machine that it vouches for, in seconds: its maker had as long to
/// judge.
const LONG: u64 = 30 * 24 * 3_600;

/// The links for some machines of which somebody was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Links {
    known: BTreeMap<NodeId, Link>,
    #[serde(skip)]
    changed: bool,
    /// For how long this run has gone on, as far as we were told.
    #[serde(skip)]
    run: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    uses: u32,
    until: u64,
    /// The admin who made it; absent where the network key did.
    maker: Option<NodeId>,
    #[serde(deserialize_with = "heard::read_let_in")]
    let_in: BTreeMap<NodeId, LetIn>,
    surplus: Vec<Surplus>,
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
    ///
    /// A machine that is revoked keeps its place, so that its user does not come again by the same link. But who may have
    /// been there before it, and was heard of before the revocation, takes that place.
    pub fn used_up(
        &self,
        certificate: &Certificate,
        is_revoked: impl Fn(&NodeId) -> bool,
    ) -> Option<(u32, Vec<NodeId>)> {
        let (invite, uses) = counted(certificate)?;
        let link = self.known.get(&invite.terms.key)?;
        let node = &certificate.binding.node_id;
        let most = uses as usize;
        let has_place = link.let_in.len() < most
            || link.let_in.contains_key(node)
            || link.is_disputed(node) && link.held(is_revoked) < most;
        (!has_place).then(|| (uses, link.let_in.keys().copied().collect()))
    }

    /// The link of this certificate, which was verified, has let its node in.
    pub fn note(
        &mut self,
        certificate: &Certificate,
        is_revoked: impl Fn(&NodeId) -> bool,
        now: u64,
    ) {
        let (node, run) = (certificate.binding.node_id, self.run);
        let Some(link) = self.link(certificate) else {
            return;
        };
        let changed = link.let_in(node, is_revoked, (now, run));
        self.changed |= changed;
    }

    /// The node of this certificate, which was verified, came when its link was used up.
    pub fn note_surplus(
        &mut self,
        certificate: &Certificate,
        is_revoked: impl Fn(&NodeId) -> bool,
        now: u64,
    ) {
        let node = certificate.binding.node_id;
        let Some(link) = self.link(certificate) else {
            return;
        };
        let is_known = link.surplus.iter().any(|other| other.node == node);
        if is_known {
            return;
        }
        if link.surplus.len() >= MAX_SURPLUS {
            let mut all = link.surplus.iter();
            let Some(out) = all.position(|other| is_revoked(&other.node)) else {
                return;
            };
            link.surplus.remove(out);
        }
        let order = link.order(is_revoked);
        link.surplus.push(Surplus {
            node,
            name: certificate.binding.name.clone(),
            at: now,
            order,
        });
        self.changed = true;
    }

    /// All servers have said whom they list, and would say who comes: whoever is heard of from now on came later than those
    /// that are let in, unless it may have been before one of them.
    pub fn settle(&mut self, is_revoked: impl Fn(&NodeId) -> bool) {
        for link in self.known.values_mut() {
            if link.is_contested(&is_revoked) {
                continue;
            }
            // Whoever was revoked before that leaves its place to who may have been first.
            let entries = link.let_in.iter_mut();
            for (_, entry) in entries.filter(|(node, entry)| !entry.settled && !is_revoked(node)) {
                entry.settled = true;
                self.changed = true;
            }
        }
    }

    /// This run has gone on for so long, by a clock that nobody sets.
    pub fn runs_for(&mut self, run: Duration) {
        self.run = run;
    }

    /// Whether somebody may soon be vouched for though no server says anything new.
    pub fn awaits_servers(&self) -> bool {
        let mut entries = self.known.values().flat_map(|link| link.let_in.values());
        entries.any(|entry| !entry.settled)
    }

    /// How the node of this certificate stands; `None` if its link has not let it in. Dates in the certificate count for
    /// nothing: the link's holder signs them.
    pub fn standing(
        &self,
        certificate: &Certificate,
        is_revoked: impl Fn(&NodeId) -> bool,
        now: u64,
    ) -> Option<Standing> {
        let (invite, _) = counted(certificate)?;
        let link = self.known.get(&invite.terms.key)?;
        let entry = link.let_in.get(&certificate.binding.node_id)?;
        let is_dated = entry.at > 0;
        let is_long = now >= entry.at.saturating_add(LONG);
        let is_missed = self.run >= entry.heard.saturating_add(MISSING);
        let has_rival = link.surplus.iter().any(|other| !is_revoked(&other.node));
        Some(Standing {
            is_first: entry.settled || is_missed && !link.is_contested(is_revoked),
            is_long_known: entry.settled && is_dated && is_long && !has_rival,
            came_in_time: is_dated && entry.at <= link.until,
        })
    }

    /// The others that came by the link of this certificate, and for how many machines it is.
    pub fn others(&self, certificate: &Certificate) -> Option<(u32, Vec<NodeId>)> {
        let (invite, uses) = counted(certificate)?;
        let link = self.known.get(&invite.terms.key)?;
        let surplus = link.surplus.iter().map(|surplus| surplus.node);
        let all = link.let_in.keys().copied().chain(surplus);
        let others = all.filter(|node| *node != certificate.binding.node_id);
        Some((uses, others.collect()))
    }

    /// The links that `is_maker` has made, as far as somebody came by them.
    pub fn made_by(
        &self,
        is_maker: impl Fn(Option<NodeId>) -> bool,
    ) -> impl Iterator<Item = Counted<'_>> {
        let made = self.known.iter();
        let made = made.filter(move |(_, link)| is_maker(link.maker));
        made.map(|(key, link)| Counted { key: *key, link })
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
            let_in: BTreeMap::new(),
            surplus: Vec::new(),
        }))
    }
}

#[cfg(test)]
mod tests;
