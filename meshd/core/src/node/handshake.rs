//! The messages that make and renew a session's keys, and what follows from them.

use std::time::Instant;

use mesh_wire::{
    carrier::{Carrier, FEATURE_AES_256_GCM, FEATURE_HEARD, FEATURE_OPEN_CHECKSUMS},
    wireguard::Message,
};

use super::{Node, inbound::Arrival};
use crate::{peer::table::PeerIdx, queue::transmit::TransmitQueue, wireguard::noise::Responder};

impl Node {
    /// A peer begins a handshake. Returns false if it deserves no answer.
    ///
    /// An initiation can be recorded and sent again from elsewhere before the peer's next one, so it is answered where it
    /// came from but moves no path; what the peer sends under the new keys does.
    pub(super) fn on_initiation(
        &mut self,
        (responder, sender): (Responder, u32),
        arrival: Arrival,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> bool {
        let Some(index) = self.peers.by_key(&responder.peer) else {
            return false;
        };
        let Some(way) = self.way_back(index, arrival, now) else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(index) else {
            return false;
        };
        let Some(response) = peer
            .session
            .accept(&mut self.keys, (responder, sender), now)
        else {
            return false;
        };
        peer.traffic.last_rx = Some(now);
        if peer.link.is_none() {
            peer.link = Some(way);
            peer.traffic.last_here = Some(now);
            peer.detour.moved(way, now);
            peer.has_link();
            self.mesh.rides(index, way);
        }
        self.send_on(way, &response, now, transmit);
        self.schedule(index);
        true
    }

    /// A peer answers our initiation, by a response or a cookie. Returns false if it answers nothing of ours.
    pub(super) fn on_answer(
        &mut self,
        index: PeerIdx,
        message: &Message<'_>,
        arrival: Arrival,
        (now, transmit): (Instant, &mut TransmitQueue),
    ) -> bool {
        let Some(peer) = self.peers.get_mut(index) else {
            return false;
        };
        if peer.session.take_cookie(message, now) {
            self.schedule(index);
            return true;
        }
        let was_established = peer.session.is_established(now);
        if !peer.session.finish(&self.keys, message, now) {
            return false;
        }
        self.on_authentic(index, arrival, (now, was_established));
        self.on_new_keys(index, true, now, transmit);
        self.schedule(index);
        true
    }

    /// What we tell peers that we can do.
    fn features(&self) -> u64 {
        let gcm = u64::from(self.keys.uses().gcm) * FEATURE_AES_256_GCM;
        let open_checksums = u64::from(self.local.open_checksums) * FEATURE_OPEN_CHECKSUMS;
        gcm | open_checksums
    }

    /// Tells a peer what we can do, if that is more than it expects. Returns whether it does.
    pub(super) fn say_features(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> bool {
        let bits = self.features();
        if bits != 0 {
            self.send_inner(index, &Carrier::Features { bits }.encode(), now, transmit);
        }
        bits != 0
    }

    /// A peer tells what it can do under the keys named `receiver`. Unless it has heard what we can, it is told once more: of the two
    /// messages that follow new keys one may be lost.
    pub(super) fn on_features(
        &mut self,
        index: PeerIdx,
        (bits, receiver): (u64, u32),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.session.peer_can(receiver, bits);
        }
        let ours = self.features();
        if bits & FEATURE_HEARD == 0 && ours != 0 {
            let bits = ours | FEATURE_HEARD;
            self.send_inner(index, &Carrier::Features { bits }.encode(), now, transmit);
        }
    }

    /// New keys are in use: say what we can do, and send what waited. Whoever began the handshake must send something,
    /// because the other side uses the keys only then.
    pub(super) fn on_new_keys(
        &mut self,
        index: PeerIdx,
        initiator: bool,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let said = self.say_features(index, now, transmit);
        let sent = self.flush_pending(index, now, transmit) || said;
        self.tie(index, now);
        let link = self.peers.get(index).and_then(|peer| peer.link);
        if let Some(link) = link.filter(|_| initiator && !sent) {
            self.send_keepalive((index, link), now, transmit);
        }
    }
}
