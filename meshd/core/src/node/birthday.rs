//! Carries out birthday probing: see `path::birthday`.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use mesh_wire::carrier::{BirthdayStep, Carrier};
use rand::RngExt as _;

use super::Node;
use crate::{
    path::{
        birthday::{Act, PROBES, SocketRequest},
        gather::binding_request,
    },
    peer::table::PeerIdx,
    queue::transmit::{Route, TransmitQueue},
};

/// NATs give away ports from here on (RFC 4787 section 4.2.2 keeps those below apart).
const LOWEST_PORT: u16 = 1024;
/// A NAT that counts up gives our peer's 256 sockets the ports that follow its last one. So many of the probes go there,
/// so far apart.
const NEAR: u16 = 16;
const NEAR_STEP: u16 = 16;
/// The hop limit of shots: they pass one NAT and die on the next router. The peer's NAT, which might remember them and then
/// map what the peer sends us to another port, shall not see them. Behind two NATs they open nothing, and the checks of the
/// second round find the path.
const SHOT_HOPS: u8 = 2;
/// For whoever had no packet for so long a direct path is of no use.
const RECENT: Duration = Duration::from_secs(10);

impl Node {
    /// What is to be done about sockets beside the mesh's own: to be asked whenever the queue is sent.
    pub fn poll_socket(&mut self) -> Option<SocketRequest> {
        self.gatherer.birthday.poll_request()
    }

    /// Answers [`SocketRequest::Begin`]: the local ports of the sockets that were opened, or `None` if none may be. More than
    /// were asked for are not used.
    pub fn handle_sockets(
        &mut self,
        ports: Option<Vec<u16>>,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let begins = ports.is_some();
        self.gatherer.birthday.on_sockets(ports, now);
        let attempt = self.gatherer.birthday.attempt();
        if let Some((index, ..)) = attempt.filter(|_| begins)
            && let Some(peer) = self.peers.get_mut(index)
        {
            peer.limits.birthday.began(now);
        }
        self.drive_birthday(now, transmit);
    }

    /// Asks a relayed peer for an attempt, if our NAT's mapping depends on the endpoint.
    pub(super) fn consider_birthday(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if !peer.limits.birthday.take_due(now) || !self.local.birthday {
            return;
        }
        let is_wanted = peer.traffic.last_tx.is_some_and(|at| now < at + RECENT);
        if !is_wanted || !self.maps_per_endpoint(index) {
            return;
        }
        let Some(aim) = self.birthday_aim(index, now) else {
            return;
        };
        let number = self.rng.random();
        if let Some(peer) = self.peers.get_mut(index) {
            peer.limits.birthday.asked(now);
            self.gatherer.birthday.ask((index, number), aim, now);
        }
    }

    /// A letter of a peer.
    pub(super) fn on_birthday_letter(
        &mut self,
        (index, number): (PeerIdx, u64),
        step: BirthdayStep,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let known = self.gatherer.birthday.on_letter((index, number), step, now);
        if !known && step == BirthdayStep::Ask && self.local.birthday {
            self.on_asked((index, number), now);
        }
        self.drive_birthday(now, transmit);
    }

    /// A peer would have us probe its ports. Only an address counts where it has just answered a check of ours: it cannot
    /// have us send to somebody else.
    fn on_asked(&mut self, (index, number): (PeerIdx, u64), now: Instant) {
        if self.maps_per_endpoint(index) {
            return;
        }
        let Some(aim) = self.birthday_aim(index, now) else {
            return;
        };
        let agent = self.peers.get(index).and_then(|peer| peer.agent.as_ref());
        let IpAddr::V4(ip) = aim.ip() else { return };
        let newest = agent.and_then(|agent| agent.newest_port(ip));
        let ports = self.ports_to_probe(newest.unwrap_or_else(|| aim.port()));
        self.gatherer
            .birthday
            .consent((index, number), aim, ports, now);
    }

    fn maps_per_endpoint(&self, index: PeerIdx) -> bool {
        let agent = self.peers.get(index).and_then(|peer| peer.agent.as_ref());
        self.gatherer.maps_per_endpoint() || agent.is_some_and(|agent| agent.maps_per_endpoint())
    }

