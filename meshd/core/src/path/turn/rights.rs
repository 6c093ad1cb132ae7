//! From whom does an allocation let packets in, and behind which channels are peers? (RFC 8656 sections 9 and 12)
//!
//! Both are granted for a while, are renewed while somebody needs them, and lapse otherwise.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use rand::Rng;

use super::{exchange::Exchange, message::Request};
use crate::{path::stun_index::TransactionId, peer::table::PeerIdx};

/// RFC 8656 section 9: a permission lasts 5 minutes, a channel 10 (section 12).
const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);
/// What is needed is renewed this long before it would end: time for all copies of a request, and to spare.
const MARGIN: Duration = Duration::from_secs(60);
/// For so long after its end a channel stands for nobody else, and its peer has no other (RFC 8656 section 12).
const FALLOW: Duration = Duration::from_secs(300);
/// What was asked for this recently is still needed, though no packet goes there yet.
const FRESH: Duration = Duration::from_secs(60);
/// What a server refused is not asked for again before this.
const SULK: Duration = Duration::from_secs(60);
/// Permissions, and channels, of one allocation: our own server has 256 of each.
const MOST: usize = 200;
/// Of these, those that one peer brings about, by the addresses that it names and by the ports that its checks come from. One
/// has a handful of addresses, and a new port for each of its moves within a channel's quarter of an hour.
const SHARE: usize = 20;
/// Channel numbers of RFC 8656 section 12.
const FIRST_CHANNEL: u16 = 0x4000;
const LAST_CHANNEL: u16 = 0x4FFF;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    Permission(IpAddr),
    Channel(NonZeroU16),
}

#[derive(Debug)]
struct Lease {
    /// Who brought it about, as long as that is a peer of ours: another one gets its place.
    owner: Option<PeerIdx>,
    exchange: Option<Exchange>,
    /// Until when it is granted.
    until: Option<Instant>,
    /// When it is renewed, or forgotten.
    review: Instant,
    /// When it was last asked for.
    wanted: Instant,
    /// The server has refused it, or was silent, and has not granted it since.
    refused: bool,
}

/// All permissions and channels of an allocation.
#[derive(Debug, Default)]
pub(super) struct Rights {
    leases: BTreeMap<Right, Lease>,
    peers: BTreeMap<NonZeroU16, SocketAddr>,
    /// Channels that were given out so far.
    given: u16,
    due: Option<Instant>,
}

impl Rights {
    /// Packets from `ip`, where `owner` says to be, shall come through.
    pub(super) fn permit(
        &mut self,
        (ip, owner): (IpAddr, PeerIdx),
        rng: &mut impl Rng,
        now: Instant,
    ) {
        self.want((Right::Permission(ip), owner), rng, now);
    }

    /// The channel of `peer`, which is bound if it is not yet. `None` if there are too many, or too many of `owner`, or the
    /// server has refused it: what goes through such a channel is lost.
    pub(super) fn bind(
        &mut self,
        (peer, owner): (SocketAddr, PeerIdx),
        rng: &mut impl Rng,
        now: Instant,
    ) -> Option<NonZeroU16> {
        let channel = match self.channel_of(peer) {
            Some(channel) => channel,
            None => self.new_channel((peer, owner))?,
        };
        let right = Right::Channel(channel);
        self.want((right, owner), rng, now);
        let lease = self.leases.get(&right)?;
        (!lease.refused).then_some(channel)
    }

    /// This peer is gone: what it brought about counts for nobody.
    pub(super) fn disown(&mut self, owner: PeerIdx) {
        let owned = self.leases.values_mut();
        for lease in owned.filter(|lease| lease.owner == Some(owner)) {
            lease.owner = None;
        }
    }

    /// The channel of `peer`, bound or not.
    pub(super) fn channel_of(&self, peer: SocketAddr) -> Option<NonZeroU16> {
        let mut channels = self.peers.iter();
        let found = channels.find(|(_, behind)| **behind == peer);
        found.map(|(channel, _)| *channel)
    }

    /// Who is behind a channel.
    pub(super) fn peer_of(&self, channel: NonZeroU16) -> Option<SocketAddr> {
        self.peers.get(&channel).copied()
    }

    /// Whether the server knows the channel.
    pub(super) fn is_bound(&self, channel: NonZeroU16, now: Instant) -> bool {
        let lease = self.leases.get(&Right::Channel(channel));
        lease.is_some_and(|lease| lease.until.is_some_and(|until| until > now))
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Gives the requests that are due to `ask`. `in_use` tells whether packets go through a channel.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        in_use: impl Fn(NonZeroU16) -> bool,
        mut ask: impl FnMut(Request, &TransactionId),
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut over = Vec::new();
        for (right, lease) in &mut self.leases {
            let used = match right {
                Right::Channel(channel) => in_use(*channel),
                Right::Permission(ip) => self
                    .peers
                    .iter()
                    .any(|(channel, peer)| peer.ip() == *ip && in_use(*channel)),
            };
            if !lease.review(*right, used, rng, now) {
                over.push(*right);
                continue;
            }
            let Some(exchange) = lease.exchange.as_mut().filter(|ask| ask.due() <= now) else {
                continue;
            };
            let request = match right {
                Right::Permission(ip) => Request::Permit(*ip),
                Right::Channel(channel) => match self.peers.get(channel) {
                    Some(peer) => Request::Bind(channel.get(), *peer),
                    None => continue,
                },
            };
            if exchange.send(now) {
                ask(request, &exchange.id);
            } else {
                // The server is silent; the refreshing of the allocation finds that out too.
                lease.refused(now);
            }
        }
        for right in over {
            self.leases.remove(&right);
            if let Right::Channel(channel) = right {
                self.peers.remove(&channel);
            }
        }
        self.set_due();
    }

