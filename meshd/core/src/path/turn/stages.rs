//! From "somebody needs a relayed address" to having one, and back. (RFC 8656 sections 7 and 8)

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use rand::Rng;

use super::{
    KEEP, Relayed, Turn, TurnEvent,
    allocation::Allocation,
    exchange::Exchange,
    message::{Answer, Challenge, Proof, Request, request},
    server::{Server, Trouble, TurnServer},
    streams::{Contact, Transport},
};
use crate::queue::transmit::TransmitQueue;

/// Nonces that a server may call stale before it has given us an address.
pub(super) const MAX_CHALLENGES: u8 = 3;

/// What servers have to answer over UDP before those that are reached over connections are asked too, and these before
/// WebSockets. An answer from the other side of the world takes a third of it, and two blocked peers still meet within 5 s.
const HEAD_START: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    Idle,
    /// All servers that may be asked are; who answers first is the nearest.
    Asking,
    Allocating(Attempt),
    Standing(Box<Allocation>),
}

/// Asking one server for an address.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) server: Contact,
    pub(super) proof: Proof,
    pub(super) exchange: Exchange,
    /// What stands in the way is an address that we had before we were restarted; its release was asked for.
    pub(super) releases: bool,
    pub(super) released: bool,
    pub(super) challenges: u8,
}

impl Turn {
    /// Asks all servers that may be asked, if there is a need.
    pub(super) fn ask(&mut self, now: Instant, rng: &mut impl Rng) {
        if !matches!(self.stage, Stage::Idle) || self.wanted.is_none_or(|until| until <= now) {
            return;
        }
        self.plan_probes(None, now, rng);
        if self.servers.iter().any(|server| server.probe.is_some()) {
            self.stage = Stage::Asking;
        }
    }

    /// Asks all servers but one that may be asked and are not yet: over UDP now, over connections once that has had its
    /// time, over WebSockets last.
    fn plan_probes(&mut self, but: Option<Contact>, now: Instant, rng: &mut impl Rng) {
        let may =
            |server: &Server| server.is_ready(now) && (but.is_none() || server.contact() != but);
        let ranks = self.servers.iter().filter(|server| may(server));
        let ranks: BTreeSet<u32> = ranks.map(Server::rank).collect();
        for server in self.servers.iter_mut().filter(|server| may(server)) {
            let better = ranks.range(..server.rank());
            let due = better.fold(now, |due, _| due + HEAD_START);
            server.plan(due, rng, now);
        }
    }

    /// A server answers, so those that are reached in a worse way need not be asked.
    pub(super) fn spare_worse(&mut self, at: usize) {
        let rank = self.servers[at].rank();
        let servers = self.servers.iter_mut();
        servers
            .filter(|server| server.rank() > rank)
            .for_each(|server| server.probe = None);
    }

