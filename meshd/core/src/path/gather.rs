//! Which addresses can peers try to reach us at? Host candidates from the interfaces, server-reflexive ones from STUN
//! servers (RFC 8445 section 5.1.1, RFC 8489 section 7) and from gateways that map a port for us.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::Rng;
use stun_types::{
    attribute::XorMappedAddress,
    message::{Message, MessageClass},
};

use super::{
    birthday::Birthday,
    stun_index::TransactionId,
    turn::{Relayed, Turn},
};
use crate::queue::transmit::{Route, TransmitQueue};

/// First retransmission. RFC 8489 section 6.2.1 asks for 500 ms by default and allows less; the exchange with a
/// server that is near shall not wait for it.
const INITIAL_RTO: Duration = Duration::from_millis(250);
/// Requests per round, as RFC 8489's Rc.
const MAX_REQUESTS: u32 = 7;
/// How often a mapping is confirmed, which also keeps it alive: NATs forget idle UDP mappings after 30 s and up.
const REFRESH: Duration = Duration::from_secs(25);
/// An answer younger than this is believed even when paths fail, and a pause between questions shorter than this is
/// waited for.
const CREDIBLE: Duration = Duration::from_secs(5);
/// A pause that is longer than this is cut short when an answer is wanted: the server may be reached again, and what is known
/// from before may be wrong.
const UNANSWERED: Duration = Duration::from_secs(2);
/// Whoever has not answered so many requests, the last of them after 3.75 s, is silent: more than a lossy path explains.
const PATIENCE: u32 = 5;
/// The most STUN servers that are asked.
const MAX_SERVERS: usize = 8;
/// The most mapped ports that are offered: each is a candidate, and a peer takes only so many.
const MAX_PORT_MAPPINGS: usize = 4;

/// An address of ours as a server saw it, or as a gateway maps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reflexive {
    /// What the server saw; where the gateway takes packets for us.
    pub mapped: SocketAddr,
    /// The local address that the answer came to; where the gateway sends those packets.
    pub base: SocketAddr,
}

#[derive(Debug)]
struct Server {
    transaction: TransactionId,
    sent: u32,
    next: Instant,
    silent: bool,
}

/// Host addresses, STUN servers and what they said.
#[derive(Debug, Default)]
pub struct Gatherer {
    hosts: Vec<SocketAddr>,
    servers: BTreeMap<SocketAddr, Server>,
    reflexive: BTreeMap<SocketAddr, Reflexive>,
    port_mappings: Vec<Reflexive>,
    /// The relayed address, and how it is had.
    pub turn: Turn,
    /// Sockets beside the mesh's own, and how they come to be.
    pub birthday: Birthday,
}

impl Gatherer {
    /// The local addresses, with the port of our socket. Returns whether they differ from before; then what the
    /// servers said no longer holds and is asked again.
    pub fn set_hosts(&mut self, hosts: Vec<SocketAddr>, now: Instant) -> bool {
        if self.hosts == hosts {
            return false;
        }
        self.hosts = hosts;
        self.start_over(now);
        true
    }

    /// What the servers said no longer holds: they are asked again.
    pub fn start_over(&mut self, now: Instant) {
        self.reflexive.clear();
        for server in self.servers.values_mut() {
            server.sent = 0;
            server.next = now;
            server.silent = false;
        }
    }

    /// The STUN servers to ask, at most 8 of them.
    pub fn set_servers(&mut self, servers: &[SocketAddr], now: Instant) {
        let wanted: Vec<_> = servers.iter().take(MAX_SERVERS).collect();
        self.servers.retain(|address, _| wanted.contains(&address));
        self.reflexive
            .retain(|address, _| wanted.contains(&address));
        for address in wanted {
            self.servers.entry(*address).or_insert(Server {
                transaction: [0; 12],
                sent: 0,
                next: now,
                silent: false,
            });
        }
    }

    /// The ports that gateways map for us now (PCP, NAT-PMP or UPnP). Returns whether they differ from before.
    pub fn set_port_mappings(&mut self, mut mappings: Vec<Reflexive>) -> bool {
        mappings.truncate(MAX_PORT_MAPPINGS);
        let changed = self.port_mappings != mappings;
        self.port_mappings = mappings;
        changed
    }

