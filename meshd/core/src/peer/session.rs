//! The WireGuard session with one peer: which keys are in use, which handshake is under way, what is due.
//! The parts stand in [`crate::wireguard`].

mod attempt;

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use mesh_wire::{
    WireGuardKey,
    carrier::FEATURE_OPEN_CHECKSUMS,
    relay::RelayTag,
    wireguard::{Cipher, INITIATION, Message, RESPONSE, initiation, response},
};
use zeroize::Zeroizing;

use self::attempt::{Attempt, FIRST_RETRY, PROVEN_RETRY, QUICK_RETRIES};
use super::{keys::SessionKeys, table::PeerIdx};
use crate::wireguard::{
    keypair::{Indices, Keypair},
    keypairs::Keypairs,
    mac::Stamp,
    noise::{Initiator, Responder, TransportKeys},
    replay::Tally,
    timers::{Due, JITTER, REKEY_ATTEMPT, REKEY_TIMEOUT, Timers},
    timestamp::Timestamp,
};

/// Initiations of one peer that come faster than this are not answered (paper, section 5.4.2, as implementations do).
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

/// What a data message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Here in the message stands a packet, perhaps with padding behind it.
    Packet(Range<usize>),
    /// Authentic, without a packet inside.
    Keepalive,
    /// Forged, replayed, damaged, too late, or of no session of ours.
    Refused,
}

/// What the passing of time asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionDue {
    /// Send an empty message.
    Keepalive,
    /// Send a handshake initiation.
    Handshake,
    /// The keys are too old, and no new ones came.
    Over,
}

/// The session with one peer.
pub struct Session {
    peer: WireGuardKey,
    psk: Zeroizing<[u8; 32]>,
    index: PeerIdx,
    /// Of the next handshake; part of its index.
    serial: u8,
    stamp: Stamp,
    attempt: Option<Attempt>,
    keys: Keypairs,
    /// The greatest timestamp that the peer has sent, and when.
    latest: (Timestamp, Option<Instant>),
    /// What runs while it stands.
    pub timers: Timers,
    /// Something was sent or received under keys that should be replaced.
    renew: bool,
    /// The peer has begun to use the keys of a handshake that it began.
    confirmed: bool,
}

impl Session {
    /// A session that has not begun. `psk` is this pair's preshared key; `keepalive` zero for none.
    pub fn new(peer: WireGuardKey, index: PeerIdx, psk: [u8; 32], keepalive: Duration) -> Self {
        Self {
            peer,
            psk: Zeroizing::new(psk),
            index,
            serial: 0,
            stamp: Stamp::new(&peer),
            attempt: None,
            keys: Keypairs::default(),
            latest: (Timestamp::default(), None),
            timers: Timers::new(keepalive),
            renew: false,
            confirmed: false,
        }
    }

    /// Whether packets can be sealed.
    pub fn is_established(&self, now: Instant) -> bool {
        self.keys.current().is_some_and(|keys| keys.is_usable(now))
    }

    /// What the next packet will be sealed with, once there are keys.
    pub fn cipher(&self) -> Option<Cipher> {
        self.keys.current().map(Keypair::cipher)
    }

    /// Time since the last completed handshake.
    pub fn since_handshake(&self, now: Instant) -> Option<Duration> {
        let created = self.keys.current()?.created();
        Some(now.saturating_duration_since(created))
    }

    /// Seals the `len` bytes that stand at [`mesh_wire::wireguard::DATA_HEADER`] in `buffer`, padded to `padded`, in
    /// place. Returns the message's length; 0 without usable keys.
    pub fn seal(
        &mut self,
        buffer: &mut [u8],
        (len, padded): (usize, usize),
        now: Instant,
    ) -> usize {
        let Some(keys) = self.keys.current_mut().filter(|keys| keys.is_usable(now)) else {
            return 0;
        };
        let written = keys.seal(buffer, len, padded);
        self.renew |= keys.is_worn(now);
        self.timers.sent(len > 0, now);
        written
    }

