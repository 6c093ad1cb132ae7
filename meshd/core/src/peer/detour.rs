//! When does a peer that is reached by way of a TURN server or of neighbours get a better path, and when must a direct one give way?

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::honesty::Honesty;
use crate::{path::vigil::PATIENCE, queue::transmit::Route};

/// Pauses between attempts to find a direct path: the first, and the longest, which is how late one is found that has
/// become possible. They double.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A path that is lost twice within this time lets checks pass, and nothing else.
const AGAIN: Duration = Duration::from_secs(30);
/// Without packets for the peer a better path is of no use.
const RECENT: Duration = Duration::from_secs(120);
/// Addresses at TURN servers that are kept of one peer: two servers, both IP versions.
const MAX_RELAYS: usize = 4;

/// What is known of the paths to a peer by way of TURN servers.
#[derive(Debug, Default)]
pub struct Detour {
    relays: Vec<SocketAddr>,
    /// When the link that is in use was last proven.
    proven: Option<Instant>,
    retry: Option<Instant>,
    attempts: u32,
    /// When a path of its own was last lost for one over neighbours.
    lost: Option<Instant>,
    /// Whether the paths carry what they are given.
    pub honesty: Honesty,
}

impl Detour {
    /// The peer's addresses at TURN servers, as it last named them.
    pub fn named(&mut self, relays: &[SocketAddr]) {
        let newest = relays.len().saturating_sub(MAX_RELAYS);
        self.relays.clear();
        self.relays.extend_from_slice(&relays[newest..]);
    }

    /// The newest of the peer's addresses at TURN servers.
    pub fn relay(&self) -> Option<SocketAddr> {
        self.relays.last().copied()
    }

    /// Whether what goes this way goes by way of a TURN server, ours or the peer's, or over neighbours.
    pub fn is_on(&self, route: Route) -> bool {
        route.channel.is_some() || route.is_over_mesh() || self.is_relay(route.dst)
    }

    /// Whether this is an address of the peer at a TURN server.
    pub fn is_relay(&self, address: SocketAddr) -> bool {
        self.relays.contains(&address)
    }

    /// The peer was heard on the link that is in use, or a check of it was answered.
    pub fn proven(&mut self, now: Instant) {
        self.proven = Some(now);
    }

    /// Whether an authentic message that came another way than by `link` moves the link there. What came by way of a TURN
    /// server does not while the link stands: it was on its way when the link became direct, or both sides have an address
    /// there, and would follow each other from one to the other. What came directly does not while direct paths are avoided.
    pub fn may_replace(&self, link: Route, by_relay: bool, now: Instant) -> bool {
        let proven = self.proven.is_some_and(|at| now < at + PATIENCE);
        match (self.is_on(link), by_relay) {
            (_, true) => !proven,
            (true, false) => !self.honesty.is_avoided(),
            (false, false) => true,
        }
    }

    /// Whether a link is to be kept, if it works, though another path has been found.
    pub fn keeps(&self, link: Option<Route>) -> bool {
        self.honesty.is_avoided() && link.is_some_and(|link| self.is_on(link))
    }

    /// Notes that the path is lost; returns whether one was a moment ago as well, though it had been found again.
    pub fn take_lost(&mut self, now: Instant) -> bool {
        let before = self.lost.replace(now);
        before.is_some_and(|at| now < at + AGAIN)
    }

    /// The link is this one now.
    pub fn moved(&mut self, link: Route, now: Instant) {
        self.proven = Some(now);
        if !self.is_on(link) {
            self.retry = None;
            self.attempts = 0;
        } else if self.retry.is_none() {
            self.attempts = self.honesty.strikes();
            self.retry = Some(now + (FIRST_PAUSE * (1 << self.attempts)).min(LONGEST_PAUSE));
        }
    }

    /// When a direct path is to be looked for again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry
    }

    /// Whether it is looked for now, given when the last packet for the peer was sent; plans the next time.
    pub fn take_retry(&mut self, last_tx: Option<Instant>, now: Instant) -> bool {
        if self.retry.is_none_or(|at| at > now) {
            return false;
        }
        self.attempts += 1;
        let pause = FIRST_PAUSE * (1 << self.attempts.min(4));
        self.retry = Some(now + pause.min(LONGEST_PAUSE));
        last_tx.is_some_and(|at| now < at + RECENT)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn at(last: u8) -> SocketAddr {
        ([198, 51, 100, last], 7081).into()
    }

    #[test]
    fn a_link_by_a_channel_or_to_a_relay_of_the_peer_is_a_detour() {
        let mut detour = Detour::default();
        detour.named(&[1, 2, 3, 4, 5].map(at));
        assert!(detour.is_on(Route::to(at(5))));
        assert!(!detour.is_on(Route::to(at(1))), "only the newest are kept");
        let behind = Route {
            channel: NonZeroU16::new(0x4000),
            ..Route::to(at(9))
        };
        assert!(detour.is_on(behind));
        assert!(!detour.is_on(Route::to(at(9))));
    }

    #[test]
    fn a_direct_link_gives_way_once_it_was_silent_for_a_while() {
        let (mut detour, now) = (Detour::default(), Instant::now());
        let direct = Route::to(at(1));
        detour.moved(direct, now);
        assert!(!detour.may_replace(direct, true, now + PATIENCE / 2));
        detour.proven(now + PATIENCE / 2);
        assert!(!detour.may_replace(direct, true, now + PATIENCE));
        assert!(detour.may_replace(direct, true, now + 2 * PATIENCE));
    }

    #[test]
    fn a_direct_path_is_looked_for_again_ever_more_seldom_and_while_there_are_packets_only() {
        let (mut detour, now) = (Detour::default(), Instant::now());
        detour.named(&[at(1)]);
        detour.moved(Route::to(at(1)), now);
        let mut at_seconds = Vec::new();
        for second in 0..200 {
            let then = now + Duration::from_secs(second);
            if detour.take_retry(Some(now), then) {
                at_seconds.push(second);
            }
        }
        assert_eq!(at_seconds, [10, 30, 70]);
        detour.moved(Route::to(at(2)), now);
        assert_eq!(detour.retry_at(), None);
    }
}