    /// A path failed, perhaps because our NAT has forgotten us, or is wanted while no server has answered: servers that
    /// would not be asked for a while are asked now.
    pub fn doubt(&mut self, now: Instant) {
        self.doubt_older(CREDIBLE, now);
    }

    /// As [`Self::doubt`], but an answer is believed only while it is younger than `credible`.
    pub fn doubt_older(&mut self, credible: Duration, now: Instant) {
        for server in self.servers.values_mut() {
            let pause = server.next.saturating_duration_since(now);
            let answered = server.sent == 0;
            let stale = answered && pause <= REFRESH.saturating_sub(credible);
            if stale || (!answered && pause > UNANSWERED) {
                server.sent = 0;
                server.next = server.next.min(now);
            }
        }
    }

    /// The local addresses.
    pub fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// The STUN servers that are asked, each with its last answer.
    pub fn servers(&self) -> impl Iterator<Item = (SocketAddr, Option<Reflexive>)> {
        let answer = |server| self.reflexive.get(server).copied();
        self.servers
            .keys()
            .map(move |server| (*server, answer(server)))
    }

    /// Whether a server has just been asked and none has said how we are seen: for as long as an answer may be on its way.
    pub fn is_looking(&self, now: Instant) -> bool {
        let is_asked = |server: &Server| match server.sent {
            0 => server.next <= now,
            sent => sent == 1 && !server.silent,
        };
        self.reflexive.is_empty() && self.servers.values().any(is_asked)
    }

    /// Whether there are servers, and each has left several requests in a row unanswered.
    pub fn are_silent(&self) -> bool {
        !self.servers.is_empty() && self.servers.values().all(|server| server.silent)
    }

    /// What the servers said, each answer once.
    pub fn reflexive(&self) -> Vec<Reflexive> {
        let mut all: Vec<_> = self.reflexive.values().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether two servers saw one of our addresses at different ports.
    pub fn maps_per_endpoint(&self) -> bool {
        let all = self.reflexive();
        let differ = |a: &Reflexive, b: &Reflexive| {
            a.base == b.base && a.mapped.ip() == b.mapped.ip() && a.mapped.port() != b.mapped.port()
        };
        let mut v4 = all.iter().filter(|one| one.base.is_ipv4());
        v4.any(|one| all.iter().any(|other| differ(one, other)))
    }

    /// All addresses that lead to one of ours through a NAT, each once: what the servers said, and mapped ports. A
    /// mapping for an address that we no longer have is left out.
    pub fn translated(&self) -> Vec<Reflexive> {
        let mut all = self.reflexive();
        let mappings = self.port_mappings.iter();
        all.extend(mappings.filter(|mapping| self.hosts.contains(&mapping.base)));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Straight to an address, from the socket with this address of ours.
    pub fn straight(&self, source: SocketAddr, destination: SocketAddr) -> Route {
        Route {
            port: self.birthday.additional(source.port()),
            ..Route::between(source.ip(), destination)
        }
    }

    /// The relayed address, while there is one.
    pub fn relayed(&self) -> Option<Relayed> {
        self.turn.place()
    }

    /// When a request is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.servers.values().map(|server| server.next).min()
    }

    /// Sends the requests that are due.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        transmit: &mut TransmitQueue,
    ) {
        for (address, server) in &mut self.servers {
            if server.next > now {
                continue;
            }
            if server.sent == 0 || server.sent >= MAX_REQUESTS {
                rng.fill_bytes(&mut server.transaction);
                server.sent = 0;
            }
            server.silent |= server.sent >= PATIENCE;
            server.sent += 1;
            let last = server.sent == MAX_REQUESTS;
            server.next = now
                + if last {
                    REFRESH
                } else {
                    INITIAL_RTO * (1 << (server.sent - 1).min(6))
                };
            transmit.push(Route::to(*address), &binding_request(&server.transaction));
        }
    }

