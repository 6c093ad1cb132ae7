//! How does a first start get into the network? It asks until a server answers; only a refusal ends it.

use std::{collections::VecDeque, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use mesh_wire::{discovery::MAX_WHOLE_LIST, peer_info::Directory};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use url::Url;

use super::{Established, Membership};
use crate::{
    discovery::{
        ServerError,
        rest::{Conversation, Rest},
        scope::Scope,
    },
    prepare::refuse_overlap,
    problem::{self, NETWORK_EXISTS, Problem},
    state::JoinedNetwork,
    status::{ServerStatus, note},
};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A server that has not answered by then gets company by the next one.
const PATIENCE: Duration = Duration::from_secs(1);

/// What one may take to register us while another one waits, and at most. Who was given up for another one's sake is asked
/// again when all others have failed.
const HURRY: Duration = Duration::from_secs(3);
const LONGEST_ATTEMPT: Duration = Duration::from_secs(60);

impl Membership {
    /// Sees to it that the network exists and that we have an address in it. Tries one server after the other until it
    /// works; only refusals of all of them end it. `statuses` are kept informed meanwhile, and a change of the list
    /// counts at once.
    pub async fn establish(
        &self,
        statuses: &watch::Sender<Vec<ServerStatus>>,
        mut wanted: watch::Receiver<Vec<Url>>,
        interface: &str,
    ) -> Result<Established, Problem> {
        let mut pause = FIRST_PAUSE;
        loop {
            wanted.mark_unchanged();
            if let Some(established) = self.round(statuses, pause, interface).await? {
                return Ok(established);
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                Ok(()) = wanted.changed() => pause = FIRST_PAUSE,
            }
        }
    }

    /// Asks each server once, in order of preference; `None` if another round may succeed. Who creates the network is told
    /// of the first refusal, because it names what to choose differently.
    async fn round(
        &self,
        statuses: &watch::Sender<Vec<ServerStatus>>,
        pause: Duration,
        interface: &str,
    ) -> Result<Option<Established>, Problem> {
        let urls = self.servers().into_iter();
        let servers: Vec<Rest> = urls.map(|url| self.rest(url)).collect();
        let mut refusals = Vec::new();
        let mut waiting = servers.iter();
        let mut reaching = FuturesUnordered::new();
        let mut hurried: VecDeque<&Rest> = VecDeque::new();
        loop {
            if let Some(rest) = waiting.next() {
                reaching.push(async move { (rest, rest.converse().await) });
            }
            let (rest, reached) = tokio::select! {
                Some(reached) = reaching.next() => reached,
                () = sleep(PATIENCE), if waiting.len() > 0 => continue,
                else => match hurried.pop_front() {
                    Some(rest) => (rest, rest.converse().await),
                    None => break,
                },
            };
            let is_alone = waiting.len() == 0 && reaching.is_empty();
            let limit = if is_alone { LONGEST_ATTEMPT } else { HURRY };
            let attempt = self.attempt((rest, interface), reached);
            let answer = timeout(limit, attempt).await.unwrap_or_else(|_| {
                if !is_alone {
                    hurried.push_back(rest);
                }
                Ok(Err(took_too_long(limit)))
            });
            let (problem, is_final) = match answer {
                Ok(Ok(established)) => return Ok(Some(established)),
                Ok(Err(error)) => {
                    let is_final = self.is_final(&error);
                    log(rest.server(), &error, (!is_final).then_some(pause));
                    show(statuses, rest.server(), &error, pause);
                    (problem_of(&error, rest.server(), &self.network()), is_final)
                }
                Err(problem) => (problem, true),
            };
            if is_final {
                refusals.push(problem);
            }
            if is_final && self.is_creator() {
                break;
            }
        }
        let is_over = refusals.len() == servers.len() || self.is_creator();
        match refusals.into_iter().next() {
            Some(refusal) if is_over => {
                self.undo()?;
                Err(refusal)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whether asking again is useless. Who starts for the first time is there to see it; a member waits for a new certificate.
    fn is_final(&self, error: &ServerError) -> bool {
        let is_untrusted = matches!(error, ServerError::Untrusted(_));
        error.is_final() || is_untrusted && self.fresh
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
        &self,
        (rest, interface): (&Rest, &str),
        reached: Result<Conversation<'_>, ServerError>,
    ) -> Result<Result<Established, ServerError>, Problem> {
        let mut conversation = match reached {
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
        self.held().network.cidr = network.cidr;
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
        // In a large network each member is told of those that it asks for.
        let members = if network.peer_count > MAX_WHOLE_LIST as u64 {
            Directory {
                peers: vec![own.clone()],
                ..Directory::default()
            }
        } else {
            match conversation.peers(&network.id).await {
                Ok(members) => members,
                Err(error) => return Ok(Err(error)),
            }
        };
        Ok(Ok(Established {
            network,
            own,
            members,
        }))
    }
}

fn show(
    statuses: &watch::Sender<Vec<ServerStatus>>,
    server: &Url,
    error: &ServerError,
    pause: Duration,
) {
    note(statuses, server, |status| status.failed(error, pause));
}

/// Says what came of asking a server, and when it is asked again. One that refuses was reached.
fn log(server: &Url, error: &ServerError, again: Option<Duration>) {
    let again = again.map_or_else(String::new, |pause| format!("; trying again in {pause:?}"));
    match error {
        ServerError::Refused(_) => {
            tracing::warn!(%server, %error, "the discovery server answers and refuses{again}");
        }
        ServerError::Unreachable(_) | ServerError::Untrusted(_) => {
            tracing::warn!(%server, %error, "discovery server not reached{again}");
        }
    }
}

fn took_too_long(limit: Duration) -> ServerError {
    ServerError::Unreachable(format!("nothing came of it within {} s", limit.as_secs()))
}

/// What the user sees of a server error.
fn problem_of(error: &ServerError, server: &Url, network: &JoinedNetwork) -> Problem {
    match error {
        ServerError::Unreachable(why) => problem::server_unreachable(server, why),
        ServerError::Untrusted(why) => problem::server_untrusted(server.as_str(), why),
        ServerError::Refused(refusal) if refusal.code == NETWORK_EXISTS => {
            problem::network_exists(&network.id, server)
        }
        ServerError::Refused(refusal) => problem::server_refused(server, refusal),
    }
}
