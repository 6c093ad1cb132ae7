//! What becomes of a packet that is longer than its path carries, and who finds out what the path carries?

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_wire::{carrier::Carrier, wireguard::Message};
use rand::RngExt as _;

use super::{
    Node,
    event::DropReason,
    outbound::{Seal, seal_all},
    outlet::Outlet,
};
use crate::{
    lan::{
        errors::Reason,
        fragments::Fragments,
        ip::IpHeader,
        segment::{Checksums, Segments},
    },
    peer::{Peer, table::PeerIdx},
    queue::transmit::TransmitQueue,
    wireguard::keypair::OVERHEAD,
};

/// That a datagram was too long for the path to somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong<'a> {
    /// Where it went. Port 0 where the system does not say.
    pub to: SocketAddr,
    /// The longest IP packet that passes, in bytes.
    pub mtu: usize,
    /// What a router quotes of the UDP payload, which is to prove that it saw the datagram. Absent if our own system
    /// refused to send it.
    pub quoted: Option<&'a [u8]>,
}

impl Node {
    /// A datagram of ours was too long. What a router says is believed only if it quotes a message that we sealed for that
    /// peer a moment ago, so that nobody who does not see our packets can narrow a path.
    pub fn handle_too_long(&mut self, news: TooLong<'_>, now: Instant) {
        let message = news.quoted.map(Message::parse);
        let is_ours = |peer: &Peer| {
            let link = peer.link.filter(|link| {
                link.dst.ip() == news.to.ip() && [0, link.dst.port()].contains(&news.to.port())
            });
            let sent = |message: &Message<'_>| peer.session.has_sent(message);
            let proven = message
                .as_ref()
                .is_none_or(|m| m.as_ref().is_some_and(sent));
            link.filter(|_| proven)
        };
        // So many peers are looked through for one that an attacker must not choose how often.
        let found = self.lan.messages.heeds(now).then(|| {
            let mut peers = self.peers.iter();
            peers.find_map(|(index, peer)| Some((index, is_ours(peer)?)))
        });
        let Some((index, route)) = found.flatten() else {
            return self.counters.count(DropReason::RefusedIcmp, 1);
        };
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let around = route.overhead() + OVERHEAD;
        peer.mtu.claimed(news.mtu.saturating_sub(around), now);
        self.schedule(index);
    }

    /// The next packet for the TUN that is our own: an ICMP error for a host on our side.
    pub fn poll_message(&mut self) -> Option<Vec<u8>> {
        self.lan.messages.pop()
    }

    /// Sends a frame that holds packets longer than what is known to pass. TCP is cut to that, whatever the sender has
    /// been told by then; anything else goes as it is while nothing is known against it.
    pub(super) fn send_long(
        &mut self,
        index: PeerIdx,
        mut segments: Segments<'_>,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let (proven, limit) = (peer.mtu.proven(), peer.mtu.limit());
        let longest = segments.len_of(0);
        if longest > limit && segments.is_whole() && peer.mtu.tells(now) {
            let mut packet = vec![0; longest];
            segments.write(0, Checksums::Complete, &mut packet);
            let source = router_of(peer, segments.ip().destination);
            self.lan
                .messages
                .tell(&packet, source, Reason::TooBig(limit));
        }
        if segments.recut(proven) || longest <= limit {
            if let Some((peer, mut outlet)) = self.outlet(index, now) {
                seal_all((peer, &mut outlet), &segments, (proven, now), transmit);
                self.counters.moved += u64::try_from(segments.count()).unwrap_or(0);
            }
            return;
        }
        if segments.is_whole() {
            let lost = u64::try_from(segments.count()).unwrap_or(0);
            return self.counters.count(DropReason::PacketTooBig, lost);
        }
        let mut packet = Vec::new();
        for number in 0..segments.count() {
            packet.resize(segments.len_of(number), 0);
            segments.write(number, Checksums::Complete, &mut packet);
            if let Some((peer, mut outlet)) = self.outlet(index, now) {
                self.counters.moved +=
                    fragment((peer, &mut outlet), &packet, (proven, now), transmit);
            }
        }
    }

    /// The session may use another path than before, or is new.
    pub(super) fn follow_path(&mut self, index: PeerIdx, now: Instant) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if let Some(route) = peer.link.filter(|_| peer.session.is_established(now))
            && !peer.mtu.is_about(route)
        {
            peer.mtu.follow(route, self.rng.random(), now);
        }
    }

    /// Sends the probes that are due.
    pub(super) fn drive_mtu(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let sent = self.micros(now);
        self.follow_path(index, now);
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let route = peer.link.filter(|_| peer.session.is_established(now));
        let Some(route) = route.filter(|route| peer.mtu.is_about(*route)) else {
            return peer.mtu.forget();
        };
        if !peer.mtu.handle_timeout(now) {
            return;
        }
        let probes: Vec<_> = peer.mtu.probes().collect();
        for (id, size) in probes {
            let Some((peer, mut outlet)) = self.outlet_by((index, route), now) else {
                break;
            };
            // What follows the message is padding to whoever reads it, so that every version answers.
            let mut probe = Carrier::Ping { id, sent }.encode();
            probe.resize(size, 0);
            let seal = Seal::new(&probe, size, now);
            seal.into_train((peer, &mut outlet), transmit, |place| {
                place.copy_from_slice(&probe);
            });
        }
        self.after_traffic(index, now, transmit);
    }

    /// Takes the answer to a probe; false if it is to a ping that somebody asked for.
    pub(super) fn on_probe_answered(
        &mut self,
        (index, id): (PeerIdx, u64),
        rtt: Duration,
        now: Instant,
    ) -> bool {
        let answered = self
            .peers
            .get_mut(index)
            .is_some_and(|peer| peer.mtu.answered(id, rtt, now));
        if answered {
            self.schedule(index);
        }
        answered
    }
}

/// Who says that a packet is too big: the far end of the path, as in traceroute. Our own address would not do, for a system
/// takes no packet from itself off a wire.
fn router_of(peer: &Peer, destination: IpAddr) -> IpAddr {
    let alike = |address: &&IpAddr| address.is_ipv4() == destination.is_ipv4();
    let address = peer.entry.virtual_ips.iter().find(alike);
    address.copied().unwrap_or(destination)
}

/// Seals a packet in pieces; returns how many.
fn fragment(
    (peer, outlet): (&mut Peer, &mut Outlet<'_>),
    packet: &[u8],
    (mtu, now): (usize, Instant),
    transmit: &mut TransmitQueue,
) -> u64 {
    let pieces = IpHeader::parse(packet).and_then(|ip| Fragments::new(packet, &ip, mtu));
    let Some(pieces) = pieces else {
        return 0;
    };
    for index in 0..pieces.count() {
        let len = pieces.len_of(index);
        peer.traffic.sent(len);
        let seal = Seal::new(packet, mtu, now).part(len);
        seal.into_train((peer, outlet), transmit, |place| pieces.write(index, place));
    }
    u64::try_from(pieces.count()).unwrap_or(0)
}
