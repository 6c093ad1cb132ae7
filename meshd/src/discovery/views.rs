//! Do the members that we talk with hear of the same members as we do? A server can tell each something else; whoever
//! compares notes sees it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_core::Command;
use mesh_wire::{
    NodeId,
    discovery::MAX_WHOLE_LIST,
    trust::{Gossip, ListView},
};

use super::{client::DiscoveryClient, review::REVIEW};
use crate::{
    dataplane::Ended,
    problem::{self, LISTS_DIFFER},
};

/// A list that has stood for so long is told, and up to [`SPREAD`] later: members come and go in groups, and each change
/// is a change for all.
const SETTLED: Duration = Duration::from_secs(10);
const SPREAD: Duration = Duration::from_secs(20);
/// It is not told more often.
const SELDOM: Duration = Duration::from_secs(60);
/// An answer to who says something else, at most so often.
const ANSWER: Duration = Duration::from_secs(30);
/// It is told again though nothing has changed: a datagram may be lost.
const AGAIN: Duration = Duration::from_secs(300);
/// In heartbeats: for so long two lists must have differed, and agreed again. A server that is gone without a word is missed after four.
const PATIENCE: u32 = 5;
/// Time in agreement makes good for so much less time in difference: whoever shows the whole list now and then does not get away.
const FORGIVENESS: u32 = 5;
/// In smaller networks than this all hear of all, whichever server they ask and whenever they came.
const SURELY_WHOLE: usize = MAX_WHOLE_LIST / 2;

/// Our list and those of the members that we talk with.
#[derive(Debug)]
pub struct Views {
    patience: Duration,
    own: Own,
    others: BTreeMap<NodeId, Other>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Own {
    view: ListView,
    since: Option<Instant>,
    told: Option<Instant>,
    /// When it is told next.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Other {
    view: ListView,
    /// When it was told last.
    at: Instant,
    answered: Option<Instant>,
    /// In all, less what agreement has made good for.
    differed: Duration,
    /// Without a pause.
    agreed: Duration,
}

impl Views {
    /// Nothing is known yet. Connections to servers are watched by `heartbeat`.
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            patience: heartbeat * PATIENCE,
            own: Own {
                view: ListView::Unknown,
                since: None,
                told: None,
                due: None,
            },
            others: BTreeMap::new(),
            looked: None,
        }
    }

    /// Our list as it is now. Returns what is to be told to everybody; `wait` of 0 to 1 spreads that over time.
    pub fn look(&mut self, view: ListView, wait: f64, now: Instant) -> Option<ListView> {
        self.compare(now);
        let own = &mut self.own;
        if own.view != view || own.since.is_none() {
            let settled = now + SETTLED + SPREAD.mul_f64(wait);
            let seldom = own.told.map(|told| told + SELDOM);
            (own.view, own.since) = (view, Some(now));
            own.due = match view {
                // Who never said anything has nothing to take back; who did does so at once.
                ListView::Unknown => own.told.take().map(|_| now),
                ListView::Whole { .. } | ListView::Part => {
                    Some(seldom.map_or(settled, |at| at.max(settled)))
                }
            };
        }
        if own.due.is_none_or(|due| now < due) {
            return None;
        }
        let is_known = view != ListView::Unknown;
        own.told = is_known.then_some(now);
        own.due = is_known.then_some(now + AGAIN);
        Some(view)
    }

    /// Counts for how long lists have differed.
    fn compare(&mut self, now: Instant) {
        let passed = self
            .looked
            .replace(now)
            .map(|at| now.saturating_duration_since(at));
        // After a sleep nobody knows what has changed meanwhile.
        let passed = passed.unwrap_or_default().min(2 * REVIEW);
        let own = &self.own;
        self.others.retain(|_, other| now < other.at + 2 * AGAIN);
        for other in self.others.values_mut() {
            // What was said before our last change may have changed with it.
            let is_later = own.since.is_some_and(|since| other.at >= since);
            if same(&own.view, &other.view) {
                other.agreed += passed;
                if other.agreed >= self.patience {
                    other.differed = Duration::ZERO;
                } else if other.differed < self.patience {
                    other.differed = other.differed.saturating_sub(passed / FORGIVENESS);
                }
            } else if is_later && differ(&own.view, &other.view) {
                other.agreed = Duration::ZERO;
                other.differed = self.patience.min(other.differed + passed);
            }
        }
    }

    /// A member tells of its list. Returns ours, if it is to be answered.
    pub fn hear(&mut self, node: NodeId, view: ListView, now: Instant) -> Option<ListView> {
        if view == ListView::Unknown {
            self.others.remove(&node);
            return None;
        }
        let other = self.others.entry(node).or_insert(Other {
            view,
            at: now,
            answered: None,
            differed: Duration::ZERO,
            agreed: Duration::ZERO,
        });
        (other.view, other.at) = (view, now);
        let own = &self.own;
        let is_settled = own.since.is_some_and(|since| since + SETTLED <= now);
        let is_answered = other.answered.is_some_and(|at| now < at + ANSWER);
        (is_settled && !is_answered && own.view != ListView::Unknown && own.view != view).then(
            || {
                other.answered = Some(now);
                own.view
            },
        )
    }

    /// Forgets those of whom `is_member` does not hold.
    pub fn keep(&mut self, is_member: impl Fn(&NodeId) -> bool) {
        self.others.retain(|node, _| is_member(node));
    }

    /// Whose lists differ from ours for good, and our list.
    pub fn differing(&self) -> (ListView, Vec<(NodeId, ListView)>) {
        let others = self.others.iter();
        let differing = others.filter(|(_, other)| other.differed >= self.patience);
        let differing = differing.map(|(node, other)| (*node, other.view));
        (self.own.view, differing.collect())
    }
}

