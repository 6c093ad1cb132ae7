//! Do the members that we talk with hear of the same members as we do? A server can tell each something else; whoever
//! compares notes sees it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_core::Command;
use mesh_wire::{
    NodeId,
    trust::{Gossip, ListDigest},
};

use super::client::DiscoveryClient;
use crate::{
    dataplane::Ended,
    problem::{self, LISTS_DIFFER, Problem},
};

/// How often lists are compared.
pub const LOOK: Duration = Duration::from_secs(5);
/// A list that has stood for so long is told: members come and go in groups.
const SETTLED: Duration = Duration::from_secs(10);
/// Two lists that differ and have both stood for so long are not on their way to be the same: a change reaches everybody
/// within seconds, and a server that is gone without a word is missed within a minute.
const SUSPICIOUS: Duration = Duration::from_secs(60);
/// An answer to who says something else, at most so often.
const ANSWER: Duration = Duration::from_secs(30);
/// It is told again though nothing has changed: a datagram may be lost.
const AGAIN: Duration = Duration::from_secs(300);

/// Our list and those of the members that we talk with.
#[derive(Debug, Default)]
pub struct Views {
    own: Option<Own>,
    others: BTreeMap<NodeId, Other>,
}

#[derive(Debug)]
struct Own {
    list: ListDigest,
    since: Instant,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Other {
    list: ListDigest,
    since: Instant,
    /// When it was told last.
    at: Instant,
    answered: Option<Instant>,
}

impl Views {
    /// Our list as it is now; `None` while it is not whole, or a server could know better. Returns what is to be told to
    /// everybody.
    pub fn look(&mut self, list: Option<ListDigest>, now: Instant) -> Option<ListDigest> {
        let Some(list) = list else {
            self.own = None;
            return None;
        };
        let own = match &mut self.own {
            Some(own) if own.list == list => own,
            changed => changed.insert(Own {
                list,
                since: now,
                told: None,
            }),
        };
        let due = own.told.map_or(own.since + SETTLED, |told| told + AGAIN);
        (due <= now).then(|| {
            own.told = Some(now);
            own.list
        })
    }

    /// A member tells of its list. Returns ours, if it is to be answered.
    pub fn hear(&mut self, node: NodeId, list: ListDigest, now: Instant) -> Option<ListDigest> {
        let other = self.others.entry(node).or_insert(Other {
            list,
            since: now,
            at: now,
            answered: None,
        });
        other.at = now;
        if other.list != list {
            (other.list, other.since) = (list, now);
        }
        let own = self.own.as_ref()?;
        let is_settled = own.list != list && own.since + SETTLED <= now;
        let is_answered = other.answered.is_some_and(|at| now < at + ANSWER);
        (is_settled && !is_answered).then(|| {
            other.answered = Some(now);
            own.list
        })
    }

    /// Forgets those of whom `is_member` does not hold.
    pub fn keep(&mut self, is_member: impl Fn(&NodeId) -> bool) {
        self.others.retain(|node, _| is_member(node));
    }

    /// Whose lists differ from ours for good: how many members are in ours and in theirs.
    pub fn differing(&self, now: Instant) -> Vec<(NodeId, u16, u16)> {
        let Some(own) = self
            .own
            .as_ref()
            .filter(|own| own.since + SUSPICIOUS <= now)
        else {
            return Vec::new();
        };
        let differs = |other: &Other| {
            // What was said before our last change may have changed with it.
            other.list != own.list && other.at >= own.since && other.since + SUSPICIOUS <= now
        };
        let others = self.others.iter().filter(|(_, other)| differs(other));
        others
            .map(|(node, other)| (*node, own.list.members, other.list.members))
            .collect()
    }
}

impl DiscoveryClient {
    /// Tells others of our list, and the user of lists that differ.
    pub(super) async fn compare_lists(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        // What a server says that we do not reach is not ours to judge.
        let is_known = !self.servers.any_missing();
        let list = self.believed.list_digest().filter(|_| is_known);
        if let Some(list) = self.views.look(list, now) {
            self.tell_list(None, list).await?;
        }
        let directory = self.believed.directory();
        self.views.keep(|node| directory.by_node(node).is_some());
        let problems = self.views.differing(now).into_iter();
        let problems = problems.filter_map(|(node, ours, theirs)| {
            let peer = directory.by_node(&node)?;
            Some(problem::lists_differ(&peer.name, (ours, theirs)))
        });
        let problems: Vec<_> = problems.collect();
        self.outlets.health.send_if_modified(|health| {
            let is_ours = |known: &Problem| known.code == LISTS_DIFFER;
            let before: Vec<_> = health.iter().filter(|known| is_ours(known)).collect();
            if before.iter().copied().eq(&problems) {
                return false;
            }
            for problem in &problems {
                tracing::warn!(%problem, "lists of members differ");
            }
            health.retain(|known| !is_ours(known));
            health.extend(problems);
            true
        });
        Ok(())
    }

