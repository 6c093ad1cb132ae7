//! Which links of ours do we end, because one had let in as many as it may? And what do we ask our user?

use mesh_wire::NodeId;

use super::{client::DiscoveryClient, hearsay::Hearsay};
use crate::{
    dataplane::Ended,
    problem::{self, LINK_CONTESTED, LINK_OVERUSED, PUT_OUT, Problem, STATE_UNWRITABLE},
    trust::{
        authority::Authority,
        links::{Counted, Order},
        unix_time,
    },
};

/// For how long the user is shown that a machine was put out, in seconds.
const SHOWN: u64 = 24 * 3600;

impl DiscoveryClient {
    /// Ends the links of ours by which too many came, and asks where it is not known who came first. What we know of
    /// links is on disk before that.
    pub(super) async fn judge(&mut self) -> Result<(), Ended> {
        if !self.keep_links() || self.believed.links().made_by(|_| true).next().is_none() {
            return Ok(());
        }
        let Some(authority) = self.membership.authority() else {
            return Ok(());
        };
        for key in self.over(&authority) {
            match authority.revoke(&key) {
                Ok(revocation) => {
                    tracing::warn!(key = %key.short(), "a join link was used too often: who came by it too late was put out");
                    self.hear(Hearsay::Signed(revocation)).await?;
                }
                Err(problem) => {
                    tracing::error!(%problem, "a used link cannot be ended");
                }
            }
        }
        for (code, problems) in [
            (LINK_OVERUSED, self.overuse(&authority)),
            (LINK_CONTESTED, self.contests(&authority)),
        ] {
            if self.outlets.health.set(code, problems.clone()) {
                for problem in &problems {
                    tracing::warn!(%problem, "a join link was used too often");
                }
            }
        }
        Ok(())
    }

    /// The links of ours that are to be ended and are not yet. A link's key alone is ever revoked without its user's word.
    fn over(&self, authority: &Authority) -> Vec<NodeId> {
        let is_revoked = self.believed.is_revoked();
        let ours = self.ours(authority).filter(|link| !is_revoked(&link.key));
        let over = ours.filter(|link| {
            let rests_on = |node: &NodeId| self.believed.may_rest_on(&link.key, node);
            link.is_to_end(rests_on, &is_revoked)
        });
        over.map(|link| link.key).collect()
    }

    /// The links of ours that somebody came by.
    fn ours(&self, authority: &Authority) -> impl Iterator<Item = Counted<'_>> {
        let links = self.believed.links();
        links.made_by(|maker| authority.has_made(maker))
    }

    /// The links of ours of which the user must say who shall stay.
    fn contests(&self, authority: &Authority) -> Vec<Problem> {
        let is_revoked = self.believed.is_revoked();
        let ours = self.ours(authority).filter(|link| !is_revoked(&link.key));
        let contests = ours.filter_map(|link| {
            let named = |node| {
                let surplus = link.surplus().iter().find(|surplus| surplus.node == node);
                let name = surplus.map(|surplus| surplus.name.clone());
                (name.unwrap_or_else(|| self.believed.name_of(&node)), node)
            };
            let rivals: Vec<_> = link.contest(&is_revoked).into_iter().map(named).collect();
            (!rivals.is_empty()).then(|| problem::link_contested(&link.key, link.uses(), &rivals))
        });
        contests.collect()
    }

    /// The links of ours that too many came by lately.
    fn overuse(&self, authority: &Authority) -> Vec<Problem> {
        let now = unix_time();
        let is_revoked = self.believed.is_revoked();
        let lately = self.ours(authority).filter_map(|link| {
            let is_asked = !link.contest(&is_revoked).is_empty() && !is_revoked(&link.key);
            let surplus = link.surplus().iter();
            let surplus = surplus.filter(|other| !is_asked || other.order != Order::Unknown);
            let lately = surplus.filter(|surplus| now < surplus.at.saturating_add(SHOWN));
            let out: Vec<_> = lately
                .map(|surplus| (surplus.name.clone(), surplus.node))
                .collect();
            let in_by = link.let_in().map(|node| self.believed.name_of(node));
            let in_by: Vec<String> = in_by.collect();
            let is_ended = is_revoked(&link.key);
            let counted = (link.uses(), in_by.as_slice());
            (!out.is_empty()).then(|| problem::link_overused((&link.key, is_ended), counted, &out))
        });
        lately.collect()
    }

    /// Writes down whom links have let in, before anything follows from it; whether it is written.
    pub(super) fn keep_links(&mut self) -> bool {
        if !self.believed.links().is_changed() {
            return true;
        }
        let saved = self.membership.save_links(self.believed.links());
        let is_saved = saved.is_ok();
        if is_saved {
            self.believed.links_saved();
        }
        if self.outlets.health.set(STATE_UNWRITABLE, saved.err()) {
            tracing::error!("whom join links have let in cannot be written down");
        }
        is_saved
    }

    /// Lets the user know that we are none of the network any more.
    pub(super) fn show_put_out(&self) {
        let anchor = self.membership.network().anchor;
        let certificate = anchor.and_then(|anchor| anchor.certificate);
        let is_out = |keys: &[NodeId]| self.believed.revocations().covers(keys);
        let problem = certificate
            .filter(|certificate| is_out(&certificate.keys()))
            .map(|certificate| {
                let others = self.believed.links().others(&certificate);
                let others = others.filter(|(_, others)| !others.is_empty());
                let named = others.map(|(uses, others)| {
                    let others = others.iter().map(|node| self.believed.name_of(node));
                    (uses, others.collect::<Vec<_>>())
                });
                problem::put_out(named, is_out(&[certificate.binding.node_id]))
            });
        if self.outlets.health.set(PUT_OUT, problem) {
            tracing::error!("this node was put out of its network");
        }
    }
}