/// Whether one of the two must have been told something else than the other.
fn differ(ours: &ListView, theirs: &ListView) -> bool {
    match (ours, theirs) {
        (ListView::Whole { .. }, ListView::Whole { .. }) => ours != theirs,
        (ListView::Whole { members, .. }, ListView::Part)
        | (ListView::Part, ListView::Whole { members, .. }) => {
            usize::from(*members) <= SURELY_WHOLE
        }
        (ListView::Unknown, _) | (_, ListView::Unknown) | (ListView::Part, ListView::Part) => false,
    }
}

fn same(ours: &ListView, theirs: &ListView) -> bool {
    matches!(ours, ListView::Whole { .. }) && ours == theirs
}

impl DiscoveryClient {
    /// Tells others of our list, and the user of lists that differ.
    pub(super) async fn compare_lists(&mut self) -> Result<(), Ended> {
        // What a server says that we do not reach is not ours to judge.
        let view = match self.servers.any_missing() {
            true => ListView::Unknown,
            false => self.believed.list_view(),
        };
        let mut wait = [0];
        // Without chance all tell at the same moment, which is no harm in itself.
        let _is_random = getrandom::fill(&mut wait).is_ok();
        let wait = f64::from(wait[0]) / 256.0;
        if let Some(view) = self.views.look(view, wait, Instant::now()) {
            self.tell_list(None, view).await?;
        }
        let directory = self.believed.directory();
        self.views.keep(|node| directory.by_node(node).is_some());
        let (ours, differing) = self.views.differing();
        let name = |node: &NodeId| Some(directory.by_node(node)?.name.clone());
        let differing: Vec<(String, ListView)> = differing
            .iter()
            .filter_map(|(node, theirs)| Some((name(node)?, *theirs)))
            .collect();
        let problem = problem::lists_differ(ours, &differing);
        if self.outlets.health.set(LISTS_DIFFER, problem.clone())
            && let Some(problem) = problem
        {
            tracing::warn!(%problem, "lists of members differ");
        }
        Ok(())
    }

    /// A member has told of its list.
    pub(super) async fn on_list(&mut self, from: NodeId, list: ListView) -> Result<(), Ended> {
        match self.views.hear(from, list, Instant::now()) {
            Some(ours) => self.tell_list(Some(from), ours).await,
            None => Ok(()),
        }
    }