    /// A member has told of its list.
    pub(super) async fn on_list(&mut self, from: NodeId, list: ListDigest) -> Result<(), Ended> {
        match self.views.hear(from, list, Instant::now()) {
            Some(ours) => self.tell_list(Some(from), ours).await,
            None => Ok(()),
        }
    }

    async fn tell_list(&self, to: Option<NodeId>, list: ListDigest) -> Result<(), Ended> {
        let message = Gossip::List(list).to_bytes();
        self.tell(Command::Gossip { to, message }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: NodeId = NodeId::from_bytes([2; 32]);
    const SECOND: Duration = Duration::from_secs(1);

    fn list(members: u16) -> ListDigest {
        let nodes = (0..members).map(|node| (NodeId::from_bytes([node as u8; 32]), 1));
        ListDigest::of(nodes)
    }

    #[test]
    fn a_list_is_told_once_it_has_settled_and_again_now_and_then() {
        let (mut views, start) = (Views::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..700 {
            // A member more at first, then nothing new.
            let members = if second < 5 { 1 } else { 2 };
            if let Some(list) = views.look(Some(list(members)), start + second * SECOND) {
                told.push((second, list.members));
            }
        }
        assert_eq!(told, [(15, 2), (315, 2), (615, 2)]);
        assert_eq!(views.look(None, start + 700 * SECOND), None);
    }

    #[test]
    fn a_difference_that_stays_is_seen_and_one_that_passes_is_not() {
        let (mut views, start) = (Views::default(), Instant::now());
        views.look(Some(list(3)), start);
        assert_eq!(views.hear(BOB, list(2), start), None, "not settled");
        let answer = views.hear(BOB, list(2), start + 20 * SECOND);
        assert_eq!(answer, Some(list(3)));
        assert_eq!(views.hear(BOB, list(2), start + 21 * SECOND), None, "once");
        assert!(views.differing(start + 59 * SECOND).is_empty());
        let seen = views.differing(start + 60 * SECOND);
        assert_eq!(seen, [(BOB, 3, 2)]);
        // Ours is his now, then he has a newer one, then we have: all that was a matter of time.
        views.look(Some(list(2)), start + 61 * SECOND);
        assert!(views.differing(start + 200 * SECOND).is_empty());
        views.hear(BOB, list(4), start + 201 * SECOND);
        assert!(views.differing(start + 202 * SECOND).is_empty());
        views.look(Some(list(5)), start + 300 * SECOND);
        let late = start + 400 * SECOND;
        assert!(views.differing(late).is_empty(), "said before our change");
        views.hear(BOB, list(4), late);
        assert_eq!(views.differing(late), [(BOB, 5, 4)]);
        views.keep(|_| false);
        assert!(views.differing(late).is_empty());
    }

    #[test]
    fn who_has_no_whole_list_judges_nobody() {
        let (mut views, start) = (Views::default(), Instant::now());
        views.look(Some(list(3)), start);
        views.hear(BOB, list(2), start);
        let late = start + 100 * SECOND;
        views.look(None, late);
        assert!(views.differing(late).is_empty());
        assert_eq!(views.hear(BOB, list(2), late), None);
    }
}
