//! What a link for one machine goes through on a server that is killed again and again: it lets one in, then nobody else, also
//! when that one has left, and nobody at all when it is revoked.

use mesh_wire::{discovery::RegisterPeer, peer_info::Directory, trust::Capability};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::{
    authority::{Authority, binding},
    harness::{Node, Server},
};

/// One request after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    FirstIn,
    SecondRefused,
    FirstLeaves,
    SecondRefusedAgain,
    FirstBack,
    Revoke,
    FirstRefused,
    Delete,
}

const STEPS: [Step; 9] = [
    Step::Create,
    Step::FirstIn,
    Step::SecondRefused,
    Step::FirstLeaves,
    Step::SecondRefusedAgain,
    Step::FirstBack,
    Step::Revoke,
    Step::FirstRefused,
    Step::Delete,
];

/// What is there: of its network the first one's membership, and whether the link is revoked.
type State = Option<(bool, bool)>;

impl Step {
    /// What is there behind it.
    fn leaves(self) -> State {
        match self {
            Self::Create | Self::FirstLeaves | Self::SecondRefusedAgain => Some((false, false)),
            Self::FirstIn | Self::SecondRefused | Self::FirstBack => Some((true, false)),
            Self::Revoke | Self::FirstRefused => Some((false, true)),
            Self::Delete => None,
        }
    }

    /// How it is answered, and how if it was carried out before.
    fn answers(self) -> (u16, u16) {
        match self {
            Self::Create | Self::FirstIn | Self::FirstBack => (201, 200),
            Self::SecondRefused | Self::SecondRefusedAgain | Self::FirstRefused => (403, 403),
            Self::FirstLeaves | Self::Delete => (204, 404),
            Self::Revoke => (204, 204),
        }
    }
}

/// A link, in a network of its own.
pub(super) struct Link {
    authority: Authority,
    capability: Capability,
    /// What each of the two that would enter asks with: when it asks again, in the same words.
    first: RegisterPeer,
    second: RegisterPeer,
    /// How many were acknowledged.
    done: usize,
    /// Whether the next one may have been carried out without an answer.
    is_uncertain: bool,
}

impl Link {
    /// One that nothing was done with.
    pub(super) fn new(writer: u16, number: u64) -> Self {
        let authority = Authority::new(&format!("link-{writer}"));
        let mut secret = [writer.to_be_bytes()[1]; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let capability = authority.week(secret, Some(1));
        let [first, second] = [(1, "first"), (2, "second")].map(|(number, name)| {
            let node = Node::new(number.into(), name);
            let certificate = capability.certify(&authority.root(), &binding(&node, number));
            authority.register(&node, 1, Some(&certificate.unwrap()))
        });
        Self {
            capability,
            authority,
            first,
            second,
            done: 0,
            is_uncertain: false,
        }
    }

    /// Whether all was done.
    pub(super) fn is_over(&self) -> bool {
        self.done == STEPS.len()
    }

    /// Goes one step on; `false` if there is no answer.
    pub(super) async fn go_on(&mut self, ask: impl Fn(Method, &str) -> RequestBuilder) -> bool {
        let step = STEPS[self.done];
        let was_uncertain = std::mem::replace(&mut self.is_uncertain, true);
        let Ok(answer) = self.request(step, ask).send().await else {
            return false;
        };
        let (status, Ok(text)) = (answer.status(), answer.text().await) else {
            return false;
        };
        let (first, again) = step.answers();
        let is_right = status == first || was_uncertain && status == again;
        assert!(is_right, "{step:?}: {status} {text}");
        if status == StatusCode::FORBIDDEN {
            let is_out = step == Step::FirstRefused;
            let code = if is_out { "revoked" } else { "invite-used-up" };
            let problem: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(problem["code"], code, "{step:?}");
        }
        self.done += 1;
        self.is_uncertain = false;
        true
    }

    fn request(&self, step: Step, ask: impl Fn(Method, &str) -> RequestBuilder) -> RequestBuilder {
        let net = &self.authority.net;
        let enter = |who: &RegisterPeer| ask(Method::POST, &net.path("/peers")).json(who);
        match step {
            Step::Create => ask(Method::POST, "/api/v1/mesh/networks").json(&net.create),
            Step::FirstIn | Step::FirstBack | Step::FirstRefused => enter(&self.first),
            Step::SecondRefused | Step::SecondRefusedAgain => enter(&self.second),
            Step::FirstLeaves => {
                let path = net.path(&format!("/peers/{}", self.first.record.node_id));
                ask(Method::DELETE, &path)
            }
            Step::Revoke => {
                let revocation = self.authority.out(&self.capability.invite.terms.key);
                let revoke = Authority::revoke(&revocation);
                ask(Method::POST, &net.path("/revocations")).json(&revoke)
            }
            Step::Delete => ask(Method::DELETE, &net.path("")),
        }
    }

    fn state(&self) -> State {
        let last = self.done.checked_sub(1)?;
        STEPS[last].leaves()
    }

    /// Compares what a server has that was killed and came back with what it has acknowledged.
    pub(super) async fn judge(&mut self, server: &Server, admin: &str) {
        let answer = server.get(&self.authority.net.path("/peers"), admin).await;
        let found = match answer.status() {
            StatusCode::NOT_FOUND => None,
            _ => {
                let list: Directory = answer.json().await.unwrap();
                assert!(
                    list.by_node(&self.second.record.node_id).is_none(),
                    "a second one"
                );
                let is_in = list.by_node(&self.first.record.node_id).is_some();
                Some((is_in, !list.revocations.is_empty()))
            }
        };
        let before = self.state();
        if !self.is_uncertain || found != before {
            let step = STEPS.get(self.done);
            let after = step.filter(|_| self.is_uncertain).map(|step| step.leaves());
            let may_be = [Some(before), after];
            assert!(may_be.contains(&Some(found)), "{found:?} before {step:?}");
            return;
        }
        let step = STEPS[self.done];
        if step.leaves() != before {
            self.is_uncertain = false;
        }
        if step == Step::FirstIn {
            // Whoever was not let in has not used the link up: now it is the other one's.
            std::mem::swap(&mut self.first, &mut self.second);
        }
    }
}
