//! TUN -> UDP: look up the owner of the destination, then cut each packet of the frame straight into the train of
//! datagrams for the owner's path and seal it there.

use std::{net::IpAddr, time::Instant};

use mesh_wire::{carrier::is_carrier, wireguard::DATA_HEADER};

use super::{
    Node,
    event::{DropReason, Event},
    outlet::Outlet,
};
use crate::{
    lan::{
        congestion::mark,
        errors::Reason,
        segment::{Checksums, Segments},
    },
    peer::{Peer, table::PeerIdx},
    queue::{ecn::Ecn, transmit::TransmitQueue},
    wireguard::keypair::{OVERHEAD, PADDING},
};

impl Node {
    /// One read from the TUN: a `virtio_net_hdr` of 10 bytes and an IP packet or super-packet. The frame is only
    /// borrowed; an open checksum is finished in place.
    pub fn handle_tun(&mut self, frame: &mut [u8], now: Instant, transmit: &mut TransmitQueue) {
        let Ok(mut segments) = Segments::parse(frame) else {
            return self.counters.count(DropReason::MalformedPacket, 1);
        };
        let Some(index) = self.lan.owner(segments.ip().destination) else {
            return self.seek(&segments, now);
        };
        match self.outlet(index, now) {
            Some((peer, mut outlet)) => {
                if segments.is_syn() {
                    segments.clamp(peer.mtu.limit());
                }
                let (longest, mtu) = (segments.len_of(0), peer.mtu.proven());
                let is_timed = peer.mtu.sent(longest, now);
                if longest > mtu {
                    self.send_long(index, segments, now, transmit);
                } else {
                    seal_all((peer, &mut outlet), &segments, (mtu, now), transmit);
                    self.counters.moved += u64::try_from(segments.count()).unwrap_or(0);
                }
                if is_timed {
                    self.schedule(index);
                }
                self.after_traffic(index, now, transmit);
            }
            None => self.keep(index, &segments, now, transmit),
        }
    }

    /// Asks who owns the destination, and keeps the first packet meanwhile. When we have been told that nobody does, the sender is
    /// told too: its program need not wait until it gives up by itself.
    fn seek(&mut self, segments: &Segments<'_>, now: Instant) {
        self.counters.count(DropReason::NoSuchDestination, 1);
        let address = segments.ip().destination;
        let is_broadcast = match address {
            IpAddr::V4(v4) => v4.is_broadcast() || address == self.local.cidr.broadcast(),
            IpAddr::V6(_) => false,
        };
        if address.is_multicast() || is_broadcast || segments.count() == 0 {
            return;
        }
        let first = || {
            let mut packet = vec![0; segments.len_of(0)];
            segments.write(0, Checksums::Complete, &mut packet);
            packet
        };
        if self.lan.strangers.want(address, now, first) {
            self.events.push_back(Event::Sought { address });
        }
        if self.lan.strangers.is_nobody(address, now) {
            self.lan
                .messages
                .tell(&first(), address, Reason::NoSuchHost);
        }
    }

    /// Seals one inner packet for a peer, or keeps it and starts connecting.
    pub(super) fn send_inner(
        &mut self,
        index: PeerIdx,
        packet: &[u8],
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        match self.outlet(index, now) {
            Some((peer, mut outlet)) => {
                let seal = Seal::new(packet, peer.mtu.proven(), now);
                seal.into_train((peer, &mut outlet), transmit, |place| {
                    place.copy_from_slice(packet);
                });
                self.after_traffic(index, now, transmit);
            }
            None => {
                let Some(peer) = self.peers.get_mut(index) else {
                    return;
                };
                let dropped = peer.pending.push(packet.to_vec());
                self.counters.count(DropReason::Unreachable, dropped);
                self.ask_for_session(index, now, transmit);
            }
        }
    }

    /// Keeps the packets of a frame until there is a session.
    fn keep(
        &mut self,
        index: PeerIdx,
        segments: &Segments<'_>,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        for number in 0..segments.count() {
            let mut packet = vec![0; segments.len_of(number)];
            segments.write(number, Checksums::Complete, &mut packet);
            let dropped = peer.pending.push(packet);
            self.counters.count(DropReason::Unreachable, dropped);
        }
        self.ask_for_session(index, now, transmit);
    }

    fn ask_for_session(&mut self, index: PeerIdx, now: Instant, transmit: &mut TransmitQueue) {
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        let dials = peer.state.may_dial(now);
        if dials {
            self.dial(index, now);
        }
        self.is_stranded(index);
        if self.ride(index, now) || !dials {
            self.nudge(index, now, transmit);
        }
    }

    /// Sends what waited for the session; returns whether there was anything.
    pub(super) fn flush_pending(
        &mut self,
        index: PeerIdx,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) -> bool {
        let mut sent = false;
        while let Some((peer, mut outlet)) = self.outlet(index, now)
            && let Some(packet) = peer.pending.pop()
        {
            if !is_carrier(&packet) {
                peer.traffic.sent(packet.len());
            }
            let seal = Seal::new(&packet, peer.mtu.proven(), now);
            seal.into_train((peer, &mut outlet), transmit, |place| {
                place.copy_from_slice(&packet);
            });
            sent = true;
        }
        sent
    }
}

/// Seals each packet of a frame; `mtu` is what the path is known to carry.
pub(super) fn seal_all(
    (peer, outlet): (&mut Peer, &mut Outlet<'_>),
    segments: &Segments<'_>,
    (mtu, now): (usize, Instant),
    transmit: &mut TransmitQueue,
) {
    let ecn = segments.mark();
    let checksums = match peer.session.leaves_checksums_open() {
        true => Checksums::Open,
        false => Checksums::Complete,
    };
    for number in 0..segments.count() {
        let len = segments.len_of(number);
        peer.traffic.sent(len);
        let seal = Seal { len, ecn, mtu, now };
        seal.into_train((peer, outlet), transmit, |place| {
            segments.write(number, checksums, place);
        });
    }
}

/// One packet that is about to be sealed.
pub(super) struct Seal {
    len: usize,
    /// Of the inner packet; the outer one shows the same (RFC 6040).
    ecn: Ecn,
    mtu: usize,
    now: Instant,
}

impl Seal {
    /// All of `packet`, on a path that is known to carry `mtu` bytes.
    pub(super) fn new(packet: &[u8], mtu: usize, now: Instant) -> Self {
        Self {
            len: packet.len(),
            ecn: mark(packet),
            mtu,
            now,
        }
    }

    /// A part of the packet, `len` bytes long.
    pub(super) fn part(self, len: usize) -> Self {
        Self { len, ..self }
    }

    /// Lets `write` put the packet where it will be sealed, in the train of the peer's path.
    pub(super) fn into_train(
        self,
        (peer, outlet): (&mut Peer, &mut Outlet<'_>),
        transmit: &mut TransmitQueue,
        write: impl FnOnce(&mut [u8]),
    ) {
        let Self { len, ecn, mtu, now } = self;
        // Never longer than a full packet would be: the path is known to carry those.
        let padded = len.next_multiple_of(PADDING).min(mtu.max(len));
        outlet.push((ecn, padded + OVERHEAD, now), transmit, |buffer| {
            write(&mut buffer[DATA_HEADER..DATA_HEADER + len]);
            peer.session.seal(buffer, (len, padded), now)
        });
        peer.traffic.last_tx = Some(now);
    }
}
