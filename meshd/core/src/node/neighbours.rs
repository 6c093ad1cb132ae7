//! Which peers are neighbours for routing, from when on and until when?

use std::time::{Duration, Instant};

use mesh_wire::{carrier::Carrier, routing::Message};

use super::{Node, event::DropReason, mesh::Mesh};
use crate::{path::agent::Agent, peer::table::PeerIdx, queue::transmit::TransmitQueue};

/// Neighbours that routes are exchanged with at most, however many peers have a path: what is said of each change grows with them.
pub(super) const MAX_NEIGHBOURS: usize = 8;
/// How often an idle neighbour is asked for a sign of life.
const HELLO: Duration = Duration::from_secs(5);
/// So many questions in a row without an answer, and it is a neighbour no more.
const UNANSWERED: u8 = 3;
/// The id of those questions; see `silence`.
pub(super) const HELLO_PING: u64 = (u64::MAX >> 1) - 1;
/// A neighbour that does not agree to be one has no room; it is left alone as long as a new one would wait for it.
const AGREES_WITHIN: Duration = Duration::from_secs(5);

/// A neighbour: a peer with a path and a session of its own.
#[derive(Debug)]
pub(super) struct Tie {
    pub(super) member: u32,
    since: Instant,
    /// When it is asked next.
    pub(super) hello: Instant,
    /// When it was asked last.
    asked: Instant,
    unanswered: u8,
    srtt: Duration,
}

impl Node {
    /// Whether a peer has what a neighbour needs, and is none yet: a path of its own and a session. Asked when either is proven.
    fn may_tie(&self, index: PeerIdx, now: Instant) -> bool {
        let Some(peer) = self.peers.get(index).filter(|_| self.mesh.is_on()) else {
            return false;
        };
        peer.link.is_some_and(|link| !link.is_over_mesh())
            && peer.session.is_established(now)
            && !self.mesh.is_tied(index)
            && !self.mesh.topology.is_refused(index, now)
    }

    /// A peer has a path and a session: it is a neighbour, if there is room.
    pub(super) fn tie(&mut self, index: PeerIdx, now: Instant) {
        let may = self.mesh.count() < MAX_NEIGHBOURS && self.may_tie(index, now);
        let Some(member) = self.member_of(index).filter(|_| may) else {
            return;
        };
        let Mesh { router, ties, .. } = &mut self.mesh;
        let (Some(router), Some(peer)) = (router, self.peers.get(index)) else {
            return;
        };
        let srtt = peer.agent.as_ref().and_then(Agent::rtt).unwrap_or_default();
        let tie = Tie {
            member,
            since: now,
            hello: now,
            asked: now,
            unanswered: 0,
            srtt,
        };
        router.neighbour_up(member, srtt, now);
        ties.insert(index, tie);
    }

    /// A peer has lost its path, or its session: it is no neighbour now.
    pub(super) fn untie(&mut self, index: PeerIdx, now: Instant) {
        let tie = self.mesh.ties.remove(&index);
        if let Some((tie, router)) = tie.zip(self.mesh.router.as_mut()) {
            router.neighbour_down(tie.member, now);
        }
    }

    /// Takes a routing message of a neighbour; an empty one says that it is none. A peer that takes us for a neighbour becomes one,
    /// if there is room, and else is told.
    pub(super) fn on_routing(
        &mut self,
        (index, message): (PeerIdx, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if !self.mesh.is_on() {
            return self.counters.count(DropReason::UnknownCarrier, 1);
        }
        if message.is_empty() {
            self.mesh.topology.refused(index, now);
            return self.untie(index, now);
        }
        let Ok(message) = Message::decode(message) else {
            return self.counters.count(DropReason::UnknownCarrier, 1);
        };
        if self.may_tie(index, now) {
            self.make_room(now, transmit);
            self.tie(index, now);
        }
        let tie = self.mesh.ties.get(&index);
        match tie.zip(self.mesh.router.as_mut()) {
            Some((tie, router)) => router.handle_message(tie.member, &message, now),
            None => self.part(index, now, transmit),
        }
    }

    /// We are no neighbours of a peer, and it is told.
    fn part(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        self.untie(index, now);
        let message = Box::default();
        let packet = Carrier::Routing { message }.encode();
        let is_there = self
            .peers
            .get(index)
            .is_some_and(|peer| peer.link.is_some());
        if is_there {
            self.send_inner(index, &packet, now, transmit);
        }
    }

    /// Whoever comes when all places are taken gets that of the farthest neighbour, or a network that has grown would shut it out.
    fn make_room(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        let is_full = self.mesh.ties.len() >= MAX_NEIGHBOURS;
        if !is_full || !self.mesh.topology.may_replace(now) {
            return;
        }
        let ties = self.mesh.ties.iter();
        let farthest = ties
            .max_by_key(|(_, tie)| tie.srtt)
            .map(|(index, _)| *index);
        if let Some(index) = farthest {
            self.mesh.topology.refused(index, now);
            self.part(index, now, transmit);
        }
    }

    /// A neighbour has answered. How long that took is not taken from its answer, which could say anything.
    pub(super) fn on_hello(&mut self, index: PeerIdx, now: Instant) {
        let tie = self.mesh.ties.get_mut(&index);
        let tie = tie.filter(|tie| tie.unanswered > 0);
        if let Some((tie, router)) = tie.zip(self.mesh.router.as_mut()) {
            let rtt = now.saturating_duration_since(tie.asked);
            tie.unanswered = 0;
            // RFC 6298's smoothing, without its variance.
            tie.srtt = match tie.srtt.is_zero() {
                true => rtt,
                false => (tie.srtt * 7 + rtt) / 8,
            };
            router.neighbour_up(tie.member, tie.srtt, now);
        }
    }

    /// Asks neighbours for a sign of life, and lets go of those who give none.
    pub(super) fn greet_neighbours(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        let sent = self.micros(now);
        let due: Vec<PeerIdx> = self
            .mesh
            .ties
            .iter()
            .filter(|(_, tie)| tie.hello <= now)
            .map(|(index, _)| *index)
            .collect();
        for index in due {
            let Some(tie) = self.mesh.ties.get_mut(&index) else {
                continue;
            };
            let agreed = self
                .mesh
                .router
                .as_ref()
                .is_some_and(|r| r.carries_for(tie.member));
            if tie.unanswered >= UNANSWERED || !agreed && tie.since + AGREES_WITHIN <= now {
                self.mesh.topology.refused(index, now);
                self.part(index, now, transmit);
                continue;
            }
            (tie.hello, tie.asked) = (now + HELLO, now);
            tie.unanswered += 1;
            let hello = Carrier::Ping {
                id: HELLO_PING,
                sent,
            };
            self.send_inner(index, &hello.encode(), now, transmit);
        }
    }
}
