//! UDP -> TUN: tell the protocols apart, find the session, open the message, check that its sender may speak for the
//! packet's source, queue the packet.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use is::stun::StunMessage;
use mesh_wire::{
    carrier::{Carrier, is_carrier},
    frame::{Frame, classify},
};

use super::{
    Node,
    event::{DropReason, Event},
};
use crate::{
    lan::ip::IpHeader,
    peer::{
        session::{Addressee, MAX_HANDSHAKE, Opened},
        state::State,
        table::PeerIdx,
    },
    queue::{
        packet::PacketQueue,
        transmit::{Route, TransmitQueue},
    },
};

/// Where a datagram came from, and which of our addresses it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The sender.
    pub from: SocketAddr,
    /// Our own address and port.
    pub to: SocketAddr,
}

impl Arrival {
    /// The way back.
    fn reply(self) -> Route {
        Route {
            dst: self.from,
            src: Some(self.to.ip()),
        }
    }
}

impl Node {
    /// One datagram from the UDP socket. Whatever it holds, it costs bounded work and at most one reply.
    pub fn handle_datagram(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
        packets: &mut PacketQueue,
    ) {
        // Our own messages, carried to us over the mesh, would move a path into the very tunnel that it carries.
        if [arrival.from, arrival.to]
            .iter()
            .any(|end| self.local.cidr.contains(&end.ip()))
        {
            return self.counters.count(DropReason::InsideTunnel, 1);
        }
        match classify(datagram) {
            Frame::Stun => self.handle_stun(arrival, datagram, now, transmit),
            Frame::WireGuard => {
                if let Some(index) = self.addressee(arrival, datagram, transmit) {
                    self.handle_message(index, (arrival, datagram), now, transmit, packets);
                }
            }
            Frame::Unknown => self.counters.count(DropReason::UnknownDatagram, 1),
        }
    }

    fn handle_stun(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if let Some(news) = self
            .gatherer
            .handle_response((arrival.from, arrival.to), datagram, now)
        {
            if news {
                self.offer_new_candidates(now, transmit);
            }
            return;
        }
        let Ok(message) = StunMessage::parse(datagram) else {
            return self.counters.count(DropReason::RefusedStun, 1);
        };
        let peer = match message.split_username() {
            Some((local, _)) => self.stun.by_ufrag(local),
            None => crate::path::stun_index::transaction_id(datagram)
                .and_then(|id| self.stun.by_transaction(&id)),
        };
        let agent =
            peer.and_then(|index| Some((index, self.peers.get_mut(index)?.agent.as_mut()?)));
        let Some((index, agent)) = agent else {
            return self.counters.count(DropReason::RefusedStun, 1);
        };
        if agent.handle_stun((arrival.from, arrival.to), message, now) {
            self.drive_agent(index, now, transmit);
            self.schedule(index);
        } else {
            self.counters.count(DropReason::RefusedStun, 1);
        }
    }

    /// Finds the session that a WireGuard message belongs to.
    fn addressee(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        transmit: &mut TransmitQueue,
    ) -> Option<PeerIdx> {
        let mut reply = [0; MAX_HANDSHAKE];
        let found = match self.keys.addressee(arrival.from.ip(), datagram, &mut reply) {
            Addressee::Initiator(key) => self.peers.by_key(&key),
            Addressee::Session(index) => Some(index),
            Addressee::Cookie(len) => {
                transmit.push(arrival.reply(), &reply[..len]);
                return None;
            }
            Addressee::Nobody => None,
        };
        if found.is_none() {
            self.counters.count(DropReason::RefusedMessage, 1);
        }
        found
    }

    fn handle_message(
        &mut self,
        index: PeerIdx,
        (arrival, datagram): (Arrival, &[u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
        packets: &mut PacketQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return self.counters.count(DropReason::RefusedMessage, 1);
        };
        let was_established = peer.session.is_established();
        let buffer = packets.reserve(datagram.len().max(MAX_HANDSHAKE));
        match peer.session.open(arrival.from.ip(), datagram, buffer) {
            Opened::Refused => return self.counters.count(DropReason::RefusedMessage, 1),
            Opened::Cookie => return,
            Opened::Keepalive => {}
            Opened::Reply(len) => transmit.push(arrival.reply(), &buffer[..len]),
            Opened::Packet(len) => {
                let deliver = self.judge(index, &buffer[..len]);
                match deliver {
                    Verdict::Deliver => packets.commit(0, len),
                    Verdict::Carrier(message) => {
                        self.on_carrier(index, message, arrival, now, transmit)
                    }
                    Verdict::Drop(reason) => self.counters.count(reason, 1),
                }
            }
        }
        self.on_authentic(index, arrival, (now, was_established), transmit);
    }

    /// What a peer proves by an authentic message: that it is there, and where.
    fn on_authentic(
        &mut self,
        index: PeerIdx,
        arrival: Arrival,
        (now, was_established): (Instant, bool),
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        peer.traffic.last_rx = Some(now);
        let moved = peer.link.is_none_or(|link| link.dst != arrival.from);
        let established = !was_established && peer.session.is_established();
        let waiting = peer.session.has_queued() && peer.session.since_handshake().is_some();
        if moved {
            peer.link = Some(arrival.reply());
        }
        if !moved && !established && !waiting && peer.session_due.is_some() {
            return;
        }
        peer.state = State::Connected;
        peer.keep_ticking(now);
        if established {
            let node = peer.node_id;
            self.events.push_back(Event::Connected {
                node,
                endpoint: arrival.from,
            });
        }
        self.flush_pending(index, now, transmit);
        self.schedule(index);
    }

    /// May this peer send this packet to us?
    fn judge(&mut self, index: PeerIdx, packet: &[u8]) -> Verdict {
        if is_carrier(packet) {
            return match Carrier::decode(packet) {
                Ok(message) => Verdict::Carrier(message),
                Err(_) => Verdict::Drop(DropReason::UnknownCarrier),
            };
        }
        let Some(header) = IpHeader::parse(packet) else {
            return Verdict::Drop(DropReason::MalformedPacket);
        };
        if !self.lan.permits(index, header.source) {
            return Verdict::Drop(DropReason::ForgedSource);
        }
        if !self.local.virtual_ips.contains(&header.destination) {
            return Verdict::Drop(DropReason::WrongDestination);
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.traffic.rx_bytes += u64::try_from(packet.len()).unwrap_or(0);
        }
        Verdict::Deliver
    }

    fn on_carrier(
        &mut self,
        index: PeerIdx,
        message: Carrier,
        arrival: Arrival,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        match message {
            Carrier::Ping { id, sent } => {
                self.send_inner(index, &Carrier::Pong { id, sent }.encode(), now, transmit);
            }
            Carrier::Pong { id, sent } => {
                let Some(peer) = self.peers.get(index) else {
                    return;
                };
                let rtt = Duration::from_micros(self.micros(now).saturating_sub(sent));
                self.events.push_back(Event::Pong {
                    node: peer.node_id,
                    id,
                    rtt,
                    endpoint: arrival.from,
                });
            }
        }
    }
}

/// What is to be done with an opened packet.
enum Verdict {
    Deliver,
    Carrier(Carrier),
    Drop(DropReason),
}
