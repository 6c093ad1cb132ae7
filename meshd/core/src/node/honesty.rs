//! What is done about a path that is there and loses what it is given? See `path::loss`.
//!
//! It is left for one by way of a TURN server: a new agent offers no address but the relayed one, so that whatever it and
//! the peer's find goes that way. Direct paths are looked for again as those of any relayed pair are (`peer::detour`);
//! while they are avoided, one that is found is tried first, and the link stays where it is.

use std::time::{Duration, Instant};

use mesh_wire::carrier::{Carrier, DirectPath};
use rand::RngExt as _;

use super::{Node, inbound::Arrival, letters::Cause, outbound::Seal};
use crate::{
    path::{
        agent::{Agent, Scope},
        loss::{Purpose, Trial, Verdict, is_of_a_trial},
        vigil::PATIENCE,
    },
    peer::{state::State, table::PeerIdx},
    queue::transmit::{Route, TransmitQueue},
};

impl Node {
    /// Looks at the gaps in what the peer sends, and tries the path if there are too many.
    pub(super) fn gauge(&mut self, index: PeerIdx, now: Instant) {
        let relays = self.gatherer.turn.is_used();
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let honesty = &mut peer.detour.honesty;
        let suspected = honesty.gauge.look(peer.session.tally());
        let follow = suspected && relays && honesty.is_alert(now) && peer.state == State::Connected;
        // Who is relayed for want of a direct path has no other way.
        let has_choice = honesty.is_avoided() || !peer.is_relayed();
        let honesty = &mut peer.detour.honesty;
        if let Some(link) = peer.link.filter(|_| follow && has_choice) {
            let trial = Trial::new(link, Purpose::Doubt, self.rng.random(), now);
            honesty.trial = Some(trial);
            // By the verdict there is somewhere to go.
            self.gatherer.turn.want(now, &mut self.rng);
        }
    }

