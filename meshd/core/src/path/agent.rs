//! Which pair of addresses connects us with one peer? A thin skin over the `is` crate's ICE agent (RFC 8445, trickled
//! as in RFC 8838): seeded credentials, limits on what a peer may make us check, our own words for what comes out.

mod birthday;
mod remote;
mod round_trip;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use is::{
    Candidate, CandidateKind, IceAgent, IceAgentEvent, IceCreds, Protocol,
    stun::{StunMessage, StunPacket},
};
use mesh_wire::signal::{MAX_CANDIDATES, Signal};
use rand::Rng;

use self::round_trip::RoundTrip;
use super::{
    gather::Gatherer,
    opening::{Opening, Shot},
    turn::Relayed,
    vigil::Vigil,
};

/// Fast enough for a hole to be punched within a second over any sane path.
const INITIAL_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_millis(1500);
/// Pause between checks (Ta of RFC 8445 section 14, which allows 5 ms and recommends 50): a pair of ordinary hosts has
/// some ten pairs to check, and all of them shall have been tried in a quarter of a second.
const PACING: Duration = Duration::from_millis(20);
/// Checks without an answer after which a pair that worked is given up: by the crate's schedule some 9 s.
const LAST_CHECKS: usize = 7;
/// Characters of RFC 8839's `ice-char`.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// News from an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentEvent {
    /// Send from the first address, one of ours or a relayed one, to the second from now on.
    Nominated(SocketAddr, SocketAddr),
    /// No pair answers any more.
    Disconnected,
}

/// Which of our addresses an agent offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Any,
    /// Those at TURN servers, so that no path that it finds is direct.
    Relayed,
}

/// The ICE agent for one peer.
pub struct Agent {
    ice: IceAgent,
    scope: Scope,
    remote_ufrag: Option<String>,
    remote_count: usize,
    /// Those of the peer's addresses that are at TURN servers.
    remote_relays: Vec<SocketAddr>,
    /// Absent where a datagram cannot have a hop limit of its own.
    opening: Option<Opening>,
    /// The first signal named all that servers see of us. Of what became known later an answer of the peer does not say
    /// whether it has heard.
    whole_offer: bool,
    vigil: Vigil,
    round_trip: RoundTrip,
}

impl Agent {
    /// An agent with fresh credentials. Of two peers exactly one is `controlling`. Whether it may send `shots` is up to
    /// the operating system.
    pub fn new(
        (controlling, scope): (bool, Scope),
        shots: bool,
        rng: &mut impl Rng,
        now: Instant,
    ) -> Self {
        let creds = IceCreds {
            ufrag: ice_text(rng, 8),
            pass: ice_text(rng, 24),
        };
        let mut ice = IceAgent::new(creds);
        ice.set_controlling(controlling);
        ice.set_control_tie_breaker(rng.next_u64());
        ice.set_initial_stun_rto(INITIAL_RTO);
        ice.set_max_stun_rto(MAX_RTO);
        ice.set_timing_advance(PACING);
        ice.handle_timeout(now);
        Self {
            ice,
            scope,
            remote_ufrag: None,
            remote_count: 0,
            remote_relays: Vec::new(),
            opening: shots.then(Opening::default),
            whole_offer: false,
            vigil: Vigil::new(now),
            round_trip: RoundTrip::default(),
        }
    }

    /// Offers every address that the gatherer knows; returns whether one was new.
    pub fn add_local(&mut self, gatherer: &Gatherer, now: Instant) -> bool {
        let hosts = gatherer
            .hosts()
            .iter()
            .map(|host| Candidate::host(*host, "udp"));
        let reflexive = gatherer
            .translated()
            .into_iter()
            .filter(|r| r.mapped != r.base)
            .map(|r| Candidate::server_reflexive(r.mapped, r.base, "udp"));
        let relayed = gatherer
            .relayed()
            .map(|r| Candidate::relayed(r.address, r.base, "udp"));
        let first = self.ice.local_candidates().next().is_none();
        let mut news = false;
        let (scope, is_relayed) = (self.scope, |c: &Candidate| {
            c.kind() == CandidateKind::Relayed
        });
        let offered = |candidate: &Candidate| scope == Scope::Any || is_relayed(candidate);
        let all = hosts.chain(reflexive).chain(relayed).flatten();
        for candidate in all.filter(offered) {
            let known = self
                .ice
                .local_candidates()
                .any(|c| c.addr() == candidate.addr() && c.kind() == candidate.kind());
            news |= !known && self.ice.add_local_candidate(candidate).is_some();
        }
        let whole = if first {
            !gatherer.reflexive().is_empty()
        } else {
            !news
        };
        self.whole_offer = whole && (first || self.whole_offer);
        if news {
            self.vigil.settle(now);
        }
        news
    }

    /// A relayed address is ours no more.
    pub fn forget_relayed(&mut self, relayed: Relayed) {
        if let Ok(candidate) = Candidate::relayed(relayed.address, relayed.base, "udp") {
            self.ice.invalidate_candidate(&candidate);
        }
    }

