//! What does the node do with a relayed address: when does it get one, whom does it tell, and what goes through it?

use std::{num::NonZeroU16, ops::Range, time::Instant};

use super::{Node, event::DropReason, inbound::Arrival};
use crate::{
    path::{
        agent::Agent,
        gather::Relayed,
        turn::{TurnEvent, TurnServer},
    },
    peer::table::PeerIdx,
    queue::transmit::{Route, TransmitQueue},
};

impl Node {
    /// Gives the relayed address back, if there is one: the last thing that is done.
    pub fn close(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        self.turn.close(now, &mut self.rng, transmit);
    }

    pub(super) fn set_turn_servers(
        &mut self,
        servers: &[TurnServer],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        self.turn.set_servers(servers, now, &mut self.rng, transmit);
        self.keep_relayed(now, transmit);
    }

    /// Lets the time of the relayed address pass, and follows what becomes of it.
    pub(super) fn keep_relayed(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        let peers = &self.peers;
        let in_use = |channel: Option<NonZeroU16>| {
            let mut links = peers.iter().filter_map(|(_, peer)| peer.link?.channel);
            links.any(|used| channel.is_none_or(|channel| channel == used))
        };
        self.turn
            .handle_timeout(now, &mut self.rng, in_use, transmit);
        while let Some(event) = self.turn.poll_event() {
            match event {
                TurnEvent::Allocated(relayed) => self.on_allocated(relayed, now, transmit),
                TurnEvent::Lost(relayed) => self.on_lost(relayed, now),
            }
        }
    }

    fn on_allocated(&mut self, relayed: Relayed, now: Instant, transmit: &mut TransmitQueue) {
        self.gatherer.set_relayed(Some(relayed));
        for index in self.peers.indices() {
            self.let_in(index, now);
        }
        self.offer_new_candidates(now, transmit);
    }

    /// Whoever was reached by way of the address needs another path. What waits for it goes there.
    fn on_lost(&mut self, relayed: Relayed, now: Instant) {
        self.gatherer.set_relayed(None);
        for index in self.peers.indices() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            if let Some(agent) = peer.agent.as_mut() {
                agent.forget_relayed(relayed);
            }
            if peer.link.is_some_and(|link| link.channel.is_some()) {
                peer.link = None;
                self.dial(index, now);
            }
        }
    }

    /// Lets the packets of a peer through to the relayed address, from wherever it said that it is.
    pub(super) fn let_in(&mut self, index: PeerIdx, now: Instant) {
        let agent = self.peers.get(index).and_then(|peer| peer.agent.as_ref());
        let addresses = agent.into_iter().flat_map(Agent::remote_addresses);
        for address in addresses {
            self.turn.permit(address.ip(), &mut self.rng, now);
        }
    }

    /// A packet waits, and the peer, which knows our addresses and so lets us in, has one at a TURN server: the handshake goes
    /// there at once. The checks that prove a path take two round trips more, and go on meanwhile.
    pub(super) fn hail(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let relays = self.turn.is_used();
        let Some(peer) = self.peers.get_mut(index).filter(|_| relays) else {
            return;
        };
        if peer.link.is_some() || peer.pending.is_empty() || peer.session.is_established(now) {
            return;
        }
        let relay = peer.detour.relay();
        let relay = relay.filter(|relay| peer.knocks.may_knock(relay.ip(), now));
        if let Some(relay) = relay
            && let Some(message) = peer.session.initiate(&mut self.keys, now)
        {
            transmit.push(Route::to(relay), &message);
        }
    }

    /// Whether something came by way of our relayed address.
    pub(super) fn is_relayed(&self, arrival: Arrival) -> bool {
        self.turn.relayed() == Some(arrival.to)
    }

    /// What a TURN server has wrapped: how it came to the server, and where in the datagram it is.
    pub(super) fn unwrap(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
    ) -> Option<(Arrival, Range<usize>)> {
        let outer = !self.is_relayed(arrival);
        let inner = self
            .turn
            .relayed()
            .zip(self.turn.unwrap(arrival.from, datagram))
            .filter(|_| outer);
        let Some((to, (from, place))) = inner else {
            self.counters.count(DropReason::UnknownDatagram, 1);
            return None;
        };
        if self.local.cidr.contains(&from.ip()) {
            self.counters.count(DropReason::InsideTunnel, 1);
            return None;
        }
        Some((
            Arrival {
                from,
                to,
                ..arrival
            },
            place,
        ))
    }

    /// The way back to an authentic peer. `None` if it came through the relayed address and that has no channel left.
    pub(super) fn way_back(&mut self, arrival: Arrival, now: Instant) -> Option<Route> {
        match self.is_relayed(arrival) {
            true => self.turn.bind(arrival.from, &mut self.rng, now),
            false => Some(Route::between(arrival.to.ip(), arrival.from)),
        }
    }

    /// Answers a message of somebody who has not proven to be anybody.
    pub(super) fn answer(
        &mut self,
        (arrival, message): (Arrival, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if self.is_relayed(arrival) {
            let message = (arrival.from, message);
            self.turn.send(message, &mut self.rng, now, transmit);
        } else {
            transmit.push(Route::between(arrival.to.ip(), arrival.from), message);
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
        match route.channel {
            Some(_) => self
                .turn
                .send_on((route, message), &mut self.rng, now, transmit),
            None => transmit.push(route, message),
        }
    }
}