    /// Where at its NAT a peer is, if an attempt with it may begin.
    fn birthday_aim(&self, index: PeerIdx, now: Instant) -> Option<SocketAddr> {
        let peer = self.peers.get(index)?;
        let may = self.gatherer.birthday.may_begin(now)
            && peer.limits.birthday.is_over(now)
            && peer.is_relayed()
            && peer.session.is_established(now);
        let agent = peer.agent.as_ref().filter(|_| may)?;
        let knocks = &peer.limits.knocks;
        let mut known = agent.remote_reflexive();
        known.find(|address| knocks.is_proven(address.ip(), now))
    }

    /// Ports without order, none twice, the likeliest of a NAT that counts up among the first.
    fn ports_to_probe(&mut self, newest: u16) -> Vec<u16> {
        let near = (1..=NEAR).map(|step| newest.wrapping_add(step * NEAR_STEP));
        let mut ports: Vec<u16> = near.filter(|port| *port >= LOWEST_PORT).collect();
        let mut chosen = vec![false; usize::from(u16::MAX) + 1];
        for port in &ports {
            chosen[usize::from(*port)] = true;
        }
        while ports.len() < PROBES {
            let port = self.rng.random_range(LOWEST_PORT..=u16::MAX);
            if !std::mem::replace(&mut chosen[usize::from(port)], true) {
                ports.push(port);
            }
        }
        ports
    }

    /// Lets the time of the attempt under way pass, and sees whether it has come to its end.
    pub(super) fn drive_birthday(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        let peers = &self.peers;
        let is_used = |index: PeerIdx, port: u16| {
            let link = peers.get(index).and_then(|peer| peer.link);
            link.is_some_and(|link| link.port.map(NonZeroU16::get) == Some(port))
        };
        self.gatherer.birthday.tidy(is_used, now);
        let Some((index, ..)) = self.gatherer.birthday.attempt() else {
            return;
        };
        let peer = self.peers.get(index);
        let is_relayed = peer.is_some_and(|peer| peer.is_relayed());
        let is_over = self.gatherer.birthday.handle_timeout(now) || !is_relayed;
        if is_over {
            return self.end_birthday(index);
        }
        while let Some(act) = self.gatherer.birthday.poll_act() {
            self.act(index, act, now, transmit);
        }
    }

    fn end_birthday(&mut self, index: PeerIdx) {
        let peer = self.peers.get_mut(index);
        let port = peer.as_ref().and_then(|peer| peer.link?.port);
        let unused = self.gatherer.birthday.end(port);
        if let Some(agent) = peer.and_then(|peer| peer.agent.as_mut())
            && let Some(base) = unused
        {
            agent.forget_base(base);
        }
    }

    fn act(&mut self, index: PeerIdx, act: Act, now: Instant, transmit: &mut TransmitQueue) {
        let Some((_, attempt, aim)) = self.gatherer.birthday.attempt() else {
            return;
        };
        let agent = self.peers.get(index).and_then(|peer| peer.agent.as_ref());
        let from = |port| Route {
            port: Some(port),
            ..Route::to(aim)
        };
        let check = agent.and_then(|agent| agent.blind_check());
        match (act, check) {
            (Act::Tell(step), _) => {
                let letter = Carrier::Birthday { step, attempt };
                self.send_inner(index, &letter.encode(), now, transmit);
            }
            (Act::Shoot(port), _) => {
                // As other shots: nobody needs to understand it.
                let request = binding_request(&self.rng.random());
                match self.local.hop_limits {
                    true => transmit.push_limited(from(port), SHOT_HOPS, &request),
                    false => transmit.push(from(port), &request),
                }
            }
            (Act::Check(port), Some(check)) => transmit.push(from(port), &check),
            (Act::Probe(port), Some(check)) => {
                transmit.push(Route::to(SocketAddr::new(aim.ip(), port)), &check);
            }
            // There is no agent any more.
            (Act::Check(_) | Act::Probe(_), None) => {}
        }
    }
}
