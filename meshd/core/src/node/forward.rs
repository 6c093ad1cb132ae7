//! UDP -> UDP: check that a frame comes from a neighbour, find the next one on its way, lay it into the train for that
//! neighbour. The message inside stays sealed between its source and its destination.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
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
    routing::NextHop,
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
        let index = self.peers.by_node(next);
        let marked = (Ecn::NotEct, now);
        let sent =
            index.is_some_and(|index| self.send_frame(index, (header, message), marked, transmit));
        if !sent {
            self.counters.count(DropReason::NoRoute, 1);
        }
    }

    /// A frame from a neighbour: to be carried on, or with a message for us. Returns whose packet that held, and where it stands.
    pub(super) fn handle_frame(
        &mut self,
        (arrival, datagram): (Arrival, &mut [u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> Option<(PeerIdx, Range<usize>)> {
        let Some(frame) = RelayFrame::parse(datagram) else {
            self.counters.count(DropReason::RefusedFrame, 1);
            return None;
        };
        let (from, _) = self.keys.receivers().decode(frame.tag.receiver);
        let peer = self.peers.get_mut(from);
        if !peer.is_some_and(|peer| peer.session.check_frame(&frame.tag, frame.covered, now)) {
            self.counters.count(DropReason::RefusedFrame, 1);
            return None;
        }
        let header = frame.header;
        self.on_frame(from, (arrival, frame.message.len()), now);
        if self.mesh.is_for_us(&header) {
            let place = header.head_len()..datagram.len() - TAG;
            self.after_traffic(from, now, transmit);
            return self.open_frame((arrival, &header), &mut datagram[place], (now, transmit));
        }
        match self.onward(from, &header) {
            Ok((next, onward)) => {
                let marked = (arrival.ecn, now);
                let frame = (&onward, frame.message);
                let index = self.lan.owner(address_of(next));
                let sent = index.filter(|next| self.send_frame(*next, frame, marked, transmit));
                match sent {
                    Some(next) => self.after_traffic(next, now, transmit),
                    None => self.stuck(&header, next, now),
                }
            }
            Err(reason) => self.counters.count(reason, 1),
        }
        self.after_traffic(from, now, transmit);
        None
    }

    /// A message for us that neighbours have carried.
    fn open_frame(
        &mut self,
        (arrival, header): (Arrival, &RelayHeader),
        message: &mut [u8],
        (now, transmit): (Instant, &mut TransmitQueue),
    ) -> Option<(PeerIdx, Range<usize>)> {
        let ends = [header.source, header.destination];
        let [from, to] = ends.map(|member| SocketAddr::new(address_of(member), 0));
        let carried = Arrival {
            from,
            to,
            ecn: arrival.ecn,
            stream: None,
        };
        let packet = self.handle_message((carried, message), now, transmit);
        let start = header.head_len();
        packet.map(|(index, packet)| (index, start + packet.start..start + packet.end))
    }

    /// Whom a frame goes to next, and what it says there. One with an explicit path follows that to its end and nobody's table, one
    /// without follows ours.
    fn onward(
        &self,
        from: PeerIdx,
        header: &RelayHeader,
    ) -> Result<(u32, RelayHeader), DropReason> {
        let hop_limit = header
            .hop_limit
            .min(self.mesh.max_hops())
            .checked_sub(1)
            .filter(|left| *left > 0);
        let hop_limit = hop_limit.ok_or(DropReason::HopLimit)?;
        if !self.mesh.carries() || !header.is_simple() || self.mesh.is_on_its_way(header) {
            return Err(DropReason::RefusedFrame);
        }
        let neighbour = self.member_of(from);
        let (next, path) = match header.path {
            Some(path) => {
                let (next, rest) = path.next(header.destination);
                (next, Some(rest))
            }
            None => match self.mesh.carried_on(neighbour, header.destination) {
                NextHop::Neighbour(next) => (next, None),
                // It would name a path that its sender knows nothing of.
                NextHop::Path(_) | NextHop::None => return Err(DropReason::NoRoute),
            },
        };
        // Back to where it came from would be a loop of two.
        if Some(next) == neighbour {
            return Err(DropReason::NoRoute);
        }
        let header = RelayHeader {
            hop_limit,
            path,
            ..*header
        };
        Ok((next, header))
    }

    /// A frame gets no further. Who sent it along a path of its own is told.
    fn stuck(&mut self, header: &RelayHeader, next: u32, now: Instant) {
        self.counters.count(DropReason::NoRoute, 1);
        if header.path.is_some() {
            self.mesh
                .path_failed((header.source, header.destination, next), now);
        }
    }

    /// What a neighbour proves by an authentic frame: that it is there. It moves no path, for its tag is short.
    fn on_frame(&mut self, index: PeerIdx, (arrival, len): (Arrival, usize), now: Instant) {
        let link = self.peers.get(index).and_then(|peer| peer.link);
        let is_here = link.is_some_and(|link| self.came_by(link, arrival));
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let frames = &mut peer.traffic.frames.rx_bytes;
        *frames = frames.wrapping_add(u64::try_from(len).unwrap_or(0));
        peer.traffic.last_rx = Some(now);
        peer.session.timers.received(true, now);
        if is_here {
            peer.traffic.last_here = Some(now);
            peer.detour.proven(now);
        }
    }

    /// Sends a sealed message, or one of a handshake, to a member over whoever is next.
    pub(super) fn send_over_mesh(
        &mut self,
        (member, message): (IpAddr, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let hop = self.first_hop(member);
        let sent = hop.is_some_and(|(next, header)| {
            self.send_frame(next, (&header, message), (Ecn::NotEct, now), transmit)
        });
        if !sent {
            self.counters.count(DropReason::NoRoute, 1);
        }
    }
}

impl Arrival {
    /// Whether neighbours have carried it. A datagram that comes from port 0 is dropped before anybody asks.
    pub(super) fn is_over_mesh(&self) -> bool {
        self.from.port() == 0
    }
}

/// A member's address on the virtual LAN.
pub(super) fn address_of(member: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(member))
}
