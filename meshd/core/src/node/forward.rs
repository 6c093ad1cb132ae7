//! UDP -> UDP: check that a frame comes from a neighbour, find the next one on its way, lay it into the train for that
//! neighbour. The message inside stays sealed between its source and its destination.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use mesh_wire::{
    NodeId,
    relay::{RelayFrame, RelayHeader, TAG},
};

use super::{Node, event::DropReason, inbound::Arrival};
use crate::{
    peer::table::PeerIdx,
    queue::{ecn::Ecn, transmit::TransmitQueue},
};

impl Node {
    /// Sends a sealed message behind a relay header to a neighbour, which carries it on. Without a session with that
    /// neighbour it is counted and dropped.
    pub fn relay(
        &mut self,
        next: &NodeId,
        (header, message): (&RelayHeader, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        match self.peers.by_node(next) {
            Some(index) => self.send_frame(index, (header, message), (Ecn::NotEct, now), transmit),
            None => self.counters.count(DropReason::NoRoute, 1),
        }
    }

    /// A frame from a neighbour.
    pub(super) fn handle_frame(
        &mut self,
        (arrival, datagram): (Arrival, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(frame) = RelayFrame::parse(datagram) else {
            return self.counters.count(DropReason::RefusedFrame, 1);
        };
        let (from, _) = self.keys.receivers().decode(frame.tag.receiver);
        let peer = self.peers.get_mut(from);
        if !peer.is_some_and(|peer| peer.session.check_frame(&frame.tag, frame.covered, now)) {
            return self.counters.count(DropReason::RefusedFrame, 1);
        }
        let Some(header) = onward(&frame.header) else {
            return self.counters.count(DropReason::HopLimit, 1);
        };
        let (next, header) = header;
        match self.lan.owner(IpAddr::V4(Ipv4Addr::from_bits(next))) {
            // Back to where it came from would be a loop of two.
            Some(index) if index != from => {
                let marked = (arrival.ecn, now);
                self.send_frame(index, (&header, frame.message), marked, transmit);
            }
            Some(_) | None => self.counters.count(DropReason::NoRoute, 1),
        }
    }

    fn send_frame(
        &mut self,
        index: PeerIdx,
        (header, message): (&RelayHeader, &[u8]),
        (ecn, now): (Ecn, Instant),
        transmit: &mut TransmitQueue,
    ) {
        let peer = self.peers.get_mut(index);
        let linked = peer.and_then(|peer| Some((peer.link?, &mut peer.session)));
        let Some((route, session)) = linked.filter(|(_, session)| session.is_established(now))
        else {
            return self.counters.count(DropReason::NoRoute, 1);
        };
        self.moved += 1;
        let len = header.frame_len(message.len());
        transmit.push_marked_with((route, ecn), len, |out| {
            let tag = header
                .write(message, out)
                .and_then(|covered| session.tag_frame(&out[..covered], now));
            let Some(tag) = tag else { return 0 };
            out[len - TAG..].copy_from_slice(&tag.encode());
            len
        });
    }
}

/// The member that a frame goes to next, and what it says there; `None` if it has crossed as many links as it may. A frame
/// with an explicit path follows that to its end, and then goes to its destination.
fn onward(header: &RelayHeader) -> Option<(u32, RelayHeader)> {
    let hop_limit = header.hop_limit.checked_sub(1).filter(|left| *left > 0)?;
    let (next, path) = match header.path {
        Some(path) => match path.split_first() {
            Some((next, rest)) => (next, Some(rest)),
            None => (header.destination, Some(path)),
        },
        None => (header.destination, None),
    };
    let header = RelayHeader {
        hop_limit,
        path,
        ..*header
    };
    Some((next, header))
}
