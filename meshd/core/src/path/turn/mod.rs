//! A TURN client (RFC 8656): an address of ours at the nearest TURN server, while somebody needs it.
//!
//! Messages for a server are queued on a [`Route`] to it, and its own are handed in with their source: what carries
//! them is not known here.

mod allocation;
mod exchange;
mod message;
mod rights;
mod server;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    ops::Range,
    time::{Duration, Instant},
};

use rand::Rng;

use self::{
    allocation::{Allocation, Outcome},
    exchange::Exchange,
    message::{Answer, Challenge, Proof, Request, data_indication, read, request, send_indication},
    server::Server,
};
pub use self::{
    message::is_data_indication,
    server::{Trouble, TurnServer},
};
use crate::{
    path::{gather::Relayed, stun_index::TransactionId},
    queue::transmit::{CHANNEL_HEADER, Route, TransmitQueue},
};

/// The most servers that are known at once, as for STUN.
const MAX_SERVERS: usize = 8;
/// A relayed address that nobody has asked for for so long is given back: people come back to a peer within minutes.
const KEEP: Duration = Duration::from_secs(600);
/// Nonces that a server may call stale before it has given us an address.
const MAX_CHALLENGES: u8 = 3;

/// News of the relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnEvent {
    /// There is one.
    Allocated(Relayed),
    /// It is ours no more.
    Lost(Relayed),
}

/// What is known of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnStatus {
    /// Where it is.
    pub server: SocketAddr,
    /// How far it was when it was last asked.
    pub rtt: Option<Duration>,
    /// Our address there, while it relays for us.
    pub relayed: Option<SocketAddr>,
    /// Why it does not.
    pub trouble: Option<Trouble>,
}

/// All servers, and the address at one of them.
#[derive(Debug, Default)]
pub struct Turn {
    servers: Vec<Server>,
    /// Until when somebody needs a relayed address.
    wanted: Option<Instant>,
    stage: Stage,
    events: VecDeque<TurnEvent>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// All servers that may be asked are; who answers first is the nearest.
    Asking,
    Allocating(Attempt),
    Standing(Box<Allocation>),
}

/// Asking one server for an address.
#[derive(Debug)]
struct Attempt {
    server: SocketAddr,
    proof: Proof,
    exchange: Exchange,
    /// What stands in the way is an address that we had before we were restarted; its release was asked for.
    releases: bool,
    released: bool,
    challenges: u8,
}

impl Turn {
    /// Uses these servers from now on, at most 8 of them. Of one that is known already the credentials may be other ones.
    pub fn set_servers(
        &mut self,
        wanted: &[TurnServer],
        now: Instant,
        rng: &mut impl Rng,
        transmit: &mut TransmitQueue,
    ) {
        let mut old = std::mem::take(&mut self.servers);
        for known in wanted.iter().take(MAX_SERVERS) {
            let same = |server: &Server| server.known.address == known.address;
            if self.servers.iter().any(same) {
                continue;
            }
            let mut server = match old.iter().position(same) {
                Some(at) => old.swap_remove(at),
                None => Server::new(known.clone()),
            };
            if server.known != *known {
                server.known.clone_from(known);
                server.forgive();
                self.adopt(known, now, rng);
            }
            self.servers.push(server);
        }
        let gone = |address| old.iter().any(|server| server.known.address == address);
        match &self.stage {
            Stage::Standing(allocation) if gone(allocation.server) => {
                allocation.release(rng, now, transmit);
                self.lose();
            }
            Stage::Allocating(attempt) if gone(attempt.server) => self.stage = Stage::Idle,
            Stage::Idle | Stage::Asking | Stage::Allocating(_) | Stage::Standing(_) => {}
        }
        self.ask(now, rng);
    }

    /// A path may be needed: gets an address, or keeps it for some minutes.
    pub fn want(&mut self, now: Instant, rng: &mut impl Rng) {
        self.wanted = Some(now + KEEP);
        self.ask(now, rng);
    }

