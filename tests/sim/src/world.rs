//! What happens next? The heap of events, and what each does to hosts, network and server.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use mesh_core::queue::ecn::Ecn;
use mesh_core::{Arrival, Command, Event, Node, PacketQueue, StreamId, TransmitQueue};
use mesh_wire::{
    frame::{Frame, classify},
    letter::{Content, Letter},
    psk::NetworkPsk,
    relay::RelayFrame,
};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    eavesdrop::eavesdrop,
    host::SimNode,
    ledger::Ledger,
    network::{Between, HOP_LIMIT, HostId, Network, Owner, Passage},
    server::{Mailbox, Postage, SimServer},
};

/// Where the server is.
const SERVER: ([u8; 4], u16) = ([198, 51, 100, 2], 3478);
/// Datagrams that one call of a node may produce: its queue of waiting packets for one peer, and a check per peer.
const MOST_DATAGRAMS: usize = 512;
/// Events that one call of a node may produce: with many peers, two for each of them.
const MOST_EVENTS: usize = 64;
/// Signals among them: what the server forwards at once, but for the daemon's own letters.
const MOST_SIGNALS: usize = 48;

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A datagram has left its host's cable.
    Transit {
        from: HostId,
        source: SocketAddr,
        destination: SocketAddr,
        hops: u8,
        bytes: Vec<u8>,
    },
    /// A datagram has come to the end of its receiver's cable; `from` is absent when the server sent it.
    Arrive {
        to: HostId,
        from: Option<HostId>,
        arrival: Arrival,
        bytes: Vec<u8>,
    },
    /// A message on a connection has come to the server.
    Say {
        from: HostId,
        stream: StreamId,
        bytes: Vec<u8>,
    },
    /// A connection has ended at the server.
    HangUp { to: HostId, stream: StreamId },
    /// A signal has come to the server.
    Post {
        from: HostId,
        to: HostId,
        payload: Vec<u8>,
    },
    /// The daemon tells its node something.
    Tell { to: HostId, command: Command },
}

/// An action with its time; of two at the same time the one that was planned first happens first.
#[derive(Debug, PartialEq, Eq)]
struct Planned {
    at: Instant,
    number: u64,
    action: Action,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Everything there is. Time stands still but for [`World::step`].
pub struct World {
    now: Instant,
    start: Instant,
    plan: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) psk: NetworkPsk,
    /// All hosts, on or off.
    pub hosts: Vec<SimNode>,
    /// NATs and addresses.
    pub network: Network,
    /// What happens to datagrams between hosts; those to and from the server pass.
    pub between: Between,
    /// STUN and signalling.
    pub server: SimServer,
    /// The echoes.
    pub ledger: Ledger,
    trace: DefaultHasher,
}

