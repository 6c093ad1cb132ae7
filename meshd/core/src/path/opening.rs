//! When does the first check go to an address behind a NAT? Some NATs remember a packet that nobody inside asked for, and
//! then map our own packet to its sender to another port, which nobody knows: whoever is punched first is lost. So both
//! sides first open their own NAT with shots that die on the way, by their hop limit, and only then send RFC 8445's checks.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use is::Candidate;

/// The shots at one candidate: when, and with which hop limit. 2 passes one NAT, 3 and 4 also a second one with a hop
/// between. The nearer the peer, the farther a shot comes: those that might reach a neighbour of the same provider wait
/// until it has most likely fired its own.
const SHOTS: [(Duration, u8); 3] = [
    (Duration::ZERO, 2),
    (Duration::from_millis(30), 3),
    (Duration::from_millis(60), 4),
];
/// How long checks wait for the peer to hear of us, through the discovery server, and to fire its shots. Longer than two
/// ways around half the world. Most pairs never wait for it: the peer, once it has our answer, checks at once.
const PAUSE: Duration = Duration::from_millis(250);

/// A datagram that shall open our NAT towards `dst` and not reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// The peer's candidate.
    pub dst: SocketAddr,
    /// IPv4's TTL, IPv6's hop limit.
    pub hop_limit: u8,
}

#[derive(Debug)]
struct Held {
    candidate: Candidate,
    since: Instant,
    fired: usize,
}

impl Held {
    fn next_shot(&self) -> Option<Instant> {
        let (after, _) = SHOTS.get(self.fired)?;
        Some(self.since + *after)
    }

    fn release(&self) -> Instant {
        self.since + PAUSE
    }
}

/// Candidates of a peer that are shot at and not checked yet.
#[derive(Debug, Default)]
pub struct Opening {
    held: Vec<Held>,
}

impl Opening {
    /// Keeps a candidate back.
    pub fn hold(&mut self, candidate: Candidate, now: Instant) {
        self.held.push(Held {
            candidate,
            since: now,
            fired: 0,
        });
    }

    /// Whether a candidate of this address is kept back.
    pub fn holds(&self, address: SocketAddr) -> bool {
        self.held
            .iter()
            .any(|held| held.candidate.addr() == address)
    }

    /// What is kept back.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.held.iter().map(|held| held.candidate.addr())
    }

    /// When a shot or a release is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |held: &Held| held.next_shot().unwrap_or_else(|| held.release());
        self.held.iter().map(due).min()
    }

    /// The next shot that is due.
    pub fn poll_shot(&mut self, now: Instant) -> Option<Shot> {
        let held = self
            .held
            .iter_mut()
            .find(|held| held.next_shot().is_some_and(|at| at <= now))?;
        let (_, hop_limit) = SHOTS[held.fired];
        held.fired += 1;
        Some(Shot {
            dst: held.candidate.addr(),
            hop_limit,
        })
    }

    /// The candidates that have waited long enough.
    pub fn release_due(&mut self, now: Instant) -> Vec<Candidate> {
        self.release_if(|held| held.release() <= now)
    }

    /// All candidates: the peer has heard of us.
    pub fn release_all(&mut self) -> Vec<Candidate> {
        self.release_if(|_| true)
    }

    /// The candidate of this address: the peer speaks from there.
    pub fn release(&mut self, address: SocketAddr) -> Vec<Candidate> {
        self.release_if(|held| held.candidate.addr() == address)
    }

    fn release_if(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Candidate> {
        let released = self.held.extract_if(.., |held| which(held));
        released.map(|held| held.candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(last: u8) -> Candidate {
        let (seen, base) = (([203, 0, 113, last], 7081), ([192, 168, 1, 1], 7081));
        Candidate::server_reflexive(seen.into(), base.into(), "udp").unwrap()
    }

    #[test]
    fn shots_come_one_by_one_with_growing_hop_limits_and_the_candidate_after_them() {
        let start = Instant::now();
        let mut opening = Opening::default();
        opening.hold(candidate(1), start);
        let mut fired = Vec::new();
        while let Some(now) = opening.poll_timeout() {
            while let Some(shot) = opening.poll_shot(now) {
                assert_eq!(shot.dst, candidate(1).addr());
                fired.push(((now - start).as_millis(), shot.hop_limit));
            }
            for released in opening.release_due(now) {
                assert_eq!(released.addr(), candidate(1).addr());
                fired.push(((now - start).as_millis(), 0));
            }
        }
        assert_eq!(fired, [(0, 2), (30, 3), (60, 4), (250, 0)]);
    }

    #[test]
    fn a_candidate_that_the_peer_speaks_from_is_released_alone() {
        let now = Instant::now();
        let mut opening = Opening::default();
        for last in [1, 2, 3] {
            opening.hold(candidate(last), now);
        }
        let released = opening.release(candidate(2).addr());
        assert_eq!(released.len(), 1);
        assert!(!opening.holds(candidate(2).addr()) && opening.holds(candidate(3).addr()));
        assert_eq!(opening.release_all().len(), 2);
        assert_eq!(opening.poll_timeout(), None);
    }
}