    /// Opens a data message in place. `receiver` is its index.
    pub fn open(
        &mut self,
        message: &mut [u8],
        receiver: u32,
        (counter, cipher): (u64, Cipher),
        now: Instant,
    ) -> Opened {
        let Some(keys) = self.keys.by_index(receiver) else {
            return Opened::Refused;
        };
        let Some(packet) = keys.open(message, (counter, cipher), now) else {
            return Opened::Refused;
        };
        // Whoever only receives must renew in time for the answer to come before the keys are rejected.
        self.renew |= keys.is_late(now);
        if self.keys.confirm(receiver) {
            self.attempt = None;
            self.confirmed = true;
        }
        self.timers.received(!packet.is_empty(), now);
        if packet.is_empty() {
            Opened::Keepalive
        } else {
            Opened::Packet(packet)
        }
    }

    /// The tag of a frame that goes to the peer, to be carried on. `None` without usable keys.
    pub fn tag_frame(&mut self, covered: &[u8], now: Instant) -> Option<RelayTag> {
        let keys = self.keys.current_mut().filter(|keys| keys.is_usable(now))?;
        let tag = keys.tag_frame(covered);
        self.renew |= keys.is_worn(now);
        self.timers.sent(true, now);
        tag
    }

    /// Whether the peer sent this frame, and not before.
    pub fn check_frame(&mut self, tag: &RelayTag, covered: &[u8], now: Instant) -> bool {
        let keys = self.keys.by_index(tag.receiver);
        keys.is_some_and(|keys| keys.check_frame(tag, covered, now))
    }

    /// The peer said under the keys named `receiver` what it can do: a sum of `FEATURE_*` of [`mesh_wire::carrier`].
    pub fn peer_can(&mut self, receiver: u32, features: u64) {
        if let Some(keys) = self.keys.by_index(receiver) {
            keys.peer_can(features);
        }
    }

    /// Whether the peer completes checksums that we leave open.
    pub fn leaves_checksums_open(&self) -> bool {
        let keys = self.keys.current();
        keys.is_some_and(|keys| keys.peer_has(FEATURE_OPEN_CHECKSUMS))
    }

    /// What has come under all keys that may be in use, and what we named those.
    pub fn tally(&self) -> ([Option<u32>; 3], Tally) {
        self.keys.tally()
    }

    /// Whether `message` looks like one that we sealed lately.
    pub fn has_sent(&self, message: &Message<'_>) -> bool {
        self.keys.current().is_some_and(|k| k.has_sent(message))
    }

    /// Whether new keys, of a handshake that the peer began, came into use.
    pub fn take_confirmed(&mut self) -> bool {
        std::mem::take(&mut self.confirmed)
    }

    /// Whether the keys should be replaced; asked once after each batch.
    pub fn take_renewal(&mut self) -> bool {
        std::mem::take(&mut self.renew) && self.attempt.is_none()
    }

    /// Begins a handshake, unless one is under way. `None` also if the peer's key is unusable.
    pub fn initiate(&mut self, keys: &mut SessionKeys, now: Instant) -> Option<[u8; INITIATION]> {
        match &self.attempt {
            Some(attempt) if attempt.resend > now => None,
            Some(attempt) => {
                let (began, quick) = (attempt.began, attempt.quick_retries);
                self.send_initiation(keys, (began, quick.saturating_sub(1)), now)
            }
            None => {
                // On a path that has carried nothing yet the message may well have been the first to be lost.
                let quick = if self.is_established(now) {
                    0
                } else {
                    QUICK_RETRIES
                };
                self.send_initiation(keys, (now, quick), now)
            }
        }
    }

    fn send_initiation(
        &mut self,
        keys: &mut SessionKeys,
        (began, quick_retries): (Instant, u8),
        now: Instant,
    ) -> Option<[u8; INITIATION]> {
        let local = self.next_index(keys);
        let timestamp = keys.timestamp(now);
        let seed = keys.random();
        // Should the key turn out to be unusable, nothing is left to be repeated.
        self.attempt = None;
        let (handshake, noise) =
            Initiator::start(keys.private(), (&self.peer, &self.psk), timestamp, seed)?;
        let pause = match quick_retries {
            0 => REKEY_TIMEOUT + keys.random_below(JITTER),
            _ => FIRST_RETRY.max(self.timers.round_trip * 3 / 2),
        };
        self.attempt = Some(Attempt {
            handshake,
            local,
            began,
            resend: now + pause,
            quick_retries,
        });
        let mut message = initiation(local, &noise);
        self.stamp.stamp(&mut message, now);
        Some(message)
    }

