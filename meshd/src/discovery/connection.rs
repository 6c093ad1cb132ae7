//! What keeps us known to one discovery server? Register, listen, and whenever that ends, begin again with growing pauses.
//!
//! Each server has a task of its own: one that is slow, dead or hostile holds up nothing but itself.

use std::{net::IpAddr, time::Duration};

use ed25519_dalek::SigningKey;
use futures::{StreamExt as _, stream::FuturesUnordered};
use mesh_wire::{
    NodeId,
    discovery::{ClientMessage, Network, ServerMessage},
    peer_info::PeerInfo,
    trust::{Certificate, Revocation},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    ServerError,
    beside::{Beside, Done},
    events::Events,
    rest::Rest,
};
use crate::{
    membership::Membership,
    problem::{self, Problem},
};

/// The first pause after a failure. A server that is being restarted is back within a second or two.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pauses where the server has no place for the network, see [`ServerError::is_shut_out`]: that ends by hand.
const SHUT_OUT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
/// A connection that held for this long proves that the server is well: the next pause is short again.
const HEALTHY: Duration = Duration::from_secs(10);

/// How long a connection that is no longer wanted may take to end.
const GOODBYE: Duration = Duration::from_millis(600);

/// Tells one server from another for as long as the daemon runs, also from one that was at the same URL before.
pub type ServerId = u64;

/// What a connection needs of us.
#[derive(Clone)]
pub struct Ourselves {
    /// Signs what is registered.
    pub membership: Membership,
    /// Our identity.
    pub key: SigningKey,
    /// How often the connection is proven to be alive.
    pub heartbeat: Duration,
    /// Rises when the host's addresses change: connections from the old ones are dead then, though nobody says so.
    pub moved: watch::Receiver<u64>,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum News {
    /// It stands; the server describes the network so, and us.
    Connected(Network, Box<PeerInfo>),
    /// The server registered us anew.
    Registered(Box<PeerInfo>),
    /// The server said something.
    Said(ServerMessage),
    /// It ended for this reason; the next attempt is after the pause.
    Lost(ServerError, Duration),
}

/// What a connection is asked to do.
#[derive(Debug)]
pub enum Errand {
    /// To hand a sealed letter to the server.
    Letter(NodeId, String),
    /// To ask for members, and to be told of their changes.
    Follow {
        /// These.
        nodes: Vec<NodeId>,
        /// And whoever has these addresses.
        addresses: Vec<IpAddr>,
    },
    /// To let the server know of a revocation.
    Revocation(Revocation),
    /// To register with another certificate.
    Certificate(Certificate),
}

/// The connection to one server.
pub struct Connection {
    /// Which.
    pub id: ServerId,
    /// The server.
    pub rest: Rest,
    /// We.
    pub ourselves: Ourselves,
    /// What is to be done.
    pub errands: mpsc::Receiver<Errand>,
    /// Where everything is told.
    pub news: mpsc::Sender<(ServerId, News)>,
}

impl Connection {
    /// Runs until `until`, or until nobody listens to the news.
    pub async fn run(mut self, until: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        self.ourselves.moved.mark_unchanged();
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.converse(&until) => ended,
                () = given_up(&until) => return,
            };
            let Err(error) = ended else { return };
            if began.elapsed() > HEALTHY {
                pause = FIRST_PAUSE;
            }
            pause = fitting(pause, &error);
            tracing::warn!(server = %self.rest.server(), %error, "discovery server lost; trying again in {pause:?}");
            if self.tell(News::Lost(error, pause)).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                Ok(()) = self.ourselves.moved.changed() => {
                    pause = FIRST_PAUSE;
                    continue;
                }
                () = until.cancelled() => return,
            }
            pause *= 2;
        }
    }

    /// Registers and listens, until something fails or `until`.
    async fn converse(&mut self, until: &CancellationToken) -> Result<(), ServerError> {
        // What was asked of the last connection has found another way, or its letters are old.
        while self.errands.try_recv().is_ok() {}
        // The original still has the change, and ends the pause before the next attempt.
        let mut moved = self.ourselves.moved.clone();
        let mut events = tokio::select! {
            events = self.enter() => events?,
            // What waits for an answer to an old address waits long.
            Ok(()) = moved.changed() => return Err(has_moved()),
        };
        let mut beside = Beside::new(Instant::now());
        let mut working = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            let due = beside.due(now).filter(|_| working.is_empty());
            tokio::select! {
                message = events.next() => {
                    let message = message?;
                    beside.note(&message);
                    self.on_message(message).await?;
                }
                errand = self.errands.recv() => match errand {
                    Some(errand) => self.run_errand(errand, &mut events, &mut beside).await?,
                    None => return Ok(()),
                },
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    let work = beside.take(Instant::now()).into_iter();
                    let membership = &self.ourselves.membership;
                    working.extend(work.map(|work| work.run(self.rest.clone(), membership.clone())));
                }
                Some(done) = working.next() => self.on_done(done, &mut beside).await?,
                Ok(()) = moved.changed() => return Err(has_moved()),
                () = until.cancelled() => {
                    events.close().await;
                    return Ok(());
                }
            }
        }
    }

    /// Registers, and begins to listen.
    async fn enter(&self) -> Result<Events, ServerError> {
        let membership = &self.ourselves.membership;
        let network = membership.network();
        let mut conversation = self.rest.converse().await?;
        let described = membership.find_or_restore(&mut conversation).await?;
        if described.network_key != membership.network_key() {
            let other = problem::network_key_differs(&network.id, self.rest.server());
            return Err(ServerError::refused(other));
        }
        let scope = membership.scope();
        if let Some(why) = scope.object_to_network(&described, true) {
            return Err(implausible(&why));
        }
        let registered = membership.register(&mut conversation).await;
        let own = registered.map_err(own_trouble)??;
        let objection = scope
            .object_to_own(&own)
            .or_else(|| self.object_to_move(&own));
        if let Some(why) = objection {
            return Err(implausible(&why));
        }
        membership.registered(&own).map_err(own_trouble)?;
        let (key, heartbeat) = (&self.ourselves.key, self.ourselves.heartbeat);
        let events = Events::open(conversation, &network.id, key, heartbeat).await?;
        tracing::info!(server = %self.rest.server(), "connected to the discovery server");
        self.tell(News::Connected(described, Box::new(own))).await?;
        Ok(events)
    }

    /// Why we cannot have the address that this server gives us, if so. One of several does not move us: the others and
    /// the interface have the old one.
    fn object_to_move(&self, own: &PeerInfo) -> Option<String> {
        let network = self.ourselves.membership.network();
        let is_moved = !network.virtual_ips.is_empty() && network.virtual_ips != own.virtual_ips;
        (is_moved && !network.others.is_empty()).then(|| {
            format!(
                "it gives this node the address {:?}, which has {:?} on the other servers",
                own.virtual_ips, network.virtual_ips
            )
        })
    }

    async fn on_message(&self, message: ServerMessage) -> Result<(), ServerError> {
        match message {
            ServerMessage::Error { problem } if problem.status == 429 => {
                tracing::debug!(%problem, "the server did not do what it was asked");
                Ok(())
            }
            ServerMessage::Error { problem } => Err(ServerError::refused(problem)),
            ServerMessage::Challenge { .. }
            | ServerMessage::Snapshot { .. }
            | ServerMessage::PeerJoined { .. }
            | ServerMessage::PeerUpdated { .. }
            | ServerMessage::PeerLeft { .. }
            | ServerMessage::Revoked { .. }
            | ServerMessage::Signal { .. }
            | ServerMessage::Turn(_)
            | ServerMessage::Undeliverable { .. } => self.tell(News::Said(message)).await,
        }
    }

    /// What takes a request is done beside the connection, and does not end it.
    async fn run_errand(
        &self,
        errand: Errand,
        events: &mut Events,
        beside: &mut Beside,
    ) -> Result<(), ServerError> {
        match errand {
            Errand::Letter(to, payload) => {
                events.send(&ClientMessage::Signal { to, payload }).await
            }
            Errand::Follow { nodes, addresses } => {
                let names = Vec::new();
                let follow = ClientMessage::Follow {
                    nodes,
                    addresses,
                    names,
                };
                events.send(&follow).await
            }
            Errand::Revocation(revocation) => {
                let is_ours = self.ourselves.membership.has_signed(&revocation);
                beside.revoke(revocation, (is_ours, random_share()), Instant::now());
                Ok(())
            }
            Errand::Certificate(certificate) => {
                beside.register(certificate);
                Ok(())
            }
        }
    }

    async fn on_done(&self, done: Done, beside: &mut Beside) -> Result<(), ServerError> {
        match done {
            Done::Told(left) => {
                beside.put_back(left, random_share(), Instant::now());
                Ok(())
            }
            Done::Registered(Some(own)) => {
                tracing::info!(server = %self.rest.server(), "got a new certificate");
                self.tell(News::Registered(own)).await
            }
            Done::Registered(None) => Ok(()),
        }
    }

    async fn tell(&self, news: News) -> Result<(), ServerError> {
        let told = self.news.send((self.id, news)).await;
        told.map_err(|_| ServerError::Unreachable("the daemon is stopping".to_owned()))
    }
}

