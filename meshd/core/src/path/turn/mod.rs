//! A TURN client (RFC 8656): an address of ours at the nearest TURN server, while somebody needs it.
//!
//! Messages for a server are queued on a `Route` to it, and its own are handed in with their source: what carries
//! them is not known here.

mod allocation;
mod exchange;
mod message;
mod rights;
mod server;
mod stages;
mod streams;
mod through;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use rand::Rng;

use self::{
    allocation::{Allocation, Outcome},
    message::read,
    server::Server,
    stages::Stage,
    streams::Streams,
};
pub use self::{
    message::is_data_indication,
    server::{Trouble, TurnServer},
    streams::{Contact, StreamRequest, Transport},
    through::is_private,
};
use crate::{path::stun_index::TransactionId, queue::transmit::TransmitQueue};

/// The most servers that are known at once: eight as for STUN, each over UDP, over TCP and over a WebSocket.
const MAX_SERVERS: usize = 24;
/// A relayed address that nobody has asked for for so long is given back: people come back to a peer within minutes.
const KEEP: Duration = Duration::from_secs(600);

/// An address at a TURN server that is ours for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// What the server relays to us.
    pub address: SocketAddr,
    /// The local address that we reach the server from.
    pub base: SocketAddr,
}

/// News of the relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnEvent {
    /// There is one.
    Allocated(Relayed),
    /// It is ours no more.
    Lost(Relayed),
    /// A server answers in a better way than the one that relays for us: maybe peers are reached directly, too.
    BetterAnswers,
}

/// What is known of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnStatus {
    /// Where it is.
    pub server: SocketAddr,
    /// How it is reached.
    pub transport: Transport,
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
    streams: Streams,
    events: VecDeque<TurnEvent>,
}

impl Turn {
    /// Uses these servers from now on, at most 24 of them. Of one that is known already the credentials may be other ones.
    pub fn set_servers(
        &mut self,
        wanted: &[TurnServer],
        now: Instant,
        rng: &mut impl Rng,
        transmit: &mut TransmitQueue,
    ) {
        let mut old = std::mem::take(&mut self.servers);
        for known in wanted.iter().take(MAX_SERVERS) {
            let same = |server: &Server| {
                (server.known.address, &server.known.transport) == (known.address, &known.transport)
            };
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
                self.adopt((server.contact(), known), now, rng);
            }
            self.servers.push(server);
        }
        old.iter()
            .filter_map(|server| server.stream)
            .for_each(|stream| self.streams.close(stream));
        let gone = |contact| old.iter().any(|server| server.contact() == Some(contact));
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

    /// The address, while there is one, and from where we reach it.
    pub fn place(&self) -> Option<Relayed> {
        self.allocation().map(|allocation| allocation.place)
    }

    /// The address, while there is one.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.place().map(|place| place.address)
    }

    /// The server at which we have it.
    pub fn server(&self) -> Option<SocketAddr> {
        self.allocation().map(|allocation| allocation.way().dst)
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.servers.iter().filter_map(|server| server.probe);
        let probe = probes.map(|probe| probe.due()).min();
        let stage = match &self.stage {
            Stage::Idle => {
                let rests = self.servers.iter().filter_map(Server::rests_until).min();
                rests.filter(|at| self.wanted.is_some_and(|until| *at < until))
            }
            Stage::Asking => None,
            Stage::Allocating(attempt) => Some(attempt.exchange.due()),
            Stage::Standing(allocation) => {
                let ours = self.rank();
                let better = self.servers.iter().filter(|server| {
                    ours.is_some_and(|ours| server.rank() < ours) && server.probe.is_none()
                });
                let rests = better.filter_map(Server::rests_until).min();
                let due = [Some(allocation.poll_timeout()), self.wanted, rests];
                due.into_iter().flatten().min()
            }
        };
        [probe, stage].into_iter().flatten().min()
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

    /// Takes a STUN message that came from a server to our address `to`; whether it was an answer to a request of ours.
    pub fn handle_answer(
        &mut self,
        (from, to): (Contact, SocketAddr),
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
                    Outcome::Fine => {
                        self.servers[at].worked();
                        self.spare_worse(at);
                    }
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

    /// Peers are not heard: find out now whether the server still knows us.
    pub fn doubt(&mut self, rng: &mut impl Rng, now: Instant) {
        if let Stage::Standing(allocation) = &mut self.stage {
            self.servers.iter_mut().for_each(Server::unsettle);
            allocation.doubt(rng, now);
        }
    }

    /// These are our addresses now. If the one that we reached the server from is gone, so is the relayed one.
    pub fn set_hosts(&mut self, hosts: &[SocketAddr], now: Instant, rng: &mut impl Rng) {
        let base = self.allocation().map(|allocation| allocation.place.base);
        // A proxy on this host is reached from nowhere else.
        if base.is_some_and(|base| !base.ip().is_loopback() && !hosts.contains(&base)) {
            self.lose();
            // Connections begin at an address, too.
            self.hang_up();
        }
        self.forgive_silence();
        self.ask(now, rng);
    }

    /// This machine was asleep, and perhaps the address has ended meanwhile, or a NAT no longer leads to the server from where
    /// that knows us. What went over a connection begins anew: nobody says that one is dead.
    pub fn awoke(&mut self, now: Instant, rng: &mut impl Rng) {
        match &self.stage {
            Stage::Standing(ours) if ours.has_expired(now) || ours.server.stream.is_some() => {
                self.lose();
            }
            Stage::Standing(_) => self.doubt(rng, now),
            Stage::Idle | Stage::Asking | Stage::Allocating(_) => self.stage = Stage::Idle,
        }
        for server in &mut self.servers {
            server.probe = None;
        }
        self.hang_up();
        self.forgive_silence();
        self.ask(now, rng);
    }

    fn hang_up(&mut self) {
        let streams = self
            .servers
            .iter_mut()
            .filter_map(|server| server.stream.take());
        streams.for_each(|stream| self.streams.close(stream));
    }

    /// Who was silent may be reached from where we are now.
    fn forgive_silence(&mut self) {
        let silent = |server: &&mut Server| {
            matches!(
                server.trouble,
                Some(Trouble::Silent | Trouble::Unreachable | Trouble::Closed)
            )
        };
        self.servers
            .iter_mut()
            .filter(silent)
            .for_each(Server::forgive);
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
            let is_there = |ours: &&Allocation| Some(ours.server) == server.contact();
            let allocation = self.allocation().filter(is_there);
            TurnStatus {
                server: server.known.address,
                transport: server.known.transport.clone(),
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

    fn position(&self, server: Contact) -> Option<usize> {
        let mut servers = self.servers.iter();
        servers.position(|known| known.contact() == Some(server))
    }
}

#[cfg(test)]
pub(crate) mod tests;
