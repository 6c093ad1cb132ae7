//! What is looked at again now and then, though no server says anything new?

use std::time::Duration;

use super::{client::DiscoveryClient, directory::Objection};
use crate::{
    dataplane::Ended,
    problem::{self, MEMBER_REFUSED, Problem},
    trust::unix_time,
};

/// How often.
pub const REVIEW: Duration = Duration::from_secs(5);

impl DiscoveryClient {
    /// Compares lists with others, tells the revocations that were too many at once, and judges anew who is a member. This run
    /// has gone on for so long.
    pub(super) async fn review(&mut self, run: Duration) -> Result<(), Ended> {
        self.believed.runs_for(run);
        self.compare_lists().await?;
        self.spread_news(None);
        self.judge().await?;
        // Without a server nobody says who is gone.
        let changed = self.servers.any_connected() && self.believed.review(unix_time());
        self.show_refused();
        let links = self.believed.links();
        if changed || links.is_changed() || links.awaits_servers() {
            self.renew();
        }
        match changed {
            true => self.show_all().await,
            false => Ok(()),
        }
    }

    /// Lets the user know whom a server lists and this machine does not take for a member.
    pub(super) fn show_refused(&self) {
        let problems = problems(self.believed.refused(unix_time()));
        self.outlets.health.set(MEMBER_REFUSED, problems);
        self.show_put_out();
    }
}

/// One for each who has what is another's, and one for all who are made up.
fn problems(refused: Vec<(String, Objection)>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unsigned = Vec::new();
    for (name, why) in refused {
        match why {
            Objection::Claims { of, is_listed } => {
                problems.push(problem::member_refused(&name, (&of, is_listed)));
            }
            Objection::LinkUsedUp { uses, by } => {
                problems.push(problem::member_too_many(&name, (uses, &by)));
            }
            Objection::Unsigned => unsigned.push(name),
            Objection::Over => {}
        }
    }
    if !unsigned.is_empty() {
        problems.push(problem::members_unsigned(&unsigned));
    }
    problems
}