/// A goodbye gets its time; who is still being reached hears none.
async fn given_up(until: &CancellationToken) {
    until.cancelled().await;
    sleep(GOODBYE).await;
}

fn implausible(why: &str) -> ServerError {
    ServerError::Unreachable(format!("what the server says cannot be true: {why}"))
}

/// The pause after this error, if so long a one is due.
fn fitting(pause: Duration, error: &ServerError) -> Duration {
    match error.is_shut_out() {
        true => pause.clamp(SHUT_OUT.0, SHUT_OUT.1),
        false => pause.min(LONGEST_PAUSE),
    }
}

fn has_moved() -> ServerError {
    ServerError::Unreachable("this host has moved, or was asleep".to_owned())
}

/// What this node can do nothing about, as what keeps us from the server.
pub(super) fn own_trouble(problem: Problem) -> ServerError {
    // In a line: the whole of it stands in the daemon's health.
    let Problem { title, detail, .. } = problem;
    ServerError::Unreachable(match detail.is_empty() {
        true => title,
        false => format!("{title}: {detail}"),
    })
}

/// Half to one and a half of `pause`, so that a thousand clients do not come back in one instant.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + random_share())
}

/// From 0 to 1; half where there is no chance to be had.
fn random_share() -> f64 {
    let mut byte = [128];
    match getrandom::fill(&mut byte) {
        Ok(()) => f64::from(byte[0]) / 256.0,
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_place_for_the_network_the_server_is_asked_seldom() {
        let refused = |code: &str| ServerError::refused(Problem::new(409, code, "no"));
        let mut pause = FIRST_PAUSE;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pause = fitting(pause, &refused("network-deleted"));
            pauses.push(pause.as_secs());
            pause *= 2;
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 600, 600]);
        let other = refused("address-taken");
        assert_eq!(fitting(pause, &other), LONGEST_PAUSE, "it goes on as ever");
        assert_eq!(fitting(FIRST_PAUSE, &other), FIRST_PAUSE);
    }
}