    /// Goes on with a trial.
    pub(super) fn drive_trial(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let sent = self.micros(now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(trial) = peer.detour.honesty.trial.as_mut() else {
            return;
        };
        if !peer.session.is_established(now) {
            peer.detour.honesty.trial = None;
            return;
        }
        let route = trial.route;
        if let Some(id) = trial.poll_ping(now) {
            let ping = Carrier::Ping { id, sent }.encode();
            self.send_by((index, route), &ping, now, transmit);
        }
        self.judge_trial(index, now);
    }

    fn judge_trial(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let detour = &mut peer.detour;
        let Some(trial) = detour.honesty.trial else {
            return;
        };
        let Some(verdict) = trial.verdict(now) else {
            return;
        };
        detour.honesty.trial = None;
        let on_detour = detour.is_on(trial.route);
        match (trial.purpose, verdict) {
            (Purpose::Doubt, Verdict::Good) => detour.honesty.innocent(now),
            // It may have changed meanwhile.
            (Purpose::Doubt, Verdict::Lossy) if peer.link != Some(trial.route) => {}
            (Purpose::Doubt, Verdict::Lossy) if !on_detour => self.leave_direct(index, now),
            (Purpose::Doubt, Verdict::Lossy) if detour.honesty.is_avoided() => {
                detour.honesty.resign(now);
                detour.honesty.tell(DirectPath::NoWorse);
                self.dial(index, now);
            }
            (Purpose::Doubt, Verdict::Lossy) => detour.honesty.innocent(now),
            (Purpose::Return, Verdict::Good) => {
                detour.honesty.lift(now);
                detour.honesty.tell(DirectPath::Good);
                peer.link = Some(trial.route);
                detour.moved(trial.route, now);
                peer.traffic.watch.begin(peer.traffic.volume());
                self.follow_path(index, now);
            }
            // The agent knows nothing of the link.
            (Purpose::Return, Verdict::Lossy) => self.drop_agent(index),
        }
    }

    /// Leaves the direct path: it is there, and does not carry what it is given.
    pub(super) fn leave_direct(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if self.gatherer.turn.relayed().is_none() {
            return match self.swerve(index, now) {
                true => self.avoid_direct(index, now),
                false => self.forgive(index, now),
            };
        }
        peer.detour.honesty.avoid(now);
        self.new_agent((index, Scope::Relayed), now);
        self.send_signal(index, Cause::News, now);
        self.schedule(index);
    }

    /// Direct paths have to prove themselves before one is used.
    pub(super) fn avoid_direct(&mut self, index: PeerIdx, now: Instant) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.detour.honesty.avoid(now);
        }
    }

    /// There is nowhere else to go.
    fn forgive(&mut self, index: PeerIdx, now: Instant) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.detour.honesty.innocent(now);
        }
    }

    /// The peer offers nothing but a relayed address though it has others: it avoids the direct path, so it is no good. This
    /// comes by way of the server, whatever the path swallows.
    pub(super) fn avoid_as_peer_does(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let around = peer.agent.as_ref().is_some_and(Agent::is_led_around);
        if around && peer.link.is_some() && !peer.is_relayed() {
            peer.detour.honesty.avoid(now);
        }
    }

    /// Tells the peer what we have found, if it is to know.
    pub(super) fn tell_finding(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let peer = self.peers.get_mut(index);
        let finding = peer.and_then(|peer| peer.detour.honesty.take_untold());
        if let Some(finding) = finding {
            let message = Carrier::Direct { finding }.encode();
            self.send_inner(index, &message, now, transmit);
        }
    }

    /// The peer has found this. The path is one for both: who went on alone would be drawn back by the other's messages.
    pub(super) fn on_finding(&mut self, index: PeerIdx, finding: DirectPath, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let honesty = &mut peer.detour.honesty;
        match finding {
            DirectPath::Good if honesty.is_avoided() => honesty.lift(now),
            DirectPath::NoWorse if honesty.is_avoided() => honesty.resign(now),
            DirectPath::Good | DirectPath::NoWorse => {}
        }
    }

    /// A path was found while direct ones are avoided and the detour works: a direct one is to prove itself, another detour of
    /// no use. Returns whether that is so.
    pub(super) fn try_first(&mut self, index: PeerIdx, found: Route, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(index) else {
            return false;
        };
        let by_relay = peer.detour.is_on(found);
        let works = peer.traffic.watch.losses() == 0 && peer.session.is_established(now);
        if !peer.detour.keeps(peer.link) || !works {
            return false;
        }
        if !by_relay {
            let trial = Trial::new(found, Purpose::Return, self.rng.random(), now);
            peer.detour.honesty.trial = Some(trial);
        }
        peer.state = State::Connected;
        true
    }

    /// No pair of the agent answers. If the link is another one, which works, that is of no account.
    pub(super) fn on_pairs_lost(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        // No pair is the way over neighbours.
        let by_others = peer.link.is_some_and(|link| link.is_over_mesh());
        let trying = by_others || peer.is_relayed() && peer.detour.honesty.trial.is_some();
        if by_others {
            peer.state = State::Connected;
        }
        let heard = peer.traffic.last_here.is_some_and(|at| now < at + PATIENCE);
        // There is no detour: a path that loses much is better than none.
        let is_last = peer.detour.honesty.is_avoided() && !peer.is_relayed() && heard;
        if is_last {
            peer.detour.honesty.resign(now);
            peer.state = State::Connected;
        }
        match trying || is_last {
            true => self.drop_agent(index),
            false => self.on_disconnected(index, now),
        }
    }

    /// Goes on without an agent.
    pub(super) fn drop_agent(&mut self, index: PeerIdx) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.agent = None;
            peer.detour.honesty.trial = None;
            self.stun.remove_peer(index);
        }
    }

    /// Takes the answer to a ping of a trial; false if it is none.
    pub(super) fn on_trial_answered(
        &mut self,
        (index, id): (PeerIdx, u64),
        rtt: Duration,
        now: Instant,
    ) -> bool {
        let peer = self.peers.get_mut(index);
        let trial = peer.and_then(|peer| peer.detour.honesty.trial.as_mut());
        if trial.is_some_and(|trial| trial.answered(id, rtt)) {
            self.judge_trial(index, now);
            self.schedule(index);
        }
        // Nobody else waits for a late one.
        is_of_a_trial(id)
    }

    /// Answers a ping the way that it came, which need not be the one in use.
    pub(super) fn pong(
        &mut self,
        (index, pong): (PeerIdx, Carrier),
        arrival: Arrival,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let link = self.peers.get(index).and_then(|peer| peer.link);
        let back = match link.filter(|link| !self.came_by(*link, arrival)) {
            Some(_) => self.way_back(index, arrival, now),
            None => link,
        };
        match back {
            Some(back) => self.send_by((index, back), &pong.encode(), now, transmit),
            None => self.send_inner(index, &pong.encode(), now, transmit),
        }
    }

    /// Seals a message of our own for a peer, whose session stands, and sends it by this path.
    fn send_by(
        &mut self,
        (index, route): (PeerIdx, Route),
        message: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if let Some((peer, mut outlet)) = self.outlet_by((index, route), now)
            && peer.session.is_established(now)
        {
            let seal = Seal::new(message, peer.mtu.proven(), now);
            seal.into_train((peer, &mut outlet), transmit, |place| {
                place.copy_from_slice(message);
            });
            self.after_traffic(index, now, transmit);
        }
    }
}