    /// Whether the request with this id is one of these.
    pub(super) fn has_asked(&self, id: &TransactionId) -> bool {
        self.by_id(id).is_some()
    }

    /// What was asked for with this id is granted.
    pub(super) fn granted(&mut self, id: &TransactionId, now: Instant) {
        if let Some(right) = self.by_id(id)
            && let Some(lease) = self.leases.get_mut(&right)
        {
            let until = now + right.lifetime();
            lease.exchange = None;
            lease.refused = false;
            lease.until = Some(until);
            lease.review = until - MARGIN;
        }
        self.set_due();
    }

    /// It is not.
    pub(super) fn refused(&mut self, id: &TransactionId, now: Instant) {
        if let Some(right) = self.by_id(id)
            && let Some(lease) = self.leases.get_mut(&right)
        {
            lease.refused(now);
        }
        self.set_due();
    }

    /// All that is asked for is asked again, with a new nonce.
    pub(super) fn ask_again(&mut self, rng: &mut impl Rng, now: Instant) {
        for lease in self.leases.values_mut() {
            if lease.exchange.is_some() {
                lease.exchange = Some(Exchange::begin(rng, now));
            }
        }
        self.set_due();
    }

    fn want(&mut self, (right, owner): (Right, PeerIdx), rng: &mut impl Rng, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&right) {
            lease.wanted = now;
            if let Some(until) = lease.until {
                lease.review = lease.review.min(until - MARGIN).max(now);
            }
        } else if self.has_room(right, owner) {
            let lease = Lease {
                owner: Some(owner),
                exchange: Some(Exchange::begin(rng, now)),
                until: None,
                review: now,
                wanted: now,
                refused: false,
            };
            self.leases.insert(right, lease);
        }
        self.set_due();
    }

    /// Whether there may be one more like `right`, and one more that `owner` brings about.
    fn has_room(&self, right: Right, owner: PeerIdx) -> bool {
        let (mut all, mut own) = (0, 0);
        for (other, lease) in &self.leases {
            if right.is_like(*other) {
                all += 1;
                own += usize::from(lease.owner == Some(owner));
            }
        }
        all < MOST && own < SHARE
    }

    fn new_channel(&mut self, (peer, owner): (SocketAddr, PeerIdx)) -> Option<NonZeroU16> {
        if !self.has_room(Right::Channel(NonZeroU16::MIN), owner) {
            return None;
        }
        loop {
            let number = FIRST_CHANNEL + self.given % (LAST_CHANNEL - FIRST_CHANNEL + 1);
            self.given = self.given.wrapping_add(1);
            let channel = NonZeroU16::new(number)?;
            if let Entry::Vacant(place) = self.peers.entry(channel) {
                place.insert(peer);
                return Some(channel);
            }
        }
    }

    fn by_id(&self, id: &TransactionId) -> Option<Right> {
        let mut leases = self.leases.iter();
        let found = leases.find(|(_, lease)| lease.exchange.is_some_and(|asked| asked.id == *id));
        found.map(|(right, _)| *right)
    }

    fn set_due(&mut self) {
        self.due = self.leases.values().map(Lease::due).min();
    }
}

impl Right {
    fn is_like(self, other: Self) -> bool {
        match self {
            Self::Permission(_) => matches!(other, Self::Permission(_)),
            Self::Channel(_) => matches!(other, Self::Channel(_)),
        }
    }

    fn lifetime(self) -> Duration {
        match self {
            Self::Permission(_) => PERMISSION,
            Self::Channel(_) => CHANNEL,
        }
    }

    fn fallow(self) -> Duration {
        match self {
            Self::Permission(_) => Duration::ZERO,
            Self::Channel(_) => FALLOW,
        }
    }
}

impl Lease {
    fn due(&self) -> Instant {
        self.exchange.map_or(self.review, |asked| asked.due())
    }

    fn refused(&mut self, now: Instant) {
        self.exchange = None;
        self.until = None;
        self.refused = true;
        self.review = now + SULK;
    }

    /// Begins to renew it, lets it lapse, or leaves it; false if it is to be forgotten.
    fn review(&mut self, right: Right, used: bool, rng: &mut impl Rng, now: Instant) -> bool {
        if self.exchange.is_some() || self.review > now {
            return true;
        }
        if used || self.wanted + FRESH > now {
            self.exchange = Some(Exchange::begin(rng, now));
            return true;
        }
        let Some(until) = self.until else {
            return false;
        };
        let end = until + right.fallow();
        self.review = end;
        end > now
    }
}
