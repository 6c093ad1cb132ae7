//! What does one allocation hold: its permissions, its channels, its end?
//!
//! Pure; the caller tells the time. `S` is what its relayed socket is to the caller.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use stun_types::message::TransactionId;

use super::credential::Holder;

/// RFC 8656 section 9.
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// RFC 8656 section 12.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// An allocation's lifetime when none is asked for.
const DEFAULT_LIFETIME: u32 = 600;

/// The longest that is granted.
const MAX_LIFETIME: u32 = 3_600;

/// Permissions of one allocation, and channels: the peers that a member reaches through the relay at once. More than the
/// candidates of 50 peers.
pub(super) const MAX_PEERS: usize = 256;

/// Why a channel is not bound or a permission not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The channel is another peer's, or the peer has another channel.
    Conflict,
    /// There are too many.
    Full,
}

impl Denied {
    /// What the client is told.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Conflict => 400,
            Self::Full => 508,
        }
    }
}

/// The lifetime to grant, in seconds, when this one is asked for with a credential that holds for `left` seconds more:
/// without a new one it ends with that.
pub(super) fn lifetime(asked: Option<u32>, left: u64) -> u32 {
    let longest = u32::try_from(left).unwrap_or(MAX_LIFETIME);
    asked
        .unwrap_or(DEFAULT_LIFETIME)
        .clamp(DEFAULT_LIFETIME, MAX_LIFETIME)
        .min(longest)
}

/// One allocation.
#[derive(Debug)]
pub(super) struct Allocation<S> {
    /// Tells it from an earlier one of the same client.
    pub(super) id: u64,
    /// Whose credential was shown last.
    pub(super) holder: Holder,
    /// The request that made it: its repetition gets the same answer.
    pub(super) made_by: TransactionId,
    /// What the client was told.
    pub(super) relayed: SocketAddr,
    pub(super) expires: Instant,
    /// When anything last came from the client.
    pub(super) heard: Instant,
    pub(super) socket: S,
    permissions: HashMap<IpAddr, Instant>,
    channels: HashMap<u16, (SocketAddr, Instant)>,
    by_peer: HashMap<SocketAddr, u16>,
}

impl<S> Allocation<S> {
    /// Without permissions and channels; expires `seconds` after `now`.
    pub(super) fn new(
        (id, made_by): (u64, TransactionId),
        holder: Holder,
        (socket, relayed): (S, SocketAddr),
        seconds: u32,
        now: Instant,
    ) -> Self {
        Self {
            id,
            holder,
            made_by,
            relayed,
            expires: now + Duration::from_secs(seconds.into()),
            heard: now,
            socket,
            permissions: HashMap::new(),
            channels: HashMap::new(),
            by_peer: HashMap::new(),
        }
    }

    /// Whether a peer at this address may be sent to and heard.
    pub(super) fn permits(&self, peer: IpAddr, now: Instant) -> bool {
        self.permissions.get(&peer).is_some_and(|end| now < *end)
    }

    /// Installs or refreshes permissions; all of them or none.
    pub(super) fn permit(
        &mut self,
        peers: impl Iterator<Item = IpAddr> + Clone,
        now: Instant,
    ) -> Result<(), Denied> {
        self.permissions.retain(|_, end| now < *end);
        let mut new: Vec<IpAddr> = peers
            .clone()
            .filter(|ip| !self.permissions.contains_key(ip))
            .collect();
        new.sort();
        new.dedup();
        if self.permissions.len() + new.len() > MAX_PEERS {
            return Err(Denied::Full);
        }
        for peer in peers {
            self.permissions.insert(peer, now + PERMISSION_LIFETIME);
        }
        Ok(())
    }

