//! From "a packet wants to go there" to a proven path: dialling, signals, connectivity checks, handshakes, giving up.

use std::time::Instant;

use mesh_wire::signal::Signal;

use super::{
    Node,
    event::{DropReason, Event},
    letters::Cause,
};
use crate::{
    path::{
        agent::{Agent, AgentEvent, Scope},
        place::is_never_a_peer,
    },
    peer::{
        session::{Session, SessionDue},
        state::State,
        table::PeerIdx,
    },
    queue::transmit::{Route, TransmitQueue},
};

impl Node {
    /// Begins an attempt to reach a peer. A new agent has nothing to send before the peer has answered our signal.
    pub(super) fn dial(&mut self, index: PeerIdx, now: Instant) {
        self.new_agent((index, Scope::Any), now);
        self.send_signal(index, Cause::News, now);
        self.schedule(index);
    }

    /// A packet waits though a path is known: see that a handshake is under way.
    pub(super) fn nudge(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        if peer.link.is_none() || peer.session.is_established(now) {
            return;
        }
        // A message of the peer may be all that ever spoke for this path, and no agent would notice its end.
        let unwatched = peer.agent.is_none() && peer.state == State::Connected;
        self.handshake(index, now, transmit);
        if unwatched {
            self.dial(index, now);
        }
        self.schedule(index);
    }

