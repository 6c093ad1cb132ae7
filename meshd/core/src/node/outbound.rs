//! TUN -> UDP: look up the owner of the destination, cut super-packets, seal each packet in the owner's session, lay
//! it into the train of datagrams for the owner's path.

use std::time::Instant;

use super::{Node, event::DropReason};
use crate::{
    lan::segment::Segments,
    peer::{
        Peer,
        session::{MAX_HANDSHAKE, OVERHEAD, Sealed},
        table::PeerIdx,
    },
    queue::transmit::TransmitQueue,
};

/// The longest message: a whole UDP payload.
const MAX_PACKET: usize = crate::queue::transmit::MAX_TRAIN;

impl Node {
    /// One read from the TUN: a `virtio_net_hdr` of 10 bytes and an IP packet or super-packet. The frame is only
    /// borrowed; an open checksum is finished in place.
    pub fn handle_tun(&mut self, frame: &mut [u8], now: Instant, transmit: &mut TransmitQueue) {
        let Ok(segments) = Segments::parse(frame) else {
            return self.counters.count(DropReason::MalformedPacket, 1);
        };
        let Some(index) = self.lan.owner(segments.ip().destination) else {
            return self.counters.count(DropReason::NoSuchDestination, 1);
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        for number in 0..segments.count() {
            let packet = segments.get(number, &mut scratch);
            self.send_inner(index, packet, now, transmit);
        }
        self.scratch = scratch;
    }

    /// Seals one inner packet for a peer, or keeps it and starts connecting.
    pub(super) fn send_inner(
        &mut self,
        index: PeerIdx,
        packet: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if seal_to(peer, packet, now, transmit) {
            return;
        }
        let dropped = peer.pending.push(packet);
        let may_dial = peer.state.may_dial(now);
        self.counters.count(DropReason::Unreachable, dropped);
        if may_dial {
            self.dial(index, now);
        } else {
            self.nudge(index, now, transmit);
        }
    }

    /// Sends what waited for the session.
    pub(super) fn flush_pending(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        while let Some(route) = peer.link
            && peer.session.has_queued()
        {
            transmit.push_with(route, MAX_PACKET, |buffer| peer.session.next_queued(buffer));
        }
        while peer.session.is_established() && peer.link.is_some() {
            let Some(packet) = peer.pending.pop() else {
                break;
            };
            if !seal_to(peer, &packet, now, transmit) {
                self.counters.count(DropReason::Unreachable, 1);
            }
        }
    }
}

/// Seals `packet` into the train of the peer's path; false if there is no session or no path.
fn seal_to(peer: &mut Peer, packet: &[u8], now: Instant, transmit: &mut TransmitQueue) -> bool {
    let Some(route) = peer.link else { return false };
    if !peer.session.is_established() {
        return false;
    }
    let mut sealed = false;
    let space = (packet.len() + OVERHEAD).max(MAX_HANDSHAKE);
    transmit.push_with(route, space, |buffer| {
        match peer.session.seal(packet, buffer) {
            Sealed::Message(len) => {
                sealed = true;
                len
            }
            Sealed::NoSession => 0,
        }
    });
    if sealed {
        peer.traffic.tx_bytes += u64::try_from(packet.len()).unwrap_or(0);
        peer.traffic.last_tx = Some(now);
    }
    sealed
}
