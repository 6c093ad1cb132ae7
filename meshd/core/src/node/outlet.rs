//! How does a sealed message leave: straight to the peer, or in a frame that a neighbour carries on?

use std::time::Instant;

use mesh_wire::relay::{RelayHeader, TAG};

use super::Node;
use crate::{
    peer::{Peer, table::PeerIdx},
    queue::{
        ecn::Ecn,
        transmit::{Route, TransmitQueue},
    },
    wireguard::keypair::OVERHEAD,
};

/// Where the sealed messages of one peer go.
pub(super) struct Outlet<'a> {
    route: Route,
    /// Around each message, where others carry it.
    frame: Option<Framing<'a>>,
}

struct Framing<'a> {
    header: RelayHeader,
    neighbour: &'a mut Peer,
}

impl Node {
    /// A peer whose session stands, and where its messages go. `None` if nobody knows.
    pub(super) fn outlet(
        &mut self,
        index: PeerIdx,
        now: Instant,
    ) -> Option<(&mut Peer, Outlet<'_>)> {
        let peer = self.peers.get(index)?;
        let link = peer.link.filter(|_| peer.session.is_established(now))?;
        self.outlet_by((index, link), now)
    }

    /// As [`Self::outlet`], by this route.
    pub(super) fn outlet_by(
        &mut self,
        (index, route): (PeerIdx, Route),
        now: Instant,
    ) -> Option<(&mut Peer, Outlet<'_>)> {
        if !route.is_over_mesh() {
            let peer = self.peers.get_mut(index)?;
            return Some((peer, Outlet { route, frame: None }));
        }
        let (next, header) = self.first_hop(route.dst.ip())?;
        let (peer, neighbour) = self.peers.pair_mut(index, next)?;
        let route = linked(neighbour, now)?;
        let frame = Some(Framing { header, neighbour });
        Some((peer, Outlet { route, frame }))
    }

    /// Sends an empty message: a sign of life, and the confirmation of new keys.
    pub(super) fn send_keepalive(
        &mut self,
        way: (PeerIdx, Route),
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        if let Some((peer, mut outlet)) = self.outlet_by(way, now) {
            let mark = Ecn::NotEct;
            outlet.push((mark, OVERHEAD, now), transmit, |buffer| {
                peer.session.seal(buffer, (0, 0), now)
            });
        }
    }

    /// Lays a message that is sealed already into a frame for this neighbour. Returns false where there is no session with it.
    pub(super) fn send_frame(
        &mut self,
        index: PeerIdx,
        (header, message): (&RelayHeader, &[u8]),
        (ecn, now): (Ecn, Instant),
        transmit: &mut TransmitQueue,
    ) -> bool {
        let neighbour = self.peers.get_mut(index);
        let Some((route, neighbour)) = neighbour.and_then(|peer| Some((linked(peer, now)?, peer)))
        else {
            return false;
        };
        let header = *header;
        let mut outlet = Outlet {
            route,
            frame: Some(Framing { header, neighbour }),
        };
        outlet.push((ecn, message.len(), now), transmit, |place| {
            place.copy_from_slice(message);
            message.len()
        });
        self.counters.moved += 1;
        true
    }
}

impl Outlet<'_> {
    /// Lets `seal` write one message of `len` bytes; nothing leaves if it returns 0.
    pub(super) fn push(
        &mut self,
        (ecn, len, now): (Ecn, usize, Instant),
        transmit: &mut TransmitQueue,
        seal: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let Some(Framing { header, neighbour }) = &mut self.frame else {
            return transmit.push_marked_with((self.route, ecn), len, seal);
        };
        let (head, framed) = (header.head_len(), header.frame_len(len));
        transmit.push_marked_with((self.route, ecn), framed, |out| {
            let sealed = seal(&mut out[head..head + len]);
            let tag = header
                .write_head(sealed, out)
                .and_then(|covered| neighbour.session.tag_frame(&out[..covered], now));
            let Some(tag) = tag else { return 0 };
            out[head + sealed..head + sealed + TAG].copy_from_slice(&tag.encode());
            head + sealed + TAG
        });
        neighbour.traffic.carried(framed, now);
    }
}

/// The straight way to a neighbour whose session stands.
fn linked(neighbour: &Peer, now: Instant) -> Option<Route> {
    let link = neighbour.link.filter(|link| !link.is_over_mesh())?;
    neighbour.session.is_established(now).then_some(link)
}