    /// Takes a STUN message that came from `from` to our address `local`. `None` when it answers no request of ours;
    /// else whether it taught us something new.
    pub fn handle_response(
        &mut self,
        (from, local): (SocketAddr, SocketAddr),
        bytes: &[u8],
        now: Instant,
    ) -> Option<bool> {
        let server = self.servers.get_mut(&from)?;
        if server.sent == 0 || super::stun_index::transaction_id(bytes)? != server.transaction {
            return None;
        }
        let message = Message::from_bytes(bytes).ok()?;
        if message.class() != MessageClass::Success {
            return None;
        }
        let mapped = message
            .attribute::<XorMappedAddress>()
            .ok()?
            .addr(message.transaction_id());
        server.sent = 0;
        server.next = now + REFRESH;
        server.silent = false;
        if mapped.is_ipv4() != local.is_ipv4() {
            return Some(false);
        }
        let news = Reflexive {
            mapped,
            base: local,
        };
        Some(self.reflexive.insert(from, news) != Some(news))
    }
}

/// A Binding request without attributes (RFC 8489 section 5): 20 bytes.
pub fn binding_request(transaction: &TransactionId) -> [u8; 20] {
    let mut message = [0; 20];
    message[1] = 1;
    message[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
    message[8..].copy_from_slice(transaction);
    message
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
    use stun_types::message::{MessageType, MessageWrite, MessageWriteExt, MessageWriteVec};

    use super::*;

    const SERVER: ([u8; 4], u16) = ([198, 51, 100, 2], 3478);
    const LOCAL: ([u8; 4], u16) = ([192, 168, 1, 10], 7081);

    fn response(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
        let request = Message::from_bytes(request).unwrap();
        let mut builder = Message::builder(
            MessageType::from_class_method(MessageClass::Success, request.method()),
            request.transaction_id(),
            MessageWriteVec::new(),
        );
        builder
            .add_attribute(&XorMappedAddress::new(mapped, request.transaction_id()))
            .unwrap();
        builder.finish()
    }

    fn gatherer(now: Instant) -> Gatherer {
        let mut gatherer = Gatherer::default();
        gatherer.set_hosts(vec![LOCAL.into()], now);
        gatherer.set_servers(&[SERVER.into()], now);
        gatherer
    }

    fn ask(gatherer: &mut Gatherer, now: Instant) -> Vec<Vec<u8>> {
        let mut transmit = TransmitQueue::new();
        gatherer.handle_timeout(now, &mut ChaCha8Rng::seed_from_u64(1), &mut transmit);
        transmit
            .trains()
            .iter()
            .map(|train| train.contents().to_vec())
            .collect()
    }

    #[test]
    fn an_answer_becomes_a_reflexive_address_once() {
        let now = Instant::now();
        let mut gatherer = gatherer(now);
        let request = ask(&mut gatherer, now).remove(0);
        let mapped = SocketAddr::from(([203, 0, 113, 9], 40_000));
        let answer = response(&request, mapped);
        let path = (SERVER.into(), LOCAL.into());
        assert_eq!(gatherer.handle_response(path, &answer, now), Some(true));
        assert_eq!(
            gatherer.reflexive(),
            [Reflexive {
                mapped,
                base: LOCAL.into()
            }]
        );
        assert_eq!(
            gatherer.handle_response(path, &answer, now),
            None,
            "a second copy"
        );
        assert_eq!(gatherer.poll_timeout(), Some(now + REFRESH));
    }

    #[test]
    fn an_answer_from_elsewhere_or_to_another_question_is_not_ours() {
        let now = Instant::now();
        let mut gatherer = gatherer(now);
        let mut request = ask(&mut gatherer, now).remove(0);
        let answer = response(&request, ([203, 0, 113, 9], 1).into());
        let stranger = (SocketAddr::from(([198, 51, 100, 3], 3478)), LOCAL.into());
        assert_eq!(gatherer.handle_response(stranger, &answer, now), None);
        request[19] ^= 1;
        let other = response(&request, ([203, 0, 113, 9], 1).into());
        assert_eq!(
            gatherer.handle_response((SERVER.into(), LOCAL.into()), &other, now),
            None
        );
        for cut in 0..answer.len() {
            gatherer.handle_response((SERVER.into(), LOCAL.into()), &answer[..cut], now);
        }
        assert!(gatherer.reflexive().is_empty());
    }

    #[test]
    fn requests_are_repeated_with_doubling_pauses_and_then_seldom() {
        let start = Instant::now();
        let mut gatherer = gatherer(start);
        let mut times = Vec::new();
        while times.len() < 8 {
            let now = gatherer.poll_timeout().unwrap();
            assert_eq!(ask(&mut gatherer, now).len(), 1);
            times.push((now - start).as_millis());
        }
        assert_eq!(times, [0, 250, 750, 1750, 3750, 7750, 15_750, 40_750]);
    }

    #[test]
    fn servers_are_silent_once_each_has_left_five_requests_unanswered_and_until_one_answers() {
        let start = Instant::now();
        let mut gatherer = gatherer(start);
        let deaf = SocketAddr::from(([198, 51, 100, 9], 3478));
        gatherer.set_servers(&[SERVER.into(), deaf], start);
        let mut now = start;
        while now < start + Duration::from_secs(60) {
            let requests = ask(&mut gatherer, now);
            assert_eq!(requests.len(), 2, "they are asked in step");
            assert_eq!(gatherer.are_silent(), now - start > Duration::from_secs(4));
            now = gatherer.poll_timeout().unwrap();
        }
        let request = ask(&mut gatherer, now).remove(0);
        let answer = response(&request, ([203, 0, 113, 9], 1).into());
        gatherer.handle_response((SERVER.into(), LOCAL.into()), &answer, now);
        assert!(!gatherer.are_silent());
    }

    #[test]
    fn a_failed_path_asks_again_but_not_at_once_after_an_answer() {
        let now = Instant::now();
        let mut gatherer = gatherer(now);
        let request = ask(&mut gatherer, now).remove(0);
        gatherer.doubt(now);
        assert_eq!(
            gatherer.poll_timeout(),
            Some(now + INITIAL_RTO),
            "a question that is open is not repeated early"
        );
        let answer = response(&request, ([203, 0, 113, 9], 1).into());
        gatherer.handle_response((SERVER.into(), LOCAL.into()), &answer, now);
        gatherer.doubt(now + Duration::from_secs(4));
        assert_eq!(gatherer.poll_timeout(), Some(now + REFRESH));
        gatherer.doubt(now + Duration::from_secs(5));
        assert_eq!(gatherer.poll_timeout(), Some(now + Duration::from_secs(5)));
    }

    #[test]
    fn a_server_that_was_silent_for_a_round_is_asked_at_once_when_it_is_needed() {
        let start = Instant::now();
        let mut gatherer = gatherer(start);
        let mut now = start;
        for _ in 0..MAX_REQUESTS {
            now = gatherer.poll_timeout().unwrap();
            ask(&mut gatherer, now);
        }
        assert_eq!(gatherer.poll_timeout(), Some(now + REFRESH));
        gatherer.doubt(now);
        assert_eq!(gatherer.poll_timeout(), Some(now));
        ask(&mut gatherer, now);
        assert_eq!(gatherer.poll_timeout(), Some(now + INITIAL_RTO));
    }

    #[test]
    fn a_mapped_port_is_offered_while_we_have_the_address_that_it_leads_to() {
        let now = Instant::now();
        let mut gatherer = gatherer(now);
        let mapping = Reflexive {
            mapped: ([203, 0, 113, 9], 7081).into(),
            base: LOCAL.into(),
        };
        assert!(gatherer.set_port_mappings(vec![mapping]));
        assert!(!gatherer.set_port_mappings(vec![mapping]));
        assert_eq!(gatherer.translated(), [mapping]);
        assert!(gatherer.reflexive().is_empty(), "no server said so");
        let request = ask(&mut gatherer, now).remove(0);
        let path = (SERVER.into(), LOCAL.into());
        gatherer.handle_response(path, &response(&request, mapping.mapped), now);
        assert_eq!(gatherer.translated(), [mapping], "each address once");
        gatherer.set_hosts(vec![([192, 168, 2, 10], 7081).into()], now);
        assert!(gatherer.translated().is_empty());
        gatherer.set_hosts(vec![LOCAL.into()], now);
        assert_eq!(gatherer.translated(), [mapping]);
        assert!(gatherer.set_port_mappings(vec![mapping; 9]));
        assert_eq!(gatherer.port_mappings.len(), MAX_PORT_MAPPINGS);
    }

    #[test]
    fn a_change_of_hosts_asks_again() {
        let now = Instant::now();
        let mut gatherer = gatherer(now);
        ask(&mut gatherer, now);
        assert!(!gatherer.set_hosts(vec![LOCAL.into()], now));
        assert!(gatherer.set_hosts(vec![], now));
        assert_eq!(gatherer.poll_timeout(), Some(now));
    }
}
