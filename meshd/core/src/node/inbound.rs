//! UDP -> TUN: tell the protocols apart, find the session, open the message in place, check that its sender may speak
//! for the packet's source, name the packet for the TUN.

use std::{net::SocketAddr, ops::Range, time::Instant};

use is::stun::StunMessage;
use mesh_wire::{
    carrier::{Carrier, is_carrier},
    frame::{Frame, classify},
    wireguard::{Cipher, Message},
};

use super::{
    Node,
    event::{DropReason, Event},
};
use crate::{
    lan::{congestion, ip::IpHeader, mss},
    path::{
        stun_index::{is_check, transaction_id},
        turn::is_data_indication,
    },
    peer::{keys::Addressee, session::Opened, table::PeerIdx},
    queue::{
        ecn::Ecn,
        packet::PacketQueue,
        transmit::{StreamId, TransmitQueue},
    },
};

/// Where a datagram came from, and which of our addresses it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The sender.
    pub from: SocketAddr,
    /// Our own address and port.
    pub to: SocketAddr,
    /// The congestion mark of the IP packet that carried it.
    pub ecn: Ecn,
    /// The connection to a TURN server that it came through; none for what came by UDP.
    pub stream: Option<StreamId>,
}

impl Node {
    /// Datagrams from the UDP socket that came together: `stride` bytes each, the last one perhaps shorter. They are
    /// opened in place; `packets` then says where in `train` the packets for the TUN stand. Whatever a datagram holds,
    /// it costs bounded work and at most one reply.
    pub fn handle_train(
        &mut self,
        arrival: Arrival,
        (train, stride): (&mut [u8], usize),
        now: Instant,
        transmit: &mut TransmitQueue,
        packets: &mut PacketQueue,
    ) {
        // Our own messages, carried to us over the mesh, would move a path into the very tunnel that it carries.
        let inside = [arrival.from, arrival.to]
            .iter()
            .any(|end| self.local.cidr.contains(&end.ip()));
        let mut talking = None;
        for (number, datagram) in train.chunks_mut(stride.max(1)).enumerate() {
            if inside {
                self.counters.count(DropReason::InsideTunnel, 1);
                continue;
            }
            // Nobody could answer it, and here port 0 means that members have carried something.
            if arrival.is_over_mesh() {
                self.counters.count(DropReason::UnknownDatagram, 1);
                continue;
            }
            let packet = self.handle_datagram((arrival, datagram), now, transmit);
            talking = packet.as_ref().map(|(index, _)| *index).or(talking);
            if let Some((_, packet)) = packet {
                let start = number * stride;
                self.counters.moved += 1;
                packets.push(start + packet.start..start + packet.end);
            }
        }
        if let Some(index) = talking {
            self.after_traffic(index, now, transmit);
        }
    }

