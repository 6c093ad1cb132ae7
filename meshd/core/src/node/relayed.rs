//! What does the node do with a relayed address: when does it get one, whom does it tell, and what goes through it?

use std::{net::SocketAddr, num::NonZeroU16, ops::Range, time::Instant};

use super::{Node, event::DropReason, inbound::Arrival};
use crate::{
    path::{
        agent::Agent,
        stun_index::is_check,
        turn::{
            Contact, Relayed, StreamRequest, Transport, Trouble, TurnEvent, TurnServer, is_private,
        },
    },
    peer::{state::State, table::PeerIdx},
    queue::transmit::{Route, StreamId, TransmitQueue},
};

impl Arrival {
    /// The TURN server that it came from, if it came from one.
    pub(super) fn contact(&self) -> Contact {
        Contact {
            address: self.from,
            stream: self.stream,
        }
    }
}

impl Node {
    /// What is to be done about connections to TURN servers: to be asked whenever the queue is sent, and before it.
    pub fn poll_stream(&mut self) -> Option<StreamRequest> {
        self.gatherer.turn.poll_stream()
    }

    /// A connection to a TURN server could not be made, or has ended without our doing.
    pub fn handle_stream_end(
        &mut self,
        stream: StreamId,
        trouble: Trouble,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let turn = &mut self.gatherer.turn;
        turn.on_stream_end(stream, trouble, now, &mut self.rng);
        self.keep_relayed(now, transmit);
    }

    /// Over what we reach the server that relays for us on this way.
    pub(super) fn transport_of(&self, way: Route) -> Transport {
        self.gatherer.turn.transport_of(way.stream)
    }

    /// Gives the relayed address back, if there is one: the last thing that is done.
    pub fn close(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        self.gatherer.turn.close(now, &mut self.rng, transmit);
    }

    pub(super) fn set_turn_servers(
        &mut self,
        servers: &[TurnServer],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        self.gatherer
            .turn
            .set_servers(servers, now, &mut self.rng, transmit);
        self.keep_relayed(now, transmit);
    }

    /// Lets the time of the relayed address pass, and follows what becomes of it.
    pub(super) fn keep_relayed(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        let peers = &self.peers;
        let in_use = |channel: Option<NonZeroU16>| {
            let mut links = peers.iter().filter_map(|(_, peer)| peer.link?.channel);
            links.any(|used| channel.is_none_or(|channel| channel == used))
        };
        self.gatherer
            .turn
            .handle_timeout(now, &mut self.rng, in_use, transmit);
        while let Some(event) = self.gatherer.turn.poll_event() {
            match event {
                TurnEvent::Allocated(_) => self.on_allocated(now, transmit),
                TurnEvent::Lost(relayed) => self.on_lost(relayed, now),
                TurnEvent::BetterAnswers => self.dial_relayed(now),
            }
        }
    }

    fn on_allocated(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        for index in self.peers.indices() {
            self.let_in(index, now);
        }
        self.offer_new_candidates(now, transmit);
    }

    /// What stood in the way of direct paths may be gone. Links stay until these are proven.
    fn dial_relayed(&mut self, now: Instant) {
        for index in self.peers.indices() {
            let peer = self.peers.get(index);
            if peer.is_some_and(|peer| peer.state == State::Connected && peer.is_relayed()) {
                self.dial(index, now);
            }
        }
    }