impl World {
    /// A world with a server and no hosts.
    pub fn new(seed: u64) -> Self {
        // Transaction ids of the ICE library come from here.
        fastrand::seed(seed);
        let start = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let stun = SERVER.into();
        Self {
            start,
            now: start,
            plan: BinaryHeap::new(),
            planned: 0,
            psk: NetworkPsk::from_bytes(rng.random()),
            rng,
            hosts: Vec::new(),
            network: Network::new(stun),
            between: Between::Open,
            server: SimServer {
                stun,
                is_up: true,
                relay: None,
                mailbox: Mailbox::prompt(),
                postage: Postage::default(),
            },
            ledger: Ledger::default(),
            trace: DefaultHasher::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Virtual time since the world began.
    pub fn age(&self) -> Duration {
        self.now() - self.start
    }

    /// A hash over every event so far: times, senders, receivers and bytes.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Moves to the next event, if there is one before `end`, and lets it happen. Else moves to `end`.
    pub fn step(&mut self, end: Instant) -> bool {
        let planned = self.plan.peek().map(|Reverse(next)| next.at);
        let timer = self.next_timer();
        let next = [planned, timer.map(|(at, _)| at)]
            .into_iter()
            .flatten()
            .min();
        let Some(at) = next.filter(|at| *at <= end) else {
            self.move_to(end);
            return false;
        };
        self.move_to(at);
        match timer {
            Some((due, host)) if planned.is_none_or(|planned| due < planned) => {
                self.run_timers(host);
            }
            Some(_) | None => {
                if let Some(Reverse(next)) = self.plan.pop() {
                    self.happen(next.action);
                }
            }
        }
        true
    }

    pub(crate) fn plan(&mut self, at: Instant, action: Action) {
        self.planned += 1;
        self.plan.push(Reverse(Planned {
            at,
            number: self.planned,
            action,
        }));
    }

    /// Calls the node of `host`, if it is on, and carries out what it wants.
    pub(crate) fn with_node(
        &mut self,
        host: HostId,
        call: impl FnOnce(&mut Node, Instant, &mut TransmitQueue),
    ) {
        let now = self.now();
        let at = &mut self.hosts[host];
        let Some(node) = at.node.as_mut().filter(|_| !at.means.asleep) else {
            return;
        };
        call(node, now, &mut at.transmit);
        self.open_sockets(host);
        let at = &mut self.hosts[host];
        let Some(node) = &mut at.node else { return };
        at.messages
            .extend(std::iter::from_fn(|| node.poll_message()));
        let requests: Vec<_> = std::iter::from_fn(|| node.poll_stream()).collect();
        for request in requests {
            self.carry_out(host, request);
        }
        self.send_datagrams(host);
        self.take_events(host);
    }

    /// Gives the node of `host` a datagram that `from` sent, and takes the packets out of it.
    fn receive(
        &mut self,
        host: HostId,
        from: Option<HostId>,
        arrival: Arrival,
        mut bytes: Vec<u8>,
    ) {
        let (mut packets, stride) = (PacketQueue::new(), bytes.len());
        let from = self.origin(&bytes).or(from);
        self.with_node(host, |node, now, transmit| {
            node.handle_train(arrival, (&mut bytes, stride), now, transmit, &mut packets);
        });
        for packet in packets.iter(&bytes) {
            self.deliver(host, from, packet);
        }
    }

    /// Who sealed what others carry.
    fn origin(&self, bytes: &[u8]) -> Option<HostId> {
        let source = RelayFrame::parse(bytes)?.header.source;
        let is_it = |host: &SimNode| host.identity.virtual_ip.to_bits() == source;
        self.hosts.iter().position(is_it)
    }

    fn move_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    fn next_timer(&self) -> Option<(Instant, HostId)> {
        let due = (0..).zip(&self.hosts);
        due.filter_map(|(id, host)| Some((host.due()?, id))).min()
    }

    pub(crate) fn run_timers(&mut self, host: HostId) {
        (self.age(), "timers", host).hash(&mut self.trace);
        self.with_node(host, |node, now, transmit| {
            node.handle_timeout(now, transmit);
        });
        let now = self.now();
        self.hosts[host].check_timers(now);
    }

    fn happen(&mut self, action: Action) {
        let age = self.age();
        match action {
            Action::Transit {
                from,
                source,
                destination,
                hops,
                bytes,
            } => {
                (age, "transit", from, destination, &bytes).hash(&mut self.trace);
                self.transit(from, (source, destination, hops), bytes);
            }
            Action::Arrive {
                to,
                from,
                arrival,
                bytes,
            } => {
                (age, "arrive", from, to, &bytes).hash(&mut self.trace);
                self.receive(to, from, arrival, bytes);
            }
            Action::Say {
                from,
                stream,
                bytes,
            } => {
                (age, "say", from, &bytes).hash(&mut self.trace);
                self.hear(from, stream, &bytes);
            }
            Action::HangUp { to, stream } => {
                (age, "hang up", to).hash(&mut self.trace);
                self.hung_up(to, stream);
            }
            Action::Post { from, to, payload } => {
                (age, "post", from, to, &payload).hash(&mut self.trace);
                self.post(from, to, &payload);
            }
            Action::Tell { to, command } => {
                (age, "tell", to).hash(&mut self.trace);
                self.with_node(to, |node, now, transmit| {
                    node.handle_command(command, now, transmit);
                });
            }
        }
    }

    fn transit(&mut self, from: HostId, path: (SocketAddr, SocketAddr, u8), bytes: Vec<u8>) {
        let (now, segment) = (self.now(), self.hosts[from].segment);
        if self.hosts[from].means.udp_blocked {
            return;
        }
        let Some(passage) = self.network.route(now, segment, path, &mut self.rng) else {
            return;
        };
        match passage.owner {
            Owner::Host(to) if self.network.are_apart(from, to) => {}
            Owner::Host(_) if self.between.swallows(from, &bytes, &mut self.rng) => {}
            Owner::Host(_) => self.descend(passage, Some(from), bytes),
            Owner::Server if !self.server.is_up => {}
            Owner::Server => {
                let way = (passage.source, passage.destination);
                for sent in self.server.receive(way, &bytes, now) {
                    self.deliver_from_server(from, sent);
                }
            }
        }
    }

    /// A datagram of the server's, because of something that came from a host.
    pub(crate) fn send_from_server(
        &mut self,
        cause: HostId,
        way: (SocketAddr, SocketAddr, u8),
        bytes: Vec<u8>,
    ) {
        let now = self.now();
        if let Some(passage) = self.network.route(now, None, way, &mut self.rng) {
            self.descend(passage, Some(cause), bytes);
        }
    }

    /// The way down the receiver's cable.
    fn descend(&mut self, passage: Passage, from: Option<HostId>, bytes: Vec<u8>) {
        let Owner::Host(to) = passage.owner else {
            return;
        };
        if self.hosts[to].means.udp_blocked {
            return;
        }
        let arrival = Arrival {
            from: passage.source,
            to: passage.destination,
            ecn: Ecn::NotEct,
            stream: None,
        };
        let now = self.now();
        for at in self.hosts[to]
            .down
            .arrivals(now, bytes.len(), &mut self.rng)
        {
            let bytes = bytes.clone();
            self.plan(
                at,
                Action::Arrive {
                    to,
                    from,
                    arrival,
                    bytes,
                },
            );
        }
    }

    fn post(&mut self, from: HostId, to: HostId, payload: &[u8]) {
        let now = self.now();
        if !self.server.is_up || !self.server.postage.take(from, now) {
            return;
        }
        if !self.is_online(to) {
            let command = Command::Undeliverable {
                to: self.hosts[to].identity.node_id,
            };
            let at = now + self.hosts[from].down.shape.delay;
            return self.plan(at, Action::Tell { to: from, command });
        }
        let letter = Letter::read(payload).expect("a node's signals are well-formed");
        let Content::Signal(signal) = letter.content else {
            unreachable!("nodes send signals only");
        };
        for at in self.server.mailbox.departures(now, &mut self.rng) {
            let command = Command::Signal {
                from: self.hosts[from].identity.node_id,
                signal: signal.clone(),
            };
            let at = at + self.hosts[to].down.shape.delay;
            self.plan(at, Action::Tell { to, command });
        }
    }

    fn send_datagrams(&mut self, host: HostId) {
        let now = self.now();
        let at = &mut self.hosts[host];
        let trains = at.transmit.trains();
        let count: usize = trains.iter().map(|train| train.datagrams().count()).sum();
        assert!(
            count <= MOST_DATAGRAMS,
            "host {host}: {count} datagrams at once"
        );
        let (mut actions, mut said) = (Vec::with_capacity(count), Vec::new());
        for train in trains {
            for bytes in train.datagrams() {
                eavesdrop((host, at.means.routes), bytes);
                if let Some(stream) = train.route().stream {
                    said.push((stream, bytes.to_vec()));
                    continue;
                }
                if classify(bytes) == Frame::WireGuard {
                    at.sent.messages.insert(train.route().dst, now);
                }
                let own = train.route().port;
                let port = own.map_or_else(|| at.address.port(), NonZeroU16::get);
                for arrival in at.up.arrivals(now, bytes.len(), &mut self.rng) {
                    let action = Action::Transit {
                        from: host,
                        source: SocketAddr::new(at.address.ip(), port),
                        destination: train.route().dst,
                        hops: train.hop_limit().unwrap_or(HOP_LIMIT),
                        bytes: bytes.to_vec(),
                    };
                    actions.push((arrival, action));
                }
            }
        }
        at.transmit.clear();
        at.sent.datagrams += count;
        for (stream, bytes) in said {
            self.say(host, stream, bytes);
        }
        for (arrival, action) in actions {
            self.plan(arrival, action);
        }
    }

    fn take_events(&mut self, host: HostId) {
        let mut signals = 0;
        for count in 0.. {
            let Some(node) = &mut self.hosts[host].node else {
                return;
            };
            let Some(event) = node.poll_event() else {
                return;
            };
            let most = MOST_EVENTS.max(2 * node.peer_ids().count());
            signals += usize::from(matches!(event, Event::Signal { .. }));
            assert!(
                count < most && signals <= MOST_SIGNALS,
                "host {host}: more than {most} events at once, or {signals} signals"
            );
            match event {
                Event::Signal { to, signal } => {
                    let at = self.now() + self.hosts[host].up.shape.delay;
                    let to = self.hosts.iter().position(|h| h.identity.node_id == to);
                    let letter = Letter {
                        number: (0, 0),
                        content: Content::Signal(signal),
                    };
                    let action = Action::Post {
                        from: host,
                        to: to.expect("nodes only know hosts of this world"),
                        payload: letter.to_bytes(),
                    };
                    self.plan(at, action);
                }
                Event::Pong { id, rtt, .. } => self.hosts[host].pongs.push((id, rtt)),
                Event::Connected { .. }
                | Event::Disconnected { .. }
                | Event::Awoke { .. }
                | Event::Sought { .. }
                | Event::Gossip { .. } => {}
            }
        }
    }

    fn deliver(&mut self, host: HostId, cause: Option<HostId>, packet: &[u8]) {
        let now = self.now();
        (self.age(), "deliver", host, packet).hash(&mut self.trace);
        let from = cause.expect("packets come out of hosts' datagrams only");
        if let Some(reply) = self.ledger.delivered((from, host), packet, now) {
            self.from_tun(host, &reply);
        }
    }
}
