//! What keeps a relayed address ours, and what ends it? (RFC 8656 sections 7 and 8)

use std::{
    num::NonZeroU16,
    time::{Duration, Instant},
};

use rand::Rng;

use super::{
    Relayed,
    exchange::Exchange,
    message::{Answer, Proof, Request, read, request},
    rights::Rights,
    streams::Contact,
};
use crate::{
    path::stun_index::TransactionId,
    queue::transmit::{Route, TransmitQueue},
};

/// How often the allocation is refreshed. Its lifetime, 10 minutes, would allow for less; but this also keeps the NAT
/// before us open, which may forget us after 30 s, and notices a server that was restarted, or sees us elsewhere.
const REFRESH: Duration = Duration::from_secs(25);
/// The pause after a refresh that was refused, though the allocation stands.
const SULK: Duration = Duration::from_secs(30);
/// A refresh younger than this has shown enough.
const CREDIBLE: Duration = Duration::from_secs(1);
/// One that ends before this was hardly worth having.
const YOUNG: Duration = Duration::from_secs(5);
/// RFC 8656 section 7.2: the default lifetime.
const LIFETIME: u32 = 600;
/// No lifetime that a server names counts for more: an hour, as RFC 8656 section 7.2 recommends.
const MAX_LIFETIME: u32 = 3600;
/// Nonces that a server may call stale one after the other.
const MAX_CHALLENGES: u8 = 3;

/// A relayed address.
#[derive(Debug)]
pub(super) struct Allocation {
    /// Where it is.
    pub(super) server: Contact,
    /// Itself, and from where we reach the server.
    pub(super) place: Relayed,
    /// Who is behind which channel.
    pub(super) rights: Rights,
    proof: Proof,
    /// Of whoever made it, until the server has taken the present one.
    former: Option<Proof>,
    refresh: Option<Exchange>,
    /// Peers were not heard either.
    doubted: bool,
    next_refresh: Instant,
    expires: Instant,
    heard: Instant,
    since: Instant,
    challenges: u8,
}

/// What an answer brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answers nothing of ours.
    Foreign,
    /// All is well.
    Fine,
    /// The server refuses to refresh it, with this code; it stands until it expires.
    Refused(u16),
    /// It is ours no more.
    Gone,
}

impl Allocation {
    /// What a server has just granted.
    pub(super) fn new(
        server: Contact,
        place: Relayed,
        (proof, lifetime): (Proof, Option<u32>),
        now: Instant,
    ) -> Self {
        let mut allocation = Self {
            server,
            place,
            rights: Rights::default(),
            proof,
            former: None,
            refresh: None,
            doubted: false,
            next_refresh: now,
            expires: now,
            heard: now,
            since: now,
            challenges: 0,
        };
        allocation.refreshed(lifetime, now);
        allocation
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        let refresh = self.refresh.map_or(self.next_refresh, |asked| asked.due());
        let rights = self.rights.poll_timeout();
        rights.unwrap_or(refresh).min(refresh).min(self.expires)
    }