    /// Whether there are servers: none where nothing shall be relayed.
    pub fn is_used(&self) -> bool {
        !self.servers.is_empty()
    }

    /// The address, while there is one.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.allocation().map(|allocation| allocation.place.address)
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Idle => {
                let rests = self.servers.iter().filter_map(Server::rests_until).min();
                rests.filter(|at| self.wanted.is_some_and(|until| *at < until))
            }
            Stage::Asking => {
                let probes = self.servers.iter().filter_map(|server| server.probe);
                probes.map(|probe| probe.due()).min()
            }
            Stage::Allocating(attempt) => Some(attempt.exchange.due()),
            Stage::Standing(allocation) => {
                let due = allocation.poll_timeout();
                Some(self.wanted.map_or(due, |until| due.min(until)))
            }
        }
    }

    /// Sends what is due. `in_use` tells whether packets go through a channel.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        in_use: impl Fn(Option<NonZeroU16>) -> bool,
        transmit: &mut TransmitQueue,
    ) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        match &mut self.stage {
            Stage::Idle => self.ask(now, rng),
            Stage::Asking | Stage::Allocating(_) => {}
            Stage::Standing(_) => self.keep(now, rng, in_use, transmit),
        }
        self.send_probes(now, transmit);
        self.send_attempt(now, rng, transmit);
    }

    /// Takes a STUN message that came from `from` to our address `to`; whether it was an answer to a request of ours.
    pub fn handle_answer(
        &mut self,
        (from, to): (SocketAddr, SocketAddr),
        (id, bytes): (&TransactionId, &[u8]),
        rng: &mut impl Rng,
        now: Instant,
    ) -> bool {
        let Some(at) = self.position(from) else {
            return false;
        };
        if let Some(probe) = self.servers[at].probe.filter(|probe| probe.id == *id) {
            if let Some(answer) = read(bytes, None) {
                self.servers[at].rtt = Some(probe.round_trip(now));
                self.on_challenge(at, answer, rng, now);
            }
            return true;
        }
        match &mut self.stage {
            Stage::Allocating(attempt) if attempt.server == from && attempt.exchange.id == *id => {
                if let Some(answer) = read(bytes, Some(&attempt.proof)) {
                    self.servers[at].rtt = Some(attempt.exchange.round_trip(now));
                    self.on_granted((at, to), answer, rng, now);
                }
                true
            }
            Stage::Standing(allocation) if allocation.server == from => {
                match allocation.handle_answer((id, bytes), rng, now) {
                    Outcome::Foreign => return false,
                    Outcome::Fine => self.servers[at].worked(),
                    Outcome::Refused(code) => {
                        self.servers[at].trouble = Some(Trouble::Refused(code));
                    }
                    Outcome::Gone => {
                        self.lose();
                        self.ask(now, rng);
                    }
                }
                true
            }
            Stage::Idle | Stage::Asking | Stage::Allocating(_) | Stage::Standing(_) => false,
        }
    }

    /// What a server relays: ChannelData, or a Data indication. From whom it is, and where it is in the datagram. `None`
    /// unless it comes from the server at which we have an address.
    pub fn unwrap(&self, from: SocketAddr, datagram: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
        let allocation = self.allocation().filter(|ours| ours.server == from)?;
        if is_data_indication(datagram) {
            return data_indication(datagram);
        }
        let (&[a, b, c, d], data) = datagram.split_first_chunk()?;
        let channel = NonZeroU16::new(u16::from_be_bytes([a, b]))?;
        let length = usize::from(u16::from_be_bytes([c, d]));
        let peer = allocation.rights.peer_of(channel)?;
        (length <= data.len()).then_some((peer, CHANNEL_HEADER..CHANNEL_HEADER + length))
    }

    /// Lets a peer's packets through, if it is one that a public server can reach.
    pub fn permit(&mut self, peer: IpAddr, rng: &mut impl Rng, now: Instant) {
        if let Stage::Standing(allocation) = &mut self.stage
            && allocation.place.address.is_ipv4() == peer.is_ipv4()
            && !is_private(peer)
        {
            allocation.rights.permit(peer, rng, now);
        }
    }

    /// The way to `peer`, by a channel that is bound if it is not yet.
    pub fn bind(&mut self, peer: SocketAddr, rng: &mut impl Rng, now: Instant) -> Option<Route> {
        let Stage::Standing(allocation) = &mut self.stage else {
            return None;
        };
        let channel = allocation.rights.bind(peer, rng, now)?;
        Some(Route {
            channel: Some(channel),
            ..allocation.way()
        })
    }

    /// Whether what came from `peer` by way of our relayed address came by this route.
    pub fn leads_to(&self, route: Route, peer: SocketAddr) -> bool {
        let behind = |channel| self.allocation()?.rights.peer_of(channel);
        route.channel.and_then(behind) == Some(peer)
    }

    /// Sends a message to `peer` from the relayed address, which must have let it in.
    pub fn send(
        &self,
        (peer, message): (SocketAddr, &[u8]),
        rng: &mut impl Rng,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(allocation) = self.allocation() else {
            return;
        };
        if is_private(peer.ip()) {
            return;
        }
        let channel = allocation.rights.channel_of(peer);
        match channel.filter(|channel| allocation.rights.is_bound(*channel, now)) {
            Some(_) => {
                let way = allocation.way();
                transmit.push(Route { channel, ..way }, message);
            }
            None => {
                let id = Exchange::begin(rng, now).id;
                let indication = send_indication(peer, message, &id);
                transmit.push(allocation.way(), &indication);
            }
        }
    }

    /// Sends a message on a route; where that has a channel that the server may not know yet, without it.
    pub fn send_on(
        &self,
        (route, message): (Route, &[u8]),
        rng: &mut impl Rng,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let peer = |channel| self.allocation()?.rights.peer_of(channel);
        match route.channel.and_then(peer) {
            Some(peer) => self.send((peer, message), rng, now, transmit),
            None => transmit.push(route, message),
        }
    }

    /// Peers are not heard: find out now whether the server still knows us.
    pub fn doubt(&mut self, rng: &mut impl Rng, now: Instant) {
        if let Stage::Standing(allocation) = &mut self.stage {
            allocation.doubt(rng, now);
        }
    }

    /// These are our addresses now. If the one that we reached the server from is gone, so is the relayed one.
    pub fn set_hosts(&mut self, hosts: &[SocketAddr], now: Instant, rng: &mut impl Rng) {
        let base = self.allocation().map(|allocation| allocation.place.base);
        if base.is_some_and(|base| !hosts.contains(&base)) {
            self.lose();
        }
        // Who was silent may be reached from here.
        let silent = |server: &&mut Server| server.trouble == Some(Trouble::Silent);
        self.servers
            .iter_mut()
            .filter(silent)
            .for_each(Server::forgive);
        self.ask(now, rng);
    }

    /// Gives the address back.
    pub fn close(&mut self, now: Instant, rng: &mut impl Rng, transmit: &mut TransmitQueue) {
        if let Some(allocation) = self.allocation() {
            allocation.release(rng, now, transmit);
            self.lose();
        }
        self.wanted = None;
    }

    /// What is known of the servers.
    pub fn status(&self) -> Vec<TurnStatus> {
        let servers = self.servers.iter().map(|server| {
            let address = server.known.address;
            let allocation = self.allocation().filter(|ours| ours.server == address);
            TurnStatus {
                server: address,
                rtt: server.rtt,
                relayed: allocation.map(|ours| ours.place.address),
                trouble: server.trouble,
            }
        });
        servers.collect()
    }

    fn allocation(&self) -> Option<&Allocation> {
        match &self.stage {
            Stage::Standing(allocation) => Some(allocation),
            Stage::Idle | Stage::Asking | Stage::Allocating(_) => None,
        }
    }

    fn position(&self, server: SocketAddr) -> Option<usize> {
        let mut servers = self.servers.iter();
        servers.position(|known| known.known.address == server)
    }

    /// Asks all servers that may be asked, if there is a need.
    fn ask(&mut self, now: Instant, rng: &mut impl Rng) {
        if !matches!(self.stage, Stage::Idle) || self.wanted.is_none_or(|until| until <= now) {
            return;
        }
        for server in self
            .servers
            .iter_mut()
            .filter(|server| server.is_ready(now))
        {
            server.probe = Some(Exchange::begin(rng, now));
            self.stage = Stage::Asking;
        }
    }

    fn send_probes(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        for server in &mut self.servers {
            let Some(probe) = server.probe.as_mut().filter(|probe| probe.due() <= now) else {
                continue;
            };
            if probe.send(now) {
                let question = request(Request::Allocate, &probe.id, None);
                transmit.push(Route::to(server.known.address), &question);
            } else {
                server.failed(Trouble::Silent, now);
            }
        }
        self.end_asking();
    }

    fn end_asking(&mut self) {
        let asks = self.servers.iter().any(|server| server.probe.is_some());
        if matches!(self.stage, Stage::Asking) && !asks {
            self.stage = Stage::Idle;
        }
    }

    fn send_attempt(&mut self, now: Instant, rng: &mut impl Rng, transmit: &mut TransmitQueue) {
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
        transmit.push(Route::to(server), &message);
    }

    /// The answer to a question without proof, which is a refusal that says what is to be proven.
    fn on_challenge(&mut self, at: usize, answer: Answer, rng: &mut impl Rng, now: Instant) {
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
        let (address, Some(proof)) = (known.address, proof) else {
            server.failed(Trouble::Nonsense, now);
            return self.end_asking();
        };
        // A server that answers later is farther; all the same it is known how far.
        if !matches!(self.stage, Stage::Asking) {
            return;
        }
        self.stage = Stage::Allocating(Attempt {
            server: address,
            proof,
            exchange: Exchange::begin(rng, now),
            releases: false,
            released: false,
            challenges: 0,
        });
    }

    /// The answer to a question with proof.
    fn on_granted(
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

    fn fail(&mut self, server: SocketAddr, trouble: Trouble, now: Instant, rng: &mut impl Rng) {
        if let Some(at) = self.position(server) {
            self.servers[at].failed(trouble, now);
        }
        self.stage = Stage::Idle;
        self.ask(now, rng);
    }

    fn lose(&mut self) {
        if let Stage::Standing(allocation) = std::mem::take(&mut self.stage) {
            self.events.push_back(TurnEvent::Lost(allocation.place));
        }
    }

    /// Keeps the address while somebody needs it.
    fn keep(
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
        if !allocation.handle_timeout(now, rng, used, transmit) {
            let server = allocation.server;
            self.lose();
            self.fail(server, Trouble::Silent, now, rng);
        }
    }

    fn adopt(&mut self, known: &TurnServer, now: Instant, rng: &mut impl Rng) {
        match &mut self.stage {
            Stage::Standing(allocation) if allocation.server == known.address => {
                let challenge: Challenge = allocation.proof().challenge();
                if let Some(proof) = Proof::new((&known.username, &known.password), challenge) {
                    allocation.adopt(proof, rng, now);
                }
            }
            Stage::Allocating(attempt) if attempt.server == known.address => {
                self.stage = Stage::Idle;
            }
            Stage::Idle | Stage::Asking | Stage::Allocating(_) | Stage::Standing(_) => {}
        }
    }
}

/// Whether a public TURN server cannot reach it, or must not: private networks (RFC 1918, RFC 6598, RFC 4193). What is no
/// peer's address anyway is not among the peers' candidates.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || (a == 100 && b & 0xC0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
