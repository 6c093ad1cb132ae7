//! Who of those that came by a link for some machines was there before the others?

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mesh_wire::NodeId;
use serde::{Deserialize, Deserializer, Serialize};

use super::Link;

/// A machine that a link has let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetIn {
    /// When it was first heard, in seconds since the Unix epoch; 0 where that was not written down.
    pub at: u64,
    /// Whether all servers were heard since, and no other may have been before.
    pub settled: bool,
    /// Whether another was let in since it was revoked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
    /// For how long this run had gone on when it was first heard; nothing where that was in an earlier one.
    #[serde(skip)]
    pub heard: Duration,
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
    /// Whether it came after those that were let in. Earlier versions judged by the order of lists alone.
    #[serde(default)]
    pub order: Order,
}

/// Whether a machine came after those that were let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// It may have been before one of them: they were first heard of in the same lists, or while a server was away.
    Unknown,
    /// They were heard of before it, whatever it says of itself.
    #[default]
    #[serde(alias = "clearly-later")]
    Later,
}

/// A link that somebody came by, before its judge.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// Its key.
    pub key: NodeId,
    pub(super) link: &'a Link,
}

/// Those that were let in; earlier versions wrote down their ids alone.
pub(super) fn read_let_in<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<NodeId, LetIn>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Heard(BTreeMap<NodeId, LetIn>),
        Ids(BTreeSet<NodeId>),
    }
    let known = LetIn {
        at: 0,
        settled: true,
        followed: false,
        heard: Duration::ZERO,
    };
    Ok(match Form::deserialize(deserializer)? {
        Form::Heard(let_in) => let_in,
        Form::Ids(ids) => ids.into_iter().map(|node| (node, known)).collect(),
    })
}

impl Link {
    /// Takes a machine in, in the place of one that is revoked and may have come after it where there is no other; whether
    /// anything changed. `run` is for how long this run has gone on.
    pub(super) fn let_in(
        &mut self,
        node: NodeId,
        is_revoked: impl Fn(&NodeId) -> bool,
        (now, run): (u64, Duration),
    ) -> bool {
        if let Some(entry) = self.let_in.get_mut(&node) {
            let is_undated = entry.at == 0;
            if is_undated {
                entry.at = now;
            }
            return is_undated;
        }
        self.surplus.retain(|other| other.node != node);
        if self.let_in.len() >= self.uses as usize {
            let mut entries = self.let_in.iter();
            let out = entries.find(|(other, entry)| !entry.settled && is_revoked(other));
            if let Some((out, entry)) = out.map(|(node, entry)| (*node, *entry)) {
                self.let_in.remove(&out);
                self.surplus.push(Surplus {
                    node: out,
                    name: out.short(),
                    at: entry.at,
                    order: Order::Unknown,
                });
            }
        }
        let entry = LetIn {
            at: now,
            settled: false,
            followed: false,
            heard: run,
        };
        for (other, entry) in &mut self.let_in {
            entry.followed |= is_revoked(other);
        }
        self.let_in.insert(node, entry);
        true
    }

    /// Whether somebody who is heard of now came after those that were let in.
    pub(super) fn order(&self, is_revoked: impl Fn(&NodeId) -> bool) -> Order {
        let mut entries = self.let_in.iter();
        match entries.any(|(node, entry)| !entry.settled && !is_revoked(node)) {
            true => Order::Unknown,
            false => Order::Later,
        }
    }

    /// Whether this node was refused, and may have been there before those that were let in.
    pub(super) fn is_disputed(&self, node: &NodeId) -> bool {
        let mut surplus = self.surplus.iter();
        surplus.any(|other| other.node == *node && other.order == Order::Unknown)
    }

    /// How many places are held against those who may have been there before.
    pub(super) fn held(&self, is_revoked: impl Fn(&NodeId) -> bool) -> usize {
        let entries = self.let_in.iter();
        let held = entries.filter(|(node, entry)| entry.settled || !is_revoked(node));
        held.count()
    }

    /// Whether somebody who may have been there first takes the place of one that was revoked, and has not yet.
    fn keeps_place(&self, is_revoked: impl Fn(&NodeId) -> bool) -> bool {
        let mut rivals = self.surplus.iter();
        rivals.any(|other| other.order == Order::Unknown && !is_revoked(&other.node))
            && self.held(is_revoked) < self.uses as usize
    }

    /// Whether its user must say who of several shall stay.
    pub(super) fn is_contested(&self, is_revoked: impl Fn(&NodeId) -> bool) -> bool {
        let mut rivals = self.surplus.iter();
        let mut entries = self.let_in.iter();
        rivals.any(|other| other.order == Order::Unknown && !is_revoked(&other.node))
            && entries.any(|(node, entry)| !entry.settled && !is_revoked(node))
    }
}

impl<'a> Counted<'a> {
    /// For how many machines it is.
    pub fn uses(&self) -> u32 {
        self.link.uses
    }

    /// Those that it let in.
    pub fn let_in(&self) -> impl Iterator<Item = &'a NodeId> {
        self.link.let_in.keys()
    }

    /// The others; no more than some.
    pub fn surplus(&self) -> &'a [Surplus] {
        &self.link.surplus
    }

    /// Of whom it is not known who was first: those that were let in, and those that were not. Empty where it is known, or
    /// was decided.
    pub fn contest(&self, is_revoked: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        if !self.link.is_contested(&is_revoked) {
            return Vec::new();
        }
        let entries = self.link.let_in.iter();
        let inside = entries.filter(|(_, entry)| !entry.settled);
        let rivals = self.link.surplus.iter();
        let rivals = rivals.filter(|other| other.order == Order::Unknown);
        let all = inside
            .map(|(node, _)| node)
            .chain(rivals.map(|other| &other.node));
        all.filter(|node| !is_revoked(node)).copied().collect()
    }

    /// Whether its judge ends the link, which puts out whoever rests on it, and loses no machine its key for good. At once, when
    /// one that a full link let in was revoked: servers may let it in again as somebody new. Because too many came, and for the
    /// sake of who came since the revocation, once no machine that it let in `rests_on` it any more; members refuse the others
    /// until then.
    pub fn is_to_end(
        &self,
        rests_on: impl Fn(&NodeId) -> bool,
        is_revoked: impl Fn(&NodeId) -> bool,
    ) -> bool {
        let is_full = self.link.let_in.len() >= self.link.uses as usize;
        let entries = self.link.let_in.iter();
        let mut lost = entries.filter(|(node, _)| is_full && is_revoked(node));
        let is_last_lost = lost.clone().any(|(_, entry)| !entry.followed);
        let is_overused = lost.next().is_some() || !self.link.surplus.is_empty();
        is_overused
            && !self.link.is_contested(&is_revoked)
            && !self.link.keeps_place(&is_revoked)
            && (is_last_lost || !self.link.let_in.keys().any(rests_on))
    }
}
