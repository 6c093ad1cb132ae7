//! Which machines do we put out, because a link of ours had let in as many as it may?

use mesh_wire::NodeId;

use super::{client::DiscoveryClient, hearsay::Hearsay};
use crate::{
    dataplane::Ended,
    problem::{self, LINK_OVERUSED, PUT_OUT, Problem, STATE_UNWRITABLE},
    trust::{authority::Authority, unix_time},
};

/// For how long the user is shown that a machine was put out, in seconds.
const SHOWN: u64 = 24 * 3600;

impl DiscoveryClient {
    /// Puts out whoever came by a link of ours that was used up. What we know of links is on disk before that.
    pub(super) async fn judge(&mut self) -> Result<(), Ended> {
        if !self.keep_links() || self.believed.links().overused(|_| true).next().is_none() {
            return Ok(());
        }
        let Some(authority) = self.membership.authority() else {
            return Ok(());
        };
        for key in self.condemned(&authority) {
            match authority.revoke(&key) {
                Ok(revocation) => self.hear(Hearsay::Signed(revocation)).await?,
                Err(problem) => {
                    tracing::error!(%problem, "a machine that came by a used link stays")
                }
            }
        }
        let problems = self.overuse(&authority);
        if self.outlets.health.set(LINK_OVERUSED, problems.clone()) {
            for problem in &problems {
                tracing::warn!(%problem, "a join link was used too often");
            }
        }
        Ok(())
    }

    /// Whose keys are to be revoked and are not yet.
    fn condemned(&self, authority: &Authority) -> Vec<NodeId> {
        let revoked = self.believed.revocations();
        let ours = self
            .believed
            .links()
            .overused(|maker| authority.has_made(maker));
        let ours = ours.filter(|link| !revoked.covers(&[link.key]));
        let keys = ours.flat_map(|link| {
            let rests_on = |node: &NodeId| self.believed.may_rest_on(&link.key, node);
            link.sentence(rests_on)
        });
        keys.filter(|key| !revoked.covers(&[*key])).collect()
    }

    /// The links of ours that too many came by lately.
    fn overuse(&self, authority: &Authority) -> Vec<Problem> {
        let now = unix_time();
        let ours = self
            .believed
            .links()
            .overused(|maker| authority.has_made(maker));
        let lately = ours.filter_map(|link| {
            let surplus = link.surplus.iter();
            let lately = surplus.filter(|surplus| now < surplus.at.saturating_add(SHOWN));
            let out: Vec<String> = lately
                .map(|surplus| format!("{} ({})", surplus.name, surplus.node.short()))
                .collect();
            let in_by = link.let_in.iter().map(|node| self.believed.name_of(node));
            let in_by: Vec<String> = in_by.collect();
            (!out.is_empty()).then(|| problem::link_overused(&link.key, (link.uses, &in_by), &out))
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
                problem::put_out(named)
            });
        if self.outlets.health.set(PUT_OUT, problem) {
            tracing::error!("this node was put out of its network");
        }
    }
}