    async fn tell_list(&self, to: Option<NodeId>, list: ListView) -> Result<(), Ended> {
        let message = Gossip::List(list).to_bytes();
        self.tell(Command::Gossip { to, message }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: NodeId = NodeId::from_bytes([2; 32]);
    const SECOND: Duration = Duration::from_secs(1);

    fn list(members: u8) -> ListView {
        let nodes: Vec<_> = (0..members)
            .map(|node| NodeId::from_bytes([node; 32]))
            .collect();
        ListView::whole(nodes.iter())
    }

    /// A member that looks each five seconds, and a clock.
    struct Scene {
        views: Views,
        now: Instant,
        told: Vec<ListView>,
    }

    impl Scene {
        fn new() -> Self {
            let (views, now) = (Views::new(10 * SECOND), Instant::now());
            let told = Vec::new();
            Self { views, now, told }
        }

        /// Hears this list of the servers, and that of bob, for so many seconds.
        fn pass(&mut self, seconds: u32, ours: ListView, theirs: ListView) {
            for _ in 0..seconds / 5 {
                self.now += REVIEW;
                self.told.extend(self.views.look(ours, 0.5, self.now));
                self.views.hear(BOB, theirs, self.now);
            }
        }

        fn is_suspicious(&self) -> bool {
            let (_, differing) = self.views.differing();
            differing.iter().any(|(node, _)| *node == BOB)
        }
    }

    #[test]
    fn a_list_is_told_once_it_has_settled_seldom_and_again_now_and_then() {
        let mut scene = Scene::new();
        scene.pass(10, list(1), list(3));
        assert_eq!(scene.told, [], "not settled");
        scene.pass(30, list(2), list(3));
        scene.pass(40, list(3), list(3));
        assert_eq!(scene.told, [list(2)], "a minute has not passed");
        scene.pass(600, list(3), list(3));
        assert_eq!(scene.told, [list(2), list(3), list(3)]);
        scene.told.clear();
        scene.pass(600, ListView::Unknown, list(3));
        assert_eq!(scene.told, [ListView::Unknown], "taken back, once");
    }

    #[test]
    fn a_difference_that_stays_is_seen_and_one_that_passes_is_not() {
        let mut scene = Scene::new();
        scene.pass(60, list(3), list(2));
        assert!(scene.is_suspicious());
        scene.pass(20, list(3), list(3));
        assert!(
            scene.is_suspicious(),
            "a glimpse of the truth is not enough"
        );
        scene.pass(60, list(3), list(3));
        assert!(!scene.is_suspicious());
        scene.pass(30, list(3), list(4));
        scene.pass(60, list(4), list(4));
        scene.pass(30, list(4), list(5));
        assert!(!scene.is_suspicious(), "all that was a matter of time");
    }

    #[test]
    fn who_takes_a_member_in_and_out_does_not_get_away() {
        let mut scene = Scene::new();
        for _ in 0..4 {
            scene.pass(20, list(3), list(2));
            scene.pass(5, list(3), list(3));
        }
        assert!(scene.is_suspicious());
    }

    #[test]
    fn what_was_said_before_our_list_changed_proves_nothing() {
        let mut scene = Scene::new();
        scene.pass(60, list(3), list(3));
        for _ in 0..50 {
            scene.now += REVIEW;
            scene.views.look(list(4), 0.0, scene.now);
        }
        assert!(!scene.is_suspicious());
    }

    #[test]
    fn a_part_is_suspicious_where_all_should_hear_of_all() {
        let many: Vec<_> = (0..150_u8)
            .map(|node| NodeId::from_bytes([node; 32]))
            .collect();
        for (ours, is_suspicious) in [(list(3), true), (ListView::whole(many.iter()), false)] {
            let mut scene = Scene::new();
            scene.pass(80, ours, ListView::Part);
            assert_eq!(scene.is_suspicious(), is_suspicious);
        }
    }

    #[test]
    fn who_has_no_list_judges_nobody_and_is_not_judged() {
        let mut scene = Scene::new();
        scene.pass(600, ListView::Unknown, list(3));
        assert!(!scene.is_suspicious());
        scene.pass(100, list(4), list(3));
        assert!(scene.is_suspicious());
        scene.pass(5, list(4), ListView::Unknown);
        assert!(!scene.is_suspicious());
    }

    #[test]
    fn who_says_something_else_is_answered_now_and_then() {
        let mut scene = Scene::new();
        scene.views.look(list(3), 0.0, scene.now);
        assert_eq!(
            scene.views.hear(BOB, list(2), scene.now),
            None,
            "not settled"
        );
        scene.now += 20 * SECOND;
        assert_eq!(scene.views.hear(BOB, list(2), scene.now), Some(list(3)));
        assert_eq!(scene.views.hear(BOB, list(2), scene.now + SECOND), None);
    }
}
