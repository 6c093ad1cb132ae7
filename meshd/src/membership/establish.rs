//! How does a first start get into the network? It asks until a server answers; only a refusal ends it.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use url::Url;

use super::{Established, Membership};
use crate::{
    discovery::{ServerError, client::whole_seconds, rest::Rest, scope::Scope},
    prepare::refuse_overlap,
    problem::{self, Problem},
    state::JoinedNetwork,
    status::ServerStatus,
};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Membership {
    /// Sees to it that the network exists and that we have an address in it. Tries until it works; only a refusal
    /// ends it. `server` is kept informed meanwhile.
    pub async fn establish(
        &mut self,
        rest: &Rest,
        server: &watch::Sender<ServerStatus>,
        interface: &str,
    ) -> Result<Established, Problem> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt(rest, interface).await {
                Ok(Ok(established)) => return Ok(established),
                Ok(Err(error)) => error,
                Err(problem) => {
                    self.undo()?;
                    return Err(problem);
                }
            };
            let refused = problem_of(&error, rest.server(), &self.network);
            if error.is_final() {
                self.undo()?;
                return Err(refused);
            }
            tracing::warn!(server = %rest.server(), %error, "discovery server not reached; trying again in {pause:?}");
            server.send_modify(|status| {
                status.error = Some(error.to_string());
                status.retry_in_s = Some(whole_seconds(pause));
            });
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A first start that led nowhere leaves no network behind.
    fn undo(&self) -> Result<(), Problem> {
        if self.fresh {
            self.state.remove_network()
        } else {
            Ok(())
        }
    }

    /// The outer error is ours and final, the inner one the server's. Nothing is registered before it is certain that
    /// this host can take part.
    async fn attempt(
        &mut self,
        rest: &Rest,
        interface: &str,
    ) -> Result<Result<Established, ServerError>, Problem> {
        let mut conversation = match rest.converse().await {
            Ok(conversation) => conversation,
            Err(error) => return Ok(Err(error)),
        };
        let network = match self.find_or_create(&mut conversation).await {
            Ok(network) => network,
            Err(error) => return Ok(Err(error)),
        };
        if network.network_key != self.network_key() {
            return Err(problem::network_key_differs(&network.id, rest.server()));
        }
        let scope = self.scope();
        if let Some(why) = scope.object_to_network(&network, false) {
            return Err(problem::server_implausible(rest.server(), &why));
        }
        refuse_overlap(network.cidr, interface).await?;
        self.network.cidr = network.cidr;
        let own = match self.register(&mut conversation).await? {
            Ok(own) => own,
            Err(error) => return Ok(Err(error)),
        };
        let scope = Scope {
            cidr: network.cidr,
            ..scope
        };
        if let Some(why) = scope.object_to_own(&own) {
            return Err(problem::server_implausible(rest.server(), &why));
        }
        self.registered(&own)?;
        let members = match conversation.peers(&network.id).await {
            Ok(members) => members,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Established {
            network,
            own,
            members,
        }))
    }
}

/// What the user sees of a server error.
fn problem_of(error: &ServerError, server: &Url, network: &JoinedNetwork) -> Problem {
    match error {
        ServerError::Unreachable(why) => problem::server_unreachable(server, why),
        ServerError::Refused(refusal) if refusal.code == "network-exists" => {
            problem::network_exists(&network.id, server)
        }
        ServerError::Refused(refusal) => problem::server_refused(server, refusal),
    }
}
