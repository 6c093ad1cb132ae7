//! What goes through a relayed address, and how? (RFC 8656 sections 10 to 12)

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    ops::Range,
    time::Instant,
};

use rand::Rng;

use super::{
    Contact, Turn,
    exchange::Exchange,
    message::{data_indication, is_data_indication, send_indication},
    stages::Stage,
};
use crate::{
    peer::table::PeerIdx,
    queue::transmit::{CHANNEL_HEADER, Route, TransmitQueue},
};

impl Turn {
    /// What a server relays: ChannelData, or a Data indication. From whom it is, and where it is in the datagram. `None`
    /// unless it comes from the server at which we have an address.
    pub fn unwrap(&self, from: Contact, datagram: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
        let allocation = self.allocation().filter(|ours| ours.server == from)?;
        if is_data_indication(datagram) {
            return data_indication(datagram);
        }
        let (&[a, b, c, d], data) = datagram.split_first_chunk()?;
        let channel = NonZeroU16::new(u16::from_be_bytes([a, b]))?;
        let length = usize::from(u16::from_be_bytes([c, d]));
        let peer = allocation.rights.peer_of(channel)?;
        (length <= data.len()).then_some((peer, CHANNEL_HEADER..CHANNEL_HEADER + length))
    }

    /// Lets packets through from an address that `owner` has named, if it is one that a public server can reach.
    pub fn permit(&mut self, (peer, owner): (IpAddr, PeerIdx), rng: &mut impl Rng, now: Instant) {
        if let Stage::Standing(allocation) = &mut self.stage
            && allocation.place.address.is_ipv4() == peer.is_ipv4()
            && !is_private(peer)
        {
            allocation.rights.permit((peer, owner), rng, now);
        }
    }

    /// A peer is gone, and another one may get its place.
    pub fn disown(&mut self, peer: PeerIdx) {
        if let Stage::Standing(allocation) = &mut self.stage {
            allocation.rights.disown(peer);
        }
    }

    /// The way to `peer`, where `owner` seems to be, by a channel that is bound if it is not yet.
    pub fn bind(
        &mut self,
        (peer, owner): (SocketAddr, PeerIdx),
        rng: &mut impl Rng,
        now: Instant,
    ) -> Option<Route> {
        let Stage::Standing(allocation) = &mut self.stage else {
            return None;
        };
        let channel = allocation.rights.bind((peer, owner), rng, now)?;
        Some(Route {
            channel: Some(channel),
            ..allocation.way()
        })
    }

    /// Whether what came from `peer` by way of our relayed address came by this route.
    pub fn leads_to(&self, route: Route, peer: SocketAddr) -> bool {
        let behind = |channel| self.allocation()?.rights.peer_of(channel);
        route.channel.and_then(behind) == Some(peer)
    }

    /// Sends a message to `peer` from the relayed address, which must have let it in.
    pub fn send(
        &self,
        (peer, message): (SocketAddr, &[u8]),
        rng: &mut impl Rng,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let Some(allocation) = self.allocation() else {
            return;
        };
        if is_private(peer.ip()) {
            return;
        }
        let channel = allocation.rights.channel_of(peer);
        match channel.filter(|channel| allocation.rights.is_bound(*channel, now)) {
            Some(_) => {
                let way = allocation.way();
                transmit.push(Route { channel, ..way }, message);
            }
            None => {
                let id = Exchange::begin(rng, now).id;
                let indication = send_indication(peer, message, &id);
                transmit.push(allocation.way(), &indication);
            }
        }
    }

    /// Sends a message on a route; where that has a channel that the server may not know yet, without it.
    pub fn send_on(
        &self,
        (route, message): (Route, &[u8]),
        rng: &mut impl Rng,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let peer = |channel| self.allocation()?.rights.peer_of(channel);
        match route.channel.and_then(peer) {
            Some(peer) => self.send((peer, message), rng, now, transmit),
            None => transmit.push(route, message),
        }
    }
}

/// Whether a public TURN server cannot reach it, or must not: private networks (RFC 1918, RFC 6598, RFC 4193). What is no
/// peer's address anyway is not among the peers' candidates.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || (a == 100 && b & 0xC0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}