    /// What the peer must know of us.
    pub fn signal(&self) -> Signal {
        let creds = self.ice.local_credentials();
        Signal {
            ufrag: creds.ufrag.clone(),
            pwd: creds.pass.clone(),
            remote_ufrag: self.remote_ufrag.clone(),
            candidates: self
                .ice
                .local_candidates()
                .take(MAX_CANDIDATES)
                .map(|candidate| candidate.to_sdp_string())
                .collect(),
        }
    }

    /// Our username fragment.
    pub fn ufrag(&self) -> &str {
        &self.ice.local_credentials().ufrag
    }

    /// The peer's username fragment, once it is known.
    pub fn remote_ufrag(&self) -> Option<&str> {
        self.remote_ufrag.as_deref()
    }

    /// A STUN message that is for this agent; returns whether it was authentic.
    pub fn handle_stun(
        &mut self,
        (source, destination): (SocketAddr, SocketAddr),
        message: StunMessage<'_>,
        now: Instant,
    ) -> bool {
        let packet = StunPacket {
            proto: Protocol::Udp,
            source,
            destination,
            message,
        };
        let before = self.ice.nominated_pair_responses_received();
        let authentic = self.ice.handle_packet(now, packet);
        if authentic {
            self.release(|opening| opening.release(source));
        }
        if self.ice.nominated_pair_responses_received() > before {
            self.vigil.proven(now);
            self.round_trip.measured(self.rtt().unwrap_or_default());
        }
        authentic
    }

    /// When [`Self::handle_timeout`] is due; never while it rests.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        if self.vigil.is_resting() {
            return None;
        }
        let opening = self.opening.as_ref().and_then(Opening::poll_timeout);
        [self.ice.poll_timeout(), opening]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.release(|opening| opening.release_due(now));
        self.ice.handle_timeout(now);
    }

    /// Leaves the path alone if that is known to stand. It goes on answering the peer's checks. `heard` is when the
    /// session last heard the peer.
    pub fn rest(&mut self, heard: Option<Instant>, now: Instant) {
        self.vigil.rest(heard, now);
        if self.vigil.is_resting() {
            self.ice.set_max_stun_retransmits(LAST_CHECKS);
        }
    }

    /// Finds out now whether the path still stands.
    pub fn look(&mut self, now: Instant) {
        self.vigil.look(now);
    }

    /// The peer has said that it goes away; whether it does is to be found out, also on a path that is new.
    pub fn farewell(&mut self, now: Instant) {
        self.vigil.farewell(now);
        self.ice.set_max_stun_retransmits(LAST_CHECKS);
    }

    /// When a path that is left alone must be looked at: see [`Vigil::doubt`].
    pub fn doubt(&self, heard: Option<Instant>, unanswered: Option<Instant>) -> Option<Instant> {
        self.vigil.doubt(heard, unanswered)
    }

    /// The next shot that shall open our NAT.
    pub fn poll_shot(&mut self, now: Instant) -> Option<Shot> {
        self.opening.as_mut()?.poll_shot(now)
    }

    /// The next STUN message to send, with its source, one of ours or a relayed one, and its destination.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let transmit = self.ice.poll_transmit()?;
        let contents = transmit.contents.into();
        Some((transmit.source, transmit.destination, contents))
    }

    /// The next news.
    pub fn poll_event(&mut self, now: Instant) -> Option<AgentEvent> {
        while let Some(event) = self.ice.poll_event() {
            match event {
                IceAgentEvent::NominatedSend {
                    source,
                    destination,
                    ..
                } => {
                    self.vigil.settle(now);
                    // Only a pair that has just answered is nominated.
                    self.vigil.proven(now);
                    self.measure_anew();
                    return Some(AgentEvent::Nominated(source, destination));
                }
                IceAgentEvent::IceConnectionStateChange(state) if state.is_disconnected() => {
                    return Some(AgentEvent::Disconnected);
                }
                // The peer is seen at an address for the first time: perhaps it moved.
                IceAgentEvent::DiscoveredRecv { .. } => self.vigil.settle(now),
                IceAgentEvent::IceConnectionStateChange(_) | IceAgentEvent::IceRestart(_) => {}
            }
        }
        None
    }

    /// When the pair in use last answered a check.
    pub fn proven(&self) -> Option<Instant> {
        self.vigil.when_proven()
    }

    /// How long an answer takes on the nominated pair, as far as its checks have shown; nothing before any has.
    pub fn answer_takes(&self) -> Duration {
        self.round_trip.patience()
    }

    /// What another pair has measured says nothing of this one.
    fn measure_anew(&mut self) {
        let all = self.ice.nominated_pair_total_rtt();
        let all = all.zip(self.ice.nominated_pair_responses_received());
        if let Some((last, all)) = self.rtt().zip(all) {
            self.round_trip = RoundTrip::begin(last, all);
        }
    }

    /// Round-trip time of the last check on the nominated pair.
    pub fn rtt(&self) -> Option<Duration> {
        self.ice.nominated_pair_rtt()
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("state", &self.ice.state())
            .finish_non_exhaustive()
    }
}

fn ice_text(rng: &mut impl Rng, len: usize) -> String {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(ICE_CHARS[usize::from(byte % 64)]))
        .collect()
}

#[cfg(test)]
mod tests;