    /// Binds or refreshes a channel, and its peer's permission.
    pub(super) fn bind(
        &mut self,
        channel: u16,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<(), Denied> {
        self.drop_expired_channels(now);
        let bound = self.channels.get(&channel).map(|(peer, _)| *peer);
        let same = bound == Some(peer);
        if !same && (bound.is_some() || self.by_peer.contains_key(&peer)) {
            return Err(Denied::Conflict);
        }
        if !same && self.channels.len() >= MAX_PEERS {
            return Err(Denied::Full);
        }
        self.permit(std::iter::once(peer.ip()), now)?;
        self.channels
            .insert(channel, (peer, now + CHANNEL_LIFETIME));
        self.by_peer.insert(peer, channel);
        Ok(())
    }

    /// The peer that a channel is bound to.
    pub(super) fn peer_of(&self, channel: u16, now: Instant) -> Option<SocketAddr> {
        let (peer, end) = self.channels.get(&channel)?;
        (now < *end).then_some(*peer)
    }

    /// The channel that is bound to a peer.
    pub(super) fn channel_of(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let channel = *self.by_peer.get(&peer)?;
        self.peer_of(channel, now).map(|_| channel)
    }

    fn drop_expired_channels(&mut self, now: Instant) {
        self.channels.retain(|_, (_, end)| now < *end);
        let channels = &self.channels;
        self.by_peer
            .retain(|_, channel| channels.contains_key(channel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_wire::NodeId;

    fn allocation(now: Instant) -> Allocation<()> {
        let holder = Holder {
            generation: 0,
            node: NodeId::from_bytes([1; 32]),
            expires_at: 0,
        };
        let relayed = "198.51.100.2:50000".parse().unwrap();
        let request = (1, TransactionId::generate());
        Allocation::new(request, holder, ((), relayed), 600, now)
    }

    fn peer(number: u16) -> SocketAddr {
        let [a, b] = number.to_be_bytes();
        SocketAddr::from(([203, 0, a, b], 5_000))
    }

    #[test]
    fn lifetimes_are_between_ten_minutes_and_an_hour_and_end_with_the_credential() {
        for (asked, left, granted) in [
            (None, 3_600, 600),
            (Some(0), 3_600, 600),
            (Some(1), 3_600, 600),
            (Some(777), 3_600, 777),
            (Some(u32::MAX), u64::MAX, 3_600),
            (None, 17, 17),
            (Some(u32::MAX), 1, 1),
        ] {
            assert_eq!(lifetime(asked, left), granted);
        }
    }

    #[test]
    fn a_permission_holds_for_five_minutes_and_is_refreshed() {
        let start = Instant::now();
        let mut allocation = allocation(start);
        let ip = peer(1).ip();
        let at = |seconds| start + Duration::from_secs(seconds);
        allocation.permit([ip].into_iter(), start).unwrap();
        assert!(allocation.permits(ip, at(299)) && !allocation.permits(ip, at(300)));
        assert!(!allocation.permits(peer(2).ip(), start));
        allocation.permit([ip].into_iter(), at(200)).unwrap();
        assert!(allocation.permits(ip, at(499)) && !allocation.permits(ip, at(500)));
    }

    #[test]
    fn permissions_are_bounded_and_expired_ones_make_room() {
        let start = Instant::now();
        let mut allocation = allocation(start);
        let all = |from: u16| (from..from + 256).map(|n| peer(n).ip());
        allocation.permit(all(0), start).unwrap();
        // Those it has are refreshed, one more is not.
        allocation.permit(all(0), start).unwrap();
        assert_eq!(allocation.permit(all(1), start), Err(Denied::Full));
        assert!(!allocation.permits(peer(256).ip(), start));
        let later = start + PERMISSION_LIFETIME;
        allocation.permit(all(1), later).unwrap();
        assert!(allocation.permits(peer(256).ip(), later));
    }

    #[test]
    fn a_channel_is_one_peers_for_ten_minutes_and_a_peer_has_one() {
        let start = Instant::now();
        let mut allocation = allocation(start);
        allocation.bind(0x4000, peer(1), start).unwrap();
        allocation.bind(0x4000, peer(1), start).unwrap();
        let conflict = Err(Denied::Conflict);
        assert_eq!(allocation.bind(0x4000, peer(2), start), conflict);
        assert_eq!(allocation.bind(0x4001, peer(1), start), conflict);
        assert!(allocation.permits(peer(1).ip(), start));
        assert_eq!(allocation.channel_of(peer(1), start), Some(0x4000));
        let end = start + CHANNEL_LIFETIME;
        assert_eq!(allocation.peer_of(0x4000, end), None);
        assert_eq!(allocation.channel_of(peer(1), end), None);
        allocation.bind(0x4000, peer(2), end).unwrap();
        allocation.bind(0x4001, peer(1), end).unwrap();
        assert_eq!(allocation.channel_of(peer(1), end), Some(0x4001));
    }

    #[test]
    fn channels_are_bounded() {
        let start = Instant::now();
        let mut allocation = allocation(start);
        for number in 0..256 {
            allocation
                .bind(0x4000 + number, peer(number), start)
                .unwrap();
        }
        let full = Err(Denied::Full);
        assert_eq!(allocation.bind(0x4F00, peer(300), start), full);
    }
}