    /// Answers an initiation of this peer. `sender` is its index. `None` if it is old or comes too soon.
    pub fn accept(
        &mut self,
        keys: &mut SessionKeys,
        (responder, sender): (Responder, u32),
        now: Instant,
    ) -> Option<[u8; RESPONSE]> {
        let (latest, at) = self.latest;
        let soon = at.is_some_and(|at| now.saturating_duration_since(at) < INITIATION_INTERVAL);
        if responder.timestamp <= latest || soon {
            return None;
        }
        self.latest = (responder.timestamp, Some(now));
        let local = self.next_index(keys);
        let (noise, transport) = responder.respond(&self.psk)?;
        let indices = Indices {
            local,
            remote: sender,
        };
        self.keys
            .offer(keypair(keys, &transport, indices, (false, now)));
        let mut message = response(local, sender, &noise);
        self.stamp.stamp(&mut message, now);
        Some(message)
    }

    /// Takes the response to our initiation; false if it is none.
    pub fn finish(&mut self, keys: &SessionKeys, response: &Message<'_>, now: Instant) -> bool {
        let Message::Response {
            sender,
            receiver,
            noise,
        } = *response
        else {
            return false;
        };
        let Some(attempt) = self
            .attempt
            .as_mut()
            .filter(|attempt| attempt.local == receiver)
        else {
            return false;
        };
        let Some(transport) = attempt.handshake.finish(noise) else {
            return false;
        };
        let indices = Indices {
            local: receiver,
            remote: sender,
        };
        self.keys
            .begin(keypair(keys, &transport, indices, (true, now)));
        self.attempt = None;
        self.renew = false;
        self.timers.received(false, now);
        true
    }

    /// Takes a cookie; false if it answers nothing of ours. It proves nothing about where the peer is.
    pub fn take_cookie(&mut self, reply: &Message<'_>, now: Instant) -> bool {
        let Message::CookieReply {
            receiver,
            nonce,
            sealed,
        } = *reply
        else {
            return false;
        };
        let asked = self.attempt.as_mut().filter(|a| a.local == receiver);
        let Some(attempt) = asked.filter(|_| self.stamp.take_cookie(sealed, nonce, now)) else {
            return false;
        };
        // Without keys packets wait, and with its proof the next message is worth an answer: it need not wait too.
        if attempt.quick_retries > 0 {
            attempt.resend = attempt.resend.min(now + PROVEN_RETRY);
        }
        true
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.resend);
        let expiry = self.keys.current().map(Keypair::expires);
        [attempt, expiry, self.timers.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets time pass; to be called until it returns `None`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<SessionDue> {
        if self
            .attempt
            .take_if(|attempt| attempt.began + REKEY_ATTEMPT <= now)
            .is_some()
        {
            self.timers.stop();
        }
        if self.keys.expire(now) {
            self.timers.stop();
            return Some(SessionDue::Over);
        }
        if self
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.resend <= now)
        {
            return Some(SessionDue::Handshake);
        }
        match self.timers.take_due(now)? {
            Due::Keepalive => Some(SessionDue::Keepalive),
            // One that is under way is repeated by its own clock.
            Due::Handshake if self.attempt.is_some() => self.handle_timeout(now),
            Due::Handshake => Some(SessionDue::Handshake),
        }
    }

    fn next_index(&mut self, keys: &SessionKeys) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        keys.receivers().encode(self.index, self.serial)
    }
}

fn keypair(
    keys: &SessionKeys,
    transport: &TransportKeys,
    indices: Indices,
    (initiator, now): (bool, Instant),
) -> Box<Keypair> {
    Box::new(Keypair::new(
        transport,
        indices,
        (initiator, keys.uses()),
        now,
    ))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
