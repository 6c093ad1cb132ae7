//! What is done about a peer that has fallen silent? See `path::watch`.

use std::time::{Duration, Instant};

use mesh_wire::carrier::Carrier;
use rand::RngExt as _;

use super::Node;
use crate::{
    path::{agent::Agent, watch::Finding},
    peer::{state::State, table::PeerIdx},
    queue::transmit::TransmitQueue,
};

/// The id of pings that nobody but us waits for; those with the top bit are of `path::mtu`.
pub(super) const OWN_PING: u64 = u64::MAX >> 1;
/// What a STUN server said longer ago than this may have been before a peer fell silent that was asked twice, each time for a
/// look of 200 ms or more. So often at most a server is asked for that.
const SILENT_FOR: Duration = Duration::from_secs(1);

impl Node {
    /// Asks a peer that has fallen silent, and looks for another path when it does not answer. The link stays until there
    /// is a better one.
    pub(super) fn drive_watch(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let sent = self.micros(now);
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        if peer
            .traffic
            .watch
            .poll_timeout()
            .is_some_and(|at| at <= now)
        {
            self.gauge(index, now);
            self.tell_finding(index, now, transmit);
        }
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let rtt = peer.agent.as_ref().and_then(Agent::rtt);
        let volume = peer.traffic.volume();
        let signs = (peer.traffic.last_here, rtt);
        match peer.traffic.watch.look(volume, signs, now) {
            Finding::Nothing => {}
            Finding::Ask => {
                if peer.traffic.watch.asked() > 1 {
                    // If it is our own NAT that has forgotten us, all peers can be told before they are missed.
                    self.gatherer.doubt_older(SILENT_FOR, now);
                }
                let question = Carrier::Ping { id: OWN_PING, sent };
                self.send_inner(index, &question.encode(), now, transmit);
            }
            Finding::Lost => {
                let (relayed, idle) = (peer.is_relayed(), peer.state == State::Connected);
                // Found again, and lost again though its pairs answer: something lets checks pass and nothing else.
                let lies = !relayed && peer.traffic.watch.losses() > 1;
                let again = !relayed && peer.detour.take_lost(now);
                let swerved = self.swerve(index, now);
                if swerved && (lies || again) {
                    self.avoid_direct(index, now);
                }
                // Perhaps the server was restarted and relays for us no more, or nothing comes by UDP.
                self.gatherer.turn.doubt(&mut self.rng, now);
                match idle {
                    true if lies && !swerved && self.gatherer.turn.relayed().is_some() => {
                        self.leave_direct(index, now);
                    }
                    true => self.redial(index, now),
                    false => {}
                }
            }
            Finding::Gone => self.on_disconnected(index, now),
        }
    }

    /// Looks for a path again that was looked for not long ago.
    pub(super) fn drive_redial(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let is_due = peer.limits.redial.take_due(now);
        if is_due && peer.traffic.watch.is_lost() && peer.state == State::Connected {
            self.redial(index, now);
        }
    }

    /// Looks for another path, now or after a pause.
    fn redial(&mut self, index: PeerIdx, now: Instant) {
        let chance = self.rng.random_range(0.0..1.0);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.limits.redial.lost(chance, now) {
            self.dial(index, now);
        } else {
            self.schedule(index);
        }
    }
}