    /// Sends what is due. False once the server is silent, or the time is over.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
        in_use: impl Fn(NonZeroU16) -> bool,
        transmit: &mut TransmitQueue,
    ) -> bool {
        if self.has_expired(now) {
            return false;
        }
        if self.refresh.is_none() && self.next_refresh <= now {
            self.refresh = Some(Exchange::begin(rng, now));
        }
        if let Some(exchange) = self.refresh.as_mut().filter(|asked| asked.due() <= now) {
            if !exchange.send(now) {
                return false;
            }
            let id = exchange.id;
            self.ask(Request::Refresh, &id, transmit);
        }
        let (route, proof) = (self.way(), &self.proof);
        self.rights.handle_timeout(now, rng, in_use, |asked, id| {
            transmit.push(route, &request(asked, id, Some(proof)));
        });
        true
    }

    /// Takes an answer of the server.
    pub(super) fn handle_answer(
        &mut self,
        (id, bytes): (&TransactionId, &[u8]),
        rng: &mut impl Rng,
        now: Instant,
    ) -> Outcome {
        let is_refresh = self.refresh.is_some_and(|asked| asked.id == *id);
        if !is_refresh && !self.rights.has_asked(id) {
            return Outcome::Foreign;
        }
        let Some(answer) = read(bytes, Some(&self.proof)) else {
            return Outcome::Fine;
        };
        self.heard = now;
        match answer.error {
            None if is_refresh => {
                self.former = None;
                self.refreshed(answer.lifetime, now);
                Outcome::Fine
            }
            None => {
                self.challenges = 0;
                self.rights.granted(id, now);
                Outcome::Fine
            }
            // Stale Nonce.
            Some(438) => self.challenged((id, answer), rng, now),
            // Allocation Mismatch.
            Some(437) => Outcome::Gone,
            Some(code) if is_refresh => {
                // Wrong Credentials: to this server, those that we have now are another user's.
                if code == 441
                    && let Some(former) = self.former.take()
                {
                    self.proof = former;
                }
                self.refresh = None;
                self.next_refresh = now + SULK;
                Outcome::Refused(code)
            }
            Some(_) => {
                self.rights.refused(id, now);
                Outcome::Fine
            }
        }
    }

    /// Other credentials have come, and are used from now on.
    pub(super) fn adopt(&mut self, proof: Proof, rng: &mut impl Rng, now: Instant) {
        let former = std::mem::replace(&mut self.proof, proof);
        self.former.get_or_insert(former);
        self.refresh = Some(Exchange::begin(rng, now));
        self.rights.ask_again(rng, now);
    }

    /// What is proven to the server.
    pub(super) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Peers are not heard: find out now whether the server still knows us.
    pub(super) fn doubt(&mut self, rng: &mut impl Rng, now: Instant) {
        if now.saturating_duration_since(self.heard) > CREDIBLE {
            self.doubted = true;
            if self.refresh.is_none() {
                self.refresh = Some(Exchange::begin(rng, now));
            }
        }
    }

    /// Whether the server should have answered by now, and has not.
    pub(super) fn is_doubtful(&self) -> bool {
        self.refresh
            .is_some_and(|asked| asked.is_doubtful(self.doubted))
    }

    /// Whether its time is over.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires <= now
    }

    /// Whether it was granted a moment ago.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < YOUNG
    }

    /// Tells the server, once, that it can forget us.
    pub(super) fn release(&self, rng: &mut impl Rng, now: Instant, transmit: &mut TransmitQueue) {
        let id = Exchange::begin(rng, now).id;
        let proof = self.former.as_ref().unwrap_or(&self.proof);
        transmit.push(self.way(), &request(Request::Release, &id, Some(proof)));
    }

    /// The way to the server.
    pub(super) fn way(&self) -> Route {
        Route {
            src: Some(self.place.base.ip()),
            ..self.server.route()
        }
    }

    fn ask(&self, asked: Request, id: &TransactionId, transmit: &mut TransmitQueue) {
        transmit.push(self.way(), &request(asked, id, Some(&self.proof)));
    }

    fn refreshed(&mut self, lifetime: Option<u32>, now: Instant) {
        let lifetime = lifetime.unwrap_or(LIFETIME).min(MAX_LIFETIME);
        let lifetime = Duration::from_secs(lifetime.into());
        self.challenges = 0;
        self.refresh = None;
        self.doubted = false;
        self.expires = now + lifetime;
        self.next_refresh = now + REFRESH.min(lifetime / 2);
    }

    fn challenged(
        &mut self,
        (id, answer): (&TransactionId, Answer),
        rng: &mut impl Rng,
        now: Instant,
    ) -> Outcome {
        self.challenges += 1;
        let renewed = answer
            .challenge
            .is_some_and(|challenge| self.proof.renew(challenge));
        if !renewed || self.challenges > MAX_CHALLENGES {
            return Outcome::Gone;
        }
        if self.refresh.is_some_and(|asked| asked.id == *id) {
            self.refresh = Some(Exchange::begin(rng, now));
        }
        self.rights.ask_again(rng, now);
        Outcome::Fine
    }
}
