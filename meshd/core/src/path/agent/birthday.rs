//! What does birthday probing need of an agent? See `path::birthday`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use is::{
    Candidate, CandidateKind, DefaultSha1HmacProvider, Sha1HmacProvider,
    stun::{StunMessage, TransId},
};

use super::Agent;
use crate::{path::gather::Gatherer, peer::table::PeerIdx};

/// Of a peer-reflexive candidate with the highest local preference (RFC 8445 section 5.1.2.1): 110, 65,535 and component 1.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
/// Room for a check: header, username, priority, role, integrity and fingerprint take 116 bytes at most with our own names.
const CHECK: usize = 1024;

impl Agent {
    /// Whether a peer, at its relay, has seen us at another port than the STUN servers do: then our NAT's mapping depends
    /// on the endpoint.
    pub fn maps_per_endpoint(&self) -> bool {
        let of_kind = |kind| {
            let all = self.ice.local_candidates();
            all.filter(move |c| c.kind() == kind && c.addr().is_ipv4())
        };
        of_kind(CandidateKind::PeerReflexive).any(|seen| {
            let mut same_base = of_kind(CandidateKind::ServerReflexive)
                .filter(|reflexive| reflexive.local() == seen.local())
                .filter(|reflexive| reflexive.addr().ip() == seen.addr().ip())
                .peekable();
            same_base.peek().is_some() && same_base.all(|it| it.addr() != seen.addr())
        })
    }

    /// The peer's addresses at its NAT, IPv4, as it named them.
    pub fn remote_reflexive(&self) -> impl Iterator<Item = SocketAddr> {
        let all = self.ice.remote_candidates();
        all.filter(|c| c.kind() == CandidateKind::ServerReflexive && c.addr().is_ipv4())
            .map(|c| c.addr())
    }

    /// The port at its NAT that the peer was last seen at.
    pub fn newest_port(&self, ip: Ipv4Addr) -> Option<u16> {
        let all = self.ice.remote_candidates();
        let own = all.filter(|c| c.addr().ip() == ip && c.kind() != CandidateKind::Relayed);
        own.last().map(|c| c.addr().port())
    }

    /// A check that the peer's agent takes from whatever address it comes. Of its answer nothing is known here.
    pub fn blind_check(&self) -> Option<Vec<u8>> {
        let peer = self.ice.remote_credentials()?;
        let username = format!("{}:{}", peer.ufrag, self.ufrag());
        let role = self.ice.controlling();
        let check =
            StunMessage::binding_request(&username, TransId::new(), role, 0, PRIORITY, false);
        let mut bytes = vec![0; CHECK];
        let hmac = |key: &[u8], parts: &[&[u8]]| DefaultSha1HmacProvider.sha1_hmac(key, parts);
        let len = check
            .to_bytes(Some(peer.pass.as_bytes()), &mut bytes, hmac)
            .ok()?;
        bytes.truncate(len);
        Some(bytes)
    }

    /// Whether a message is a check of the peer.
    pub fn is_authentic_check(&self, message: &StunMessage<'_>) -> bool {
        message.is_binding_request() && self.ice.accepts_message(message)
    }

    /// Checks may come to and go from this address of ours too.
    pub fn add_base(&mut self, base: SocketAddr) {
        if let Ok(candidate) = Candidate::host(base, "udp") {
            self.ice.add_local_candidate(candidate);
        }
    }

    /// The address is of no use any more.
    pub fn forget_base(&mut self, base: SocketAddr) {
        if let Ok(candidate) = Candidate::host(base, "udp") {
            self.ice.invalidate_candidate(&candidate);
        }
    }
}

impl Gatherer {
    /// A message has come to this address of ours. If it is the peer's check and that a socket opened for it, the agent may
    /// use it from now on.
    pub fn try_base(
        &mut self,
        (peer, agent): (PeerIdx, &mut Agent),
        message: &StunMessage<'_>,
        base: SocketAddr,
        now: Instant,
    ) {
        if !self.birthday.may_adopt(peer, base, now) || !agent.is_authentic_check(message) {
            return;
        }
        if let Some(before) = self.birthday.adopt(base, now) {
            agent.forget_base(before);
        }
        agent.add_base(base);
    }
}