    /// The peer's daemon was started anew: nothing that we share with it is worth anything any more. An agent that it has
    /// not answered shares nothing with it, and its signal may be under way.
    pub(super) fn reconnect(&mut self, index: PeerIdx, now: Instant) {
        let keepalive = self.local.keepalive;
        self.untie(index, now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let was_wanted = peer.link.is_some() || !peer.pending.is_empty();
        let entry = &peer.entry;
        let session = Session::new(entry.wireguard_key, index, entry.psk, keepalive);
        let unanswered = peer
            .agent
            .take_if(|agent| agent.remote_ufrag().is_none() && peer.link.is_none());
        peer.reset(session);
        if unanswered.is_some() {
            peer.agent = unanswered;
            peer.state = State::connecting(now, self.local.connect_timeout);
            self.send_signal(index, Cause::News, now);
            return self.schedule(index);
        }
        self.stun.remove_peer(index);
        if was_wanted {
            self.dial(index, now);
        } else {
            self.schedule(index);
        }
    }

    /// A peer that could not be signalled to is there again: whoever wanted to reach it a moment ago still does.
    pub(super) fn try_again(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.state.failed_lately(now) {
            self.dial(index, now);
        }
    }

    /// A peer's credentials and candidates.
    ///
    /// Both sides may dial at once, and either may have been restarted in between. The rule that makes it converge: a
    /// signal that answers our current agent (its `remote_ufrag` is ours) is always taken by that agent; one from a
    /// new agent of the peer that does not know ours makes us start over too; and whoever is not known by its current
    /// fragment says it again. While our agent knows none of the peer's, one that answers an older agent of ours is not
    /// taken: what we said makes the peer start over, and checks with credentials that it will have forgotten would only
    /// be waited for.
    pub(super) fn on_signal(
        &mut self,
        index: PeerIdx,
        signal: &Signal,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        let answers_us = peer
            .agent
            .as_ref()
            .is_some_and(|agent| signal.remote_ufrag.as_deref() == Some(agent.ufrag()));
        let known_remote = peer.agent.as_ref().and_then(Agent::remote_ufrag);
        let said_before = known_remote == Some(&signal.ufrag);
        let outdated = !answers_us && signal.remote_ufrag.is_some() && known_remote.is_none();
        let start_over = peer.agent.is_none()
            || (!answers_us && known_remote.is_some_and(|ufrag| ufrag != signal.ufrag));
        if start_over {
            self.new_agent((index, Scope::Any), now);
        }
        if outdated {
            self.send_signal(index, Cause::News, now);
            return self.schedule(index);
        }
        let cidr = self.local.cidr;
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(agent) = peer.agent.as_mut() else {
            return;
        };
        let tunnel = |ip| is_never_a_peer(ip) || cidr.contains(&ip);
        let refused = agent.add_remote(signal, tunnel, now);
        peer.detour.named(agent.remote_relays());
        agent.handle_timeout(now);
        // A check of the peer may have come before its signal. Then the first call does no more than to answer it.
        agent.handle_timeout(now);
        self.counters.count(DropReason::RefusedCandidate, refused);
        self.avoid_as_peer_does(index, now);
        if !answers_us {
            // Who says once more what we know has missed what we said.
            let cause = match said_before {
                true => Cause::Unanswered,
                false => Cause::News,
            };
            self.send_signal(index, cause, now);
        }
        self.let_in(index, now);
        if answers_us {
            self.hail(index, now, transmit);
        }
        self.drive_agent(index, now, transmit);
        self.schedule(index);
    }

    /// Whatever of this peer is due.
    pub(super) fn drive(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let doubted = peer.doubt().is_some_and(|at| at <= now);
        if let Some(agent) = peer.agent.as_mut() {
            if doubted {
                agent.look(now);
            }
            if agent.poll_timeout().is_some_and(|at| at <= now) {
                agent.handle_timeout(now);
            }
        } else if doubted {
            // A message of the peer is all that ever spoke for this path. It is kept until there is a better one.
            self.dial(index, now);
        }
        self.drive_consent(index, now);
        self.drive_watch(index, now, transmit);
        self.drive_redial(index, now);
        self.drive_trial(index, now, transmit);
        self.drive_detour(index, now);
        self.drive_agent(index, now, transmit);
        self.drive_attempt(index, now);
        self.drive_session(index, now, transmit);
        self.drive_mtu(index, now, transmit);
        self.consider_birthday(index, now);
    }

    /// Sends what the agent wants sent, and follows what it decides.
    pub(super) fn drive_agent(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        self.fire_shots(index, now, transmit);
        self.send_checks(index, now, transmit);
        while let Some(event) = self
            .peers
            .get_mut(index)
            .and_then(|peer| peer.agent.as_mut()?.poll_event(now))
        {
            match event {
                AgentEvent::Nominated(source, destination) => {
                    let way = self.way_between(index, (source, destination), now);
                    if let Some(route) = way {
                        self.on_nominated(index, route, now, transmit);
                    }
                }
                AgentEvent::Disconnected => self.on_pairs_lost(index, now),
            }
        }
        if let Some(peer) = self.peers.get_mut(index)
            && let Some(agent) = peer.agent.as_mut()
        {
            agent.rest(peer.traffic.last_rx, now);
        }
    }

    fn on_nominated(
        &mut self,
        index: PeerIdx,
        route: Route,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if self.try_first(index, route, now) {
            return;
        }
        let controlling = self.is_controlling(index);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        match peer.link.replace(route) == Some(route) {
            true => peer.traffic.watch.again(now),
            false => peer.traffic.watch.begin(peer.traffic.volume()),
        }
        peer.detour.moved(route, now);
        if peer.detour.is_on(route) {
            peer.limits.birthday.relayed(now);
        } else {
            peer.detour.honesty.lift(now);
            peer.limits.birthday.direct();
        }
        peer.state = State::Connected;
        // Without a path its timers stood still: what expired meanwhile must not seal what waits.
        self.drive_session(index, now, transmit);
        self.follow_path(index, now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.session.is_established(now) {
            self.flush_pending(index, now, transmit);
            // On the way before this one the first messages may have been lost.
            self.say_features(index, now, transmit);
            self.tie(index, now);
        } else if std::mem::take(&mut peer.traffic.lapsed) || controlling {
            // One side begins, so that two handshakes do not cross. The other begins too if a packet still waits
            // for a path when it is nominated there, or if it alone may know that there are no keys any more.
            self.handshake(index, now, transmit);
        }
    }

    pub(super) fn on_disconnected(&mut self, index: PeerIdx, now: Instant) {
        self.untie(index, now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.is_carried() {
            return self.leave_mesh(index);
        }
        if peer.link.take().is_none() {
            return self.give_up(index, now);
        }
        self.events
            .push_back(Event::Disconnected { node: peer.node_id });
        peer.agent = None;
        // The next packet may dial at once: the path that died was good a moment ago.
        peer.state = State::Idle;
        self.stun.remove_peer(index);
        self.gatherer.doubt(now);
        self.gatherer.turn.doubt(&mut self.rng, now);
        if self
            .peers
            .get(index)
            .is_some_and(|peer| peer.session.is_established(now))
        {
            self.ride(index, now);
        }
    }

    /// No pair of addresses works: what waited is dropped, and the peer is left alone for a while.
    fn give_up(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        peer.state = State::failed(now);
        peer.agent = None;
        let dropped = peer.pending.clear();
        self.stun.remove_peer(index);
        self.counters.count(DropReason::Unreachable, dropped);
        self.gatherer.doubt(now);
    }

    /// Repeats our signal, or gives up.
    fn drive_attempt(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let State::Connecting {
            began,
            deadline,
            resend,
        } = peer.state
        else {
            return;
        };
        if deadline <= now {
            let by_others = peer.link.is_some_and(|link| link.is_over_mesh());
            if by_others || peer.link.is_some() && peer.traffic.last_rx > Some(began) {
                // What was to be replaced works after all.
                if !peer.is_relayed() {
                    peer.detour.honesty.lift(now);
                }
                peer.state = State::Connected;
                peer.agent = None;
                return self.stun.remove_peer(index);
            }
            if peer.link.take().is_some() {
                let node = peer.node_id;
                self.events.push_back(Event::Disconnected { node });
                self.untie(index, now);
            }
            self.give_up(index, now);
        } else if resend <= now {
            peer.state.resent(now);
            self.send_signal(index, Cause::Unanswered, now);
        }
    }

    fn drive_session(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        while let Some(peer) = self.peers.get_mut(index)
            && let Some(link) = peer.link
            && let Some(due) = peer.session.handle_timeout(now)
        {
            match due {
                SessionDue::Keepalive => self.send_keepalive((index, link), now, transmit),
                SessionDue::Handshake => self.handshake(index, now, transmit),
                SessionDue::Over => {
                    let node = peer.node_id;
                    self.events.push_back(Event::Disconnected { node });
                    self.untie(index, now);
                }
            }
        }
    }

    /// Sends a handshake initiation, unless one is under way.
    pub(super) fn handshake(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(route) = peer.link else { return };
        let patience = peer.agent.as_ref().map(Agent::answer_takes);
        peer.session.timers.round_trip = patience.unwrap_or_default();
        if let Some(message) = peer.session.initiate(&mut self.keys, now) {
            self.send_on(route, &message, now, transmit);
        }
    }

    pub(super) fn new_agent(&mut self, (index, scope): (PeerIdx, Scope), now: Instant) {
        let role = (self.is_controlling(index), scope);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let mut agent = Agent::new(role, self.local.hop_limits, &mut self.rng, now);
        agent.add_local(&self.gatherer, now);
        let base = self.gatherer.birthday.base(index);
        if let Some(base) = base.filter(|_| scope == Scope::Any) {
            agent.add_base(base);
        }
        // Our NAT may have forgotten us since a server last said how we are seen; a new answer follows as a candidate.
        self.gatherer.doubt(now);
        self.gatherer.turn.want(now, &mut self.rng);
        if peer.link.is_none() {
            // An address that was not used for a while may be lost; a link is watched itself.
            self.gatherer.turn.doubt(&mut self.rng, now);
        }
        self.stun.remove_peer(index);
        self.stun.add_ufrag(agent.ufrag(), index);
        peer.agent = Some(agent);
        peer.detour.honesty.trial = None;
        peer.state = State::connecting(now, self.local.connect_timeout);
        if peer.link.is_some() && peer.traffic.has_left() {
            peer.state.farewell(now);
        }
    }

    pub(super) fn is_controlling(&self, index: PeerIdx) -> bool {
        self.peers
            .get(index)
            .is_some_and(|peer| self.local.node_id < peer.node_id)
    }
}