    /// One datagram; returns whose packet it held, and where in the datagram that stands now.
    fn handle_datagram(
        &mut self,
        (arrival, datagram): (Arrival, &mut [u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> Option<(PeerIdx, Range<usize>)> {
        match classify(datagram) {
            // A server has nothing to say on its connection but answers and what it relays.
            Frame::WireGuard | Frame::Relay if arrival.stream.is_some() => {
                self.counters.count(DropReason::UnknownDatagram, 1);
            }
            Frame::WireGuard => return self.handle_message((arrival, datagram), now, transmit),
            Frame::Stun if !is_data_indication(datagram) => {
                self.handle_stun(arrival, datagram, now, transmit);
            }
            Frame::Stun | Frame::ChannelData => {
                // What comes by way of a relayed address is not unwrapped once more.
                let (inner, place) = self.unwrap(arrival, datagram)?;
                let relayed = &mut datagram[place.clone()];
                let packet = self.handle_datagram((inner, relayed), now, transmit);
                return packet.map(|(index, packet)| {
                    let packet = place.start + packet.start..place.start + packet.end;
                    (index, packet)
                });
            }
            Frame::Relay => return self.handle_frame((arrival, datagram), now, transmit),
            Frame::Unknown => self.counters.count(DropReason::UnknownDatagram, 1),
        }
        None
    }

    /// Whether it answers a question of ours to a STUN or TURN server.
    fn answers_us(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> bool {
        // A server speaks for itself, and to our own address.
        let Some(id) = transaction_id(datagram).filter(|_| !self.is_relayed(arrival)) else {
            return false;
        };
        let way = (arrival.from, arrival.to);
        let answer = (&id, datagram);
        if self.gatherer.turn.handle_answer(
            (arrival.contact(), arrival.to),
            answer,
            &mut self.rng,
            now,
        ) {
            self.keep_relayed(now, transmit);
            return true;
        }
        if arrival.stream.is_some() {
            return false;
        }
        let news = self.gatherer.handle_response(way, datagram, now);
        if news.is_some() {
            self.gatherer.turn.datagrams_pass(now);
        }
        if news == Some(true) {
            self.offer_new_candidates(now, transmit);
        }
        news.is_some()
    }

    fn handle_stun(
        &mut self,
        arrival: Arrival,
        datagram: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if self.answers_us(arrival, datagram, now, transmit) {
            return;
        }
        let message = StunMessage::parse(datagram).ok();
        let Some(message) = message.filter(|_| arrival.stream.is_none()) else {
            return self.counters.count(DropReason::RefusedStun, 1);
        };
        let peer = match message.split_username() {
            Some((local, _)) => self.stun.by_ufrag(local),
            None => transaction_id(datagram).and_then(|id| self.stun.by_transaction(&id)),
        };
        let peer = peer.and_then(|index| Some((index, self.peers.get_mut(index)?)));
        let Some((index, peer)) = peer else {
            return self.counters.count(DropReason::RefusedStun, 1);
        };
        let Some(agent) = peer.agent.as_mut() else {
            return self.counters.count(DropReason::RefusedStun, 1);
        };
        self.gatherer
            .try_base((index, agent), &message, arrival.to, now);
        if agent.handle_stun((arrival.from, arrival.to), message, now) {
            // The source of a request may be anybody's; whoever answers one of ours from where it went has heard it there.
            if is_check(datagram) {
                peer.limits.knocks.called(arrival.from.ip(), now);
            } else if self.stun.went_to(datagram, arrival.from.ip()) {
                peer.limits.knocks.answered(arrival.from.ip(), now);
            }
            if self.is_relayed(arrival) {
                // By the time that its packets come their channel is known to the server.
                let from = (arrival.from, index);
                let _way = self.gatherer.turn.bind(from, &mut self.rng, now);
            }
            self.drive_agent(index, now, transmit);
            self.schedule(index);
        } else {
            self.counters.count(DropReason::RefusedStun, 1);
        }
    }

    /// A WireGuard message; returns whose packet it held, and where in the datagram that stands now.
    pub(super) fn handle_message(
        &mut self,
        (arrival, datagram): (Arrival, &mut [u8]),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> Option<(PeerIdx, Range<usize>)> {
        let Some(message) = Message::parse(datagram) else {
            self.counters.count(DropReason::RefusedMessage, 1);
            return None;
        };
        if let Message::Data {
            receiver,
            counter,
            cipher,
        } = message
        {
            let name = Sealed {
                receiver,
                counter,
                cipher,
            };
            return self.handle_data((arrival, datagram), name, now, transmit);
        }
        let addressee = self.keys.addressee((arrival.from, datagram), &message, now);
        let taken = match addressee {
            Addressee::Initiator(responder, sender) => {
                self.on_initiation((*responder, sender), arrival, now, transmit)
            }
            Addressee::Session(index) => self.on_answer(index, &message, arrival, (now, transmit)),
            Addressee::Prove(reply) => {
                self.answer((arrival, &reply), now, transmit);
                self.counters.count(DropReason::UnprovenInitiation, 1);
                true
            }
            Addressee::Nobody => false,
        };
        if !taken {
            self.counters.count(DropReason::RefusedMessage, 1);
        }
        None
    }

    fn handle_data(
        &mut self,
        (arrival, datagram): (Arrival, &mut [u8]),
        name: Sealed,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> Option<(PeerIdx, Range<usize>)> {
        let (index, _) = self.keys.receivers().decode(name.receiver);
        let Some(peer) = self.peers.get_mut(index) else {
            self.counters.count(DropReason::RefusedMessage, 1);
            return None;
        };
        let was_established = peer.session.is_established(now);
        let which = (name.counter, name.cipher);
        let opened = peer.session.open(datagram, name.receiver, which, now);
        let confirmed = peer.session.take_confirmed();
        let waited = peer.link.is_none();
        let place = match opened {
            Opened::Refused => {
                self.counters.count(DropReason::RefusedMessage, 1);
                return None;
            }
            Opened::Keepalive => None,
            Opened::Packet(place) => Some(place),
        };
        // Before what it says is answered: the answer goes back where it came from.
        self.on_authentic(index, arrival, (now, was_established));
        if confirmed {
            self.on_new_keys(index, false, now, transmit);
        } else if waited {
            self.flush_pending(index, now, transmit);
        }
        let packet = place.and_then(|place| {
            match self.judge(index, &mut datagram[place.clone()], arrival.ecn) {
                Verdict::Deliver(len) => Some(place.start..place.start + len),
                Verdict::Carrier(message) => {
                    self.on_carrier(index, (message, name.receiver), arrival, now, transmit);
                    None
                }
                Verdict::Drop(reason) => {
                    self.counters.count(reason, 1);
                    None
                }
            }
        });
        if packet.is_none() {
            self.after_traffic(index, now, transmit);
        }
        packet.map(|packet| (index, packet))
    }

    /// What a peer proves by an authentic message: that it is there, and where.
    pub(super) fn on_authentic(
        &mut self,
        index: PeerIdx,
        arrival: Arrival,
        (now, was_established): (Instant, bool),
    ) {
        let relayed = self.is_relayed(arrival);
        let link = self.peers.get(index).and_then(|peer| peer.link);
        let is_here = link.is_some_and(|link| self.came_by(link, arrival));
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        peer.traffic.last_rx = Some(now);
        let established = !was_established && peer.session.is_established(now);
        let by_relay = relayed || arrival.is_over_mesh() || peer.detour.is_relay(arrival.from);
        // Who carried it may have held it back until now.
        let is_late = arrival.is_over_mesh() && peer.traffic.watch.losses() == 0;
        let may_replace = |link| !is_late && peer.detour.may_replace(link, by_relay, now);
        let may_move = !is_here && peer.link.is_none_or(may_replace);
        if is_here {
            peer.detour.proven(now);
        }
        let moved = may_move && self.move_link(index, arrival, now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if is_here || moved {
            peer.traffic.last_here = Some(now);
        }
        if !moved && !established {
            return;
        }
        peer.has_link();
        self.follow_path(index, now);
        let endpoint = self.last_hop(arrival);
        self.tie(index, now);
        if established && let Some(peer) = self.peers.get(index) {
            let node = peer.node_id;
            self.events.push_back(Event::Connected {
                node,
                endpoint,
                relayed: by_relay && !arrival.is_over_mesh(),
            });
        }
        self.schedule(index);
    }

    /// May this peer send this packet to us? There may be padding behind the packet.
    fn judge(&mut self, index: PeerIdx, packet: &mut [u8], outer: Ecn) -> Verdict {
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
        // The other two marks change nothing, whatever the inner one is.
        if matches!(outer, Ecn::Ce | Ecn::Ect1) {
            match congestion::combine(congestion::mark(packet), outer) {
                Some(mark) => congestion::set_mark(packet, mark),
                None => return Verdict::Drop(DropReason::Congestion),
            }
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.traffic.rx_bytes += u64::try_from(header.total_len).unwrap_or(0);
            if mss::is_syn(packet, &header) {
                mss::clamp(packet, &header, peer.mtu.limit());
            }
        }
        Verdict::Deliver(header.total_len)
    }
}

/// How a data message names its session and itself.
#[derive(Clone, Copy)]
struct Sealed {
    receiver: u32,
    counter: u64,
    cipher: Cipher,
}

/// What is to be done with an opened packet.
enum Verdict {
    /// The first bytes, this many, are for the TUN.
    Deliver(usize),
    Carrier(Carrier),
    Drop(DropReason),
}