    /// Whoever was reached by way of the address needs another path. What waits for it goes there.
    fn on_lost(&mut self, relayed: Relayed, now: Instant) {
        for index in self.peers.indices() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            if let Some(agent) = peer.agent.as_mut() {
                agent.forget_relayed(relayed);
            }
            if peer.link.is_some_and(|link| link.channel.is_some()) {
                peer.link = None;
                self.untie(index, now);
                self.dial(index, now);
            }
        }
    }

    /// Lets the packets of a peer through to the relayed address, from wherever it said that it is.
    pub(super) fn let_in(&mut self, index: PeerIdx, now: Instant) {
        let agent = self.peers.get(index).and_then(|peer| peer.agent.as_ref());
        let addresses = agent.into_iter().flat_map(Agent::remote_addresses);
        for address in addresses {
            let named = (address.ip(), index);
            self.gatherer.turn.permit(named, &mut self.rng, now);
        }
    }

    /// A packet waits, and the peer, which knows our addresses and so lets us in, has one at a TURN server: the handshake goes
    /// there at once. The checks that prove a path take two round trips more, and go on meanwhile.
    pub(super) fn hail(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let relays = self.gatherer.turn.is_used();
        let Some(peer) = self.peers.get_mut(index).filter(|_| relays) else {
            return;
        };
        if peer.link.is_some() || peer.pending.is_empty() || peer.session.is_established(now) {
            return;
        }
        // One that waits for its answer takes nothing of what may go there.
        if !peer.session.may_initiate(now) {
            return;
        }
        let relay = peer.detour.relay();
        let relay = relay.filter(|relay| peer.limits.knocks.may_knock(*relay, now));
        if let Some(relay) = relay
            && let Some(message) = peer.session.initiate(&mut self.keys, now)
        {
            transmit.push(Route::to(relay), &message);
        }
    }

    /// Sends the checks of a peer's agent, and its answers.
    pub(super) fn send_checks(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(agent) = peer.agent.as_mut() else {
            return;
        };
        while let Some((source, destination, message)) = agent.poll_transmit() {
            let is_relayed = self.gatherer.turn.relayed() == Some(source);
            if is_relayed && is_private(destination.ip()) {
                // No server that could relay it there would be allowed to.
                continue;
            }
            let (knocks, to) = (&mut peer.limits.knocks, destination.ip());
            let may = match is_check(&message) {
                true => knocks.may_knock(destination, now),
                false => knocks.may_answer(to, now),
            };
            if !may {
                self.counters.count(DropReason::UnansweredCheck, 1);
                continue;
            }
            // A response carries the id of the peer's request; remembering it as well does no harm.
            self.stun.sent(&message, index, to);
            if is_relayed {
                let message = (destination, &message[..]);
                self.gatherer
                    .turn
                    .send(message, &mut self.rng, now, transmit);
            } else {
                transmit.push(self.gatherer.straight(source, destination), &message);
            }
        }
    }

    /// The way from an address of ours, which may be the relayed one, to a peer's.
    pub(super) fn way_between(
        &mut self,
        index: PeerIdx,
        (source, destination): (SocketAddr, SocketAddr),
        now: Instant,
    ) -> Option<Route> {
        let way = Route::over_mesh(destination.ip());
        if destination.port() == way.dst.port() {
            // Whoever carried it may name a source that is not the one who sealed it.
            let is_its_own = self.lan.permits(index, destination.ip());
            let member = self.member_of(index).filter(|_| is_its_own);
            return member
                .is_some_and(|member| self.mesh.has_way(member))
                .then_some(way);
        }
        match self.gatherer.turn.relayed() == Some(source) {
            true => {
                let peer = (destination, index);
                self.gatherer.turn.bind(peer, &mut self.rng, now)
            }
            false => Some(self.gatherer.straight(source, destination)),
        }
    }

    /// Looks for a direct path again where there was none. One side does, and the other follows.
    pub(super) fn drive_detour(&mut self, index: PeerIdx, now: Instant) {
        let controlling = self.is_controlling(index);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let is_due = peer.detour.take_retry(peer.traffic.last_tx, now);
        if is_due && controlling && peer.state == State::Connected && peer.is_relayed() {
            self.dial(index, now);
        }
    }

    /// An authentic message makes this the link, if there is a way back. Returns whether it does.
    pub(super) fn move_link(&mut self, index: PeerIdx, arrival: Arrival, now: Instant) -> bool {
        let Some(way) = self.way_back(index, arrival, now) else {
            return false;
        };
        if way.is_over_mesh() {
            self.untie(index, now);
        }
        let Some(peer) = self.peers.get_mut(index) else {
            return false;
        };
        peer.link = Some(way);
        peer.detour.moved(way, now);
        self.mesh.rides(index, way);
        true
    }

    /// Whether something came by way of our relayed address.
    pub(super) fn is_relayed(&self, arrival: Arrival) -> bool {
        self.gatherer.turn.relayed() == Some(arrival.to)
    }

    /// Who handed us what has arrived: the TURN server where it came by way of our relayed address, else its sender; no address
    /// where other members have carried it.
    pub(super) fn last_hop(&self, arrival: Arrival) -> Option<SocketAddr> {
        let server = self.gatherer.turn.server();
        let server = server.filter(|_| self.is_relayed(arrival));
        let sender = (!arrival.is_over_mesh()).then_some(arrival.from);
        server.or(sender)
    }

    /// Whether something came the way that `link` goes.
    pub(super) fn came_by(&self, link: Route, arrival: Arrival) -> bool {
        let relayed = self.is_relayed(arrival);
        match link.channel {
            Some(_) => relayed && self.gatherer.turn.leads_to(link, arrival.from),
            None => {
                let port = self.gatherer.birthday.additional(arrival.to.port());
                !relayed && link.dst == arrival.from && link.port == port
            }
        }
    }

    /// What a TURN server has wrapped: how it came to the server, and where in the datagram it is.
    pub(super) fn unwrap(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
    ) -> Option<(Arrival, Range<usize>)> {
        let outer = !self.is_relayed(arrival);
        let inner = self
            .gatherer
            .turn
            .relayed()
            .zip(self.gatherer.turn.unwrap(arrival.contact(), datagram))
            .filter(|_| outer);
        let Some((to, (from, place))) = inner else {
            self.counters.count(DropReason::UnknownDatagram, 1);
            return None;
        };
        if self.local.cidr.contains(&from.ip()) {
            self.counters.count(DropReason::InsideTunnel, 1);
            return None;
        }
        if from.port() == 0 {
            self.counters.count(DropReason::UnknownDatagram, 1);
            return None;
        }
        Some((
            Arrival {
                from,
                to,
                ecn: arrival.ecn,
                stream: None,
            },
            place,
        ))
    }

    /// The way back to an authentic peer. `None` if it came through the relayed address and that has no channel left.
    pub(super) fn way_back(
        &mut self,
        index: PeerIdx,
        arrival: Arrival,
        now: Instant,
    ) -> Option<Route> {
        self.way_between(index, (arrival.to, arrival.from), now)
    }

    /// Answers a message of somebody who has not proven to be anybody.
    pub(super) fn answer(
        &mut self,
        (arrival, message): (Arrival, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if arrival.is_over_mesh() {
            self.send_over_mesh((arrival.from.ip(), message), now, transmit);
        } else if self.is_relayed(arrival) {
            let message = (arrival.from, message);
            self.gatherer
                .turn
                .send(message, &mut self.rng, now, transmit);
        } else {
            transmit.push(self.gatherer.straight(arrival.to, arrival.from), message);
        }
    }

    /// Sends a message that must not be lost for a channel that the server does not know yet.
    pub(super) fn send_on(
        &mut self,
        route: Route,
        message: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if route.is_over_mesh() {
            return self.send_over_mesh((route.dst.ip(), message), now, transmit);
        }
        match route.channel {
            Some(_) => self
                .gatherer
                .turn
                .send_on((route, message), &mut self.rng, now, transmit),
            None => transmit.push(route, message),
        }
    }
}
