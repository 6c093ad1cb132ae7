//! What follows when this host is somewhere else than before?

use std::time::Instant;

use super::{Node, letters::Cause};
use crate::{
    peer::table::PeerIdx,
    queue::transmit::{Route, TransmitQueue},
};

impl Node {
    /// Addresses of ours are gone: whoever was reached from one of them needs another path (RFC 8445 section 2.4, ICE
    /// restart). The session stays, and so does the link until a better one is nominated: packets that leave from
    /// wherever the system likes may still get through. They are the first that a peer without a NAT of its own needs.
    pub(super) fn leave_lost_addresses(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        for index in self.peers.indices() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            let source = peer.link.and_then(|link| link.src);
            let lost =
                source.is_some_and(|ip| !self.gatherer.hosts().iter().any(|host| host.ip() == ip));
            if !lost {
                continue;
            }
            self.dial(index, now);
            self.show_up(index, now, transmit);
        }
    }

    /// Packets to the internet leave by another interface or router than before, while our addresses may be the same. From the old
    /// ones they may be dropped on the new way (RFC 2827), and NATs on it know nothing of us: so it is as after a move.
    pub(super) fn leave_otherwise(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        self.gatherer.start_over(now);
        self.gatherer.turn.awoke(now, &mut self.rng);
        self.keep_relayed(now, transmit);
        for index in self.peers.indices() {
            let peer = self.peers.get(index);
            // Addresses that were lost a moment ago are part of the same move.
            let is_reached =
                peer.is_some_and(|peer| peer.link.is_some() && !peer.state.began_lately(now));
            if is_reached {
                self.dial(index, now);
                self.show_up(index, now, transmit);
            }
        }
    }

    /// Lets a peer know where we are now, if the link gets there.
    pub(super) fn show_up(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        if let Some(link) = self.peers.get(index).and_then(|peer| peer.link) {
            let from_anywhere = Route { src: None, ..link };
            self.send_keepalive((index, from_anywhere), now, transmit);
        }
    }

    /// Our own addresses changed: tell everyone with whom we are connecting or connected.
    pub(super) fn offer_new_candidates(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        for index in self.peers.indices() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            let Some(agent) = peer.agent.as_mut() else {
                continue;
            };
            if agent.add_local(&self.gatherer, now) {
                agent.handle_timeout(now);
                self.send_signal(index, Cause::News, now);
                self.drive_agent(index, now, transmit);
                self.schedule(index);
            }
        }
    }
}
