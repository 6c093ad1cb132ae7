//! What does an agent know of the peer's addresses?

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use is::{Candidate, CandidateKind, IceAgent, IceCreds, Protocol};
use mesh_wire::signal::{MAX_CANDIDATES, Signal};

use super::Agent;
use crate::path::opening::Opening;

impl Agent {
    /// Takes the peer's credentials and candidates. Those that `refused` holds for are left out; returns how many.
    pub fn add_remote(
        &mut self,
        signal: &Signal,
        refused: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) -> u64 {
        self.vigil.settle(now);
        if self.remote_ufrag.as_ref() != Some(&signal.ufrag) {
            self.ice.set_remote_credentials(IceCreds {
                ufrag: signal.ufrag.clone(),
                pass: signal.pwd.clone(),
            });
            self.remote_ufrag = Some(signal.ufrag.clone());
        }
        let answered = signal.remote_ufrag.as_deref() == Some(self.ufrag());
        // Its shots are on their way, so that nothing needs to wait for them.
        let may_check = answered && self.whole_offer;
        if may_check {
            self.release(Opening::release_all);
        }
        let mut left_out = 0;
        for text in &signal.candidates {
            let Ok(candidate) = Candidate::from_sdp_string(text) else {
                left_out += 1;
                continue;
            };
            self.unmask(&candidate);
            if self.knows(candidate.addr()) {
                continue;
            }
            let usable = candidate.proto() == Protocol::Udp
                && candidate.addr().port() != 0
                && !refused(candidate.addr().ip())
                && self.remote_count < MAX_CANDIDATES;
            if usable {
                self.remote_count += 1;
                if candidate.kind() == CandidateKind::Relayed {
                    self.remote_relays.push(candidate.addr());
                }
                match self.opening.as_mut() {
                    Some(opening) if !may_check && is_behind_nat(&self.ice, &candidate) => {
                        opening.hold(candidate, now);
                    }
                    Some(_) | None => self.ice.add_remote_candidate(candidate),
                }
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// Whether the peer names nothing but addresses at TURN servers.
    pub fn is_led_around(&self) -> bool {
        self.remote_count > 0 && self.remote_count == self.remote_relays.len()
    }

    /// The peer's addresses at TURN servers.
    pub fn remote_relays(&self) -> &[SocketAddr] {
        &self.remote_relays
    }

    /// All addresses of the peer.
    pub fn remote_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let held = self.opening.iter().flat_map(Opening::addresses);
        let known = self.ice.remote_candidates().map(|c| c.addr());
        known.chain(held)
    }

    fn knows(&self, address: SocketAddr) -> bool {
        let held = self
            .opening
            .as_ref()
            .is_some_and(|opening| opening.holds(address));
        held || self.ice.remote_candidates().any(|c| c.addr() == address)
    }

    /// A check from a relayed address may overtake the signal that names it. Then it was taken for an address that the
    /// peer was seen at, which is no relay and comes before server-reflexive ones; now its own priority counts.
    fn unmask(&mut self, named: &Candidate) {
        let is_seen =
            |c: &Candidate| c.addr() == named.addr() && c.kind() == CandidateKind::PeerReflexive;
        let seen = self.ice.remote_candidates().find(is_seen);
        if let Some(seen) = seen.filter(|_| named.kind() == CandidateKind::Relayed) {
            self.ice.invalidate_candidate(&seen);
        }
    }

    /// Lets candidates be checked that were kept back.
    pub(super) fn release(&mut self, which: impl FnOnce(&mut Opening) -> Vec<Candidate>) {
        for candidate in self.opening.as_mut().map(which).unwrap_or_default() {
            self.ice.add_remote_candidate(candidate);
        }
    }
}

/// Whether a NAT that is not also ours is between us and a candidate of the peer.
fn is_behind_nat(ice: &IceAgent, remote: &Candidate) -> bool {
    let is_ours = |local: Candidate| {
        local.kind() == CandidateKind::ServerReflexive && local.addr().ip() == remote.addr().ip()
    };
    remote.kind() == CandidateKind::ServerReflexive && !ice.local_candidates().any(is_ours)
}