    pub(super) fn send_probes(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            let Some(probe) = server.probe.as_mut().filter(|probe| probe.due() <= now) else {
                continue;
            };
            if probe.send(now) {
                let question = request(Request::Allocate, &probe.id, None);
                transmit.push(self.reach(at).route(), &question);
            } else {
                server.failed(Trouble::Silent, now);
            }
        }
        self.end_asking();
    }

    pub(super) fn end_asking(&mut self) {
        let asks = self.servers.iter().any(|server| server.probe.is_some());
        if matches!(self.stage, Stage::Asking) && !asks {
            self.stage = Stage::Idle;
        }
    }

    pub(super) fn send_attempt(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        transmit: &mut TransmitQueue,
    ) {
        let Stage::Allocating(attempt) = &mut self.stage else {
            return;
        };
        if attempt.exchange.due() > now {
            return;
        }
        let server = attempt.server;
        if !attempt.exchange.send(now) {
            return self.fail(server, Trouble::Silent, now, rng);
        }
        let asked = match attempt.releases {
            true => Request::Release,
            false => Request::Allocate,
        };
        let message = request(asked, &attempt.exchange.id, Some(&attempt.proof));
        transmit.push(server.route(), &message);
    }

    /// The answer to a question without proof, which is a refusal that says what is to be proven.
    pub(super) fn on_challenge(
        &mut self,
        at: usize,
        answer: Answer,
        rng: &mut impl Rng,
        now: Instant,
    ) {
        let server = &mut self.servers[at];
        server.probe = None;
        let known = &server.known;
        let proof = match (answer.error, answer.challenge) {
            (Some(401 | 438), Some(challenge)) => {
                Proof::new((&known.username, &known.password), challenge)
            }
            (error, _) => {
                server.failed(error.map_or(Trouble::Nonsense, Trouble::Refused), now);
                return self.end_asking();
            }
        };
        let (Some(contact), Some(proof)) = (server.contact(), proof) else {
            server.failed(Trouble::Nonsense, now);
            return self.end_asking();
        };
        if !self.is_wanted(at, now) {
            return;
        }
        self.spare_worse(at);
        self.lose();
        self.stage = Stage::Allocating(Attempt {
            server: contact,
            proof,
            exchange: Exchange::begin(rng, now),
            releases: false,
            released: false,
            challenges: 0,
        });
    }

    /// Whether a server that has just answered is to relay for us. One that answers later is farther; all the same it is
    /// known how far. But UDP is better than a connection, that better than a WebSocket, and any server better than one that is
    /// silent.
    fn is_wanted(&mut self, answers: usize, now: Instant) -> bool {
        match &self.stage {
            Stage::Asking => true,
            Stage::Standing(ours) if ours.is_doubtful() => {
                if let Some(at) = self.position(ours.server) {
                    self.servers[at].failed(Trouble::Silent, now);
                }
                true
            }
            Stage::Standing(_) => {
                let rank = self.servers[answers].rank();
                if self.rank().is_none_or(|ours| rank >= ours) {
                    return false;
                }
                let settled = self.servers[answers].has_settled(now);
                if !settled {
                    self.events.push_back(TurnEvent::BetterAnswers);
                }
                settled
            }
            Stage::Idle | Stage::Allocating(_) => false,
        }
    }

    /// The answer to a question with proof.
    pub(super) fn on_granted(
        &mut self,
        (at, to): (usize, SocketAddr),
        answer: Answer,
        rng: &mut impl Rng,
        now: Instant,
    ) {
        let Stage::Allocating(attempt) = &mut self.stage else {
            return;
        };
        let server = attempt.server;
        match (answer.error, answer.relayed) {
            (None | Some(437), _) if attempt.releases => {
                attempt.releases = false;
                attempt.exchange = Exchange::begin(rng, now);
            }
            (None, Some(address)) => {
                let place = Relayed { address, base: to };
                let terms = (attempt.proof.clone(), answer.lifetime);
                let allocation = Allocation::new(server, place, terms, now);
                self.stage = Stage::Standing(Box::new(allocation));
                self.servers[at].worked();
                self.events.push_back(TurnEvent::Allocated(place));
            }
            (None, None) => self.fail(server, Trouble::Nonsense, now, rng),
            (Some(438), _) if attempt.challenges < MAX_CHALLENGES => {
                attempt.challenges += 1;
                let renewed = answer
                    .challenge
                    .is_some_and(|challenge| attempt.proof.renew(challenge));
                if renewed {
                    attempt.exchange = Exchange::begin(rng, now);
                } else {
                    self.fail(server, Trouble::Refused(438), now, rng);
                }
            }
            // We had an address before we were restarted.
            (Some(437), _) if !attempt.released => {
                attempt.releases = true;
                attempt.released = true;
                attempt.exchange = Exchange::begin(rng, now);
            }
            (Some(code), _) => self.fail(server, Trouble::Refused(code), now, rng),
        }
    }

    pub(super) fn fail(
        &mut self,
        server: Contact,
        trouble: Trouble,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        // What it refuses to a user over UDP it refuses over TCP. The address of one that is reached by its URL may stand for
        // any server.
        let refuses = matches!(trouble, Trouble::Refused(_));
        for other in &mut self.servers {
            let is_this = other.contact() == Some(server);
            let by_url = matches!(other.known.transport, Transport::WebSocket(_));
            let same = refuses && !by_url && other.known.address == server.address;
            if same || is_this {
                other.failed(trouble, now);
            }
        }
        self.stage = Stage::Idle;
        self.ask(now, rng);
    }

    pub(super) fn lose(&mut self) {
        self.servers.iter_mut().for_each(Server::unsettle);
        if let Stage::Standing(allocation) = std::mem::take(&mut self.stage) {
            self.events.push_back(TurnEvent::Lost(allocation.place));
        }
    }

    /// Keeps the address while somebody needs it.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        in_use: impl Fn(Option<NonZeroU16>) -> bool,
        transmit: &mut TransmitQueue,
    ) {
        let Stage::Standing(allocation) = &mut self.stage else {
            return;
        };
        if self.wanted.is_none_or(|until| until <= now) {
            if !in_use(None) {
                allocation.release(rng, now, transmit);
                self.wanted = None;
                return self.lose();
            }
            self.wanted = Some(now + KEEP);
        }
        let used = |channel| in_use(Some(channel));
        let server = allocation.server;
        if !allocation.handle_timeout(now, rng, used, transmit) {
            self.lose();
            self.fail(server, Trouble::Silent, now, rng);
        } else if allocation.is_doubtful() {
            self.plan_probes(Some(server), now, rng);
        } else if let Some(ours) = self.rank() {
            let others = self.servers.iter_mut();
            others
                .filter(|other| other.rank() < ours)
                .for_each(|other| other.plan(now, rng, now));
        }
    }

    pub(super) fn adopt(
        &mut self,
        (contact, known): (Option<Contact>, &TurnServer),
        now: Instant,
        rng: &mut impl Rng,
    ) {
        match &mut self.stage {
            Stage::Standing(allocation) if Some(allocation.server) == contact => {
                let challenge: Challenge = allocation.proof().challenge();
                if let Some(proof) = Proof::new((&known.username, &known.password), challenge) {
                    allocation.adopt(proof, rng, now);
                }
            }
            Stage::Allocating(attempt) if Some(attempt.server) == contact => {
                self.stage = Stage::Idle;
            }
            Stage::Idle | Stage::Asking | Stage::Allocating(_) | Stage::Standing(_) => {}
        }
    }
}
