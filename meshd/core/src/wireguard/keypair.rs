//! The keys of one finished handshake: sealing and opening data messages in place.

use std::{fmt, ops::Range, time::Instant};

use mesh_wire::{
    carrier::FEATURE_AES_256_GCM,
    relay::RelayTag,
    wireguard::{Cipher, DATA_HEADER, Message, TAG, data_header},
};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{
    hop::HopKeys,
    noise::TransportKeys,
    replay::{ReplayWindow, Tally},
    timers::{KEEPALIVE, REJECT_AFTER, REKEY_AFTER, REKEY_TIMEOUT},
};

/// What sealing adds to a packet, padding aside.
pub const OVERHEAD: usize = DATA_HEADER + TAG;
/// Packets are padded to a multiple of this, so that their length tells less.
pub const PADDING: usize = 16;
/// Rekey-After-Messages (paper, section 6.1): 2^60.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Reject-After-Messages: 2^64 - 2^13 - 1.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Under AES-256-GCM a key seals at most 2^28 messages: of up to 2^7 blocks each that is 2^35 blocks, which leaves an
/// adversary an advantage below 2^-57, as TLS 1.3 asks (RFC 8446, section 5.5). A new key is asked for at half of it.
const GCM_REJECT_AFTER_MESSAGES: u64 = 1 << 28;
const GCM_REKEY_AFTER_MESSAGES: u64 = 1 << 27;
/// Messages that errors are believed about: what goes out in the second that an error may take to come back, at 10 Gbit/s.
const RECENT: u64 = 1 << 20;
/// Names the keys that are derived for AES-256-GCM.
const GCM_LABEL: &[u8] = b"meshd aes-256-gcm v1";

/// The indices by which both sides name a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indices {
    /// In what we receive.
    pub local: u32,
    /// In what we send.
    pub remote: u32,
}

/// What the keys of a session are used for beside plain WireGuard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    /// Sealing with AES-256-GCM, if the peer agrees.
    pub gcm: bool,
    /// Carrying frames for others.
    pub relay: bool,
}

/// One session.
pub struct Keypair {
    indices: Indices,
    chacha: Aead,
    /// Present where this machine has AES in hardware and our configuration allows it.
    gcm: Option<Aead>,
    /// Present where we carry frames for others.
    hop: Option<Box<HopKeys>>,
    /// What the peer said in this session that it can do.
    peer_features: u64,
    counter: u64,
    window: ReplayWindow,
    created: Instant,
    /// From then on nothing is sealed or opened. Kept, like the next, because comparing two instants is all that a packet
    /// should pay for its age.
    expires: Instant,
    /// From then on a successor is asked for when something is sent; the responder leaves it to the initiator.
    renew: Option<Instant>,
    /// From then on also when something is received: the answer must come before the keys expire.
    late: Option<Instant>,
}

impl Keypair {
    /// From a handshake that we began (`initiator`) or answered.
    pub fn new(
        keys: &TransportKeys,
        indices: Indices,
        (initiator, uses): (bool, Uses),
        now: Instant,
    ) -> Self {
        let derived = |key: &[u8; 32]| super::mac::derive(key, GCM_LABEL);
        Self {
            indices,
            chacha: Aead::new(&CHACHA20_POLY1305, &keys.send, &keys.receive),
            gcm: uses
                .gcm
                .then(|| Aead::new(&AES_256_GCM, &derived(&keys.send), &derived(&keys.receive))),
            hop: uses.relay.then(|| Box::new(HopKeys::new(keys))),
            peer_features: 0,
            counter: 0,
            window: ReplayWindow::default(),
            created: now,
            expires: now + REJECT_AFTER,
            renew: initiator.then(|| now + REKEY_AFTER),
            late: initiator.then(|| now + (REJECT_AFTER - KEEPALIVE - REKEY_TIMEOUT)),
        }
    }

    /// How both sides name it.
    pub fn indices(&self) -> Indices {
        self.indices
    }

    /// Whether `message` says to be one that was sealed with these keys, and not long ago. Nobody else knows the index and
    /// the counter but who saw it.
    pub fn has_sent(&self, message: &Message<'_>) -> bool {
        let Message::Data {
            receiver, counter, ..
        } = *message
        else {
            return false;
        };
        let age = self.counter.checked_sub(counter);
        receiver == self.indices.remote && age.is_some_and(|age| (1..=RECENT).contains(&age))
    }

    /// From when on they are of no use.
    pub fn expires(&self) -> Instant {
        self.expires
    }

    /// When the handshake was finished.
    pub fn created(&self) -> Instant {
        self.created
    }

    /// Whether a successor should be asked for when something is received.
    pub fn is_late(&self, now: Instant) -> bool {
        self.late.is_some_and(|at| now >= at)
    }

    /// Whether it may still be used.
    pub fn is_usable(&self, now: Instant) -> bool {
        now < self.expires && self.counter < self.limits().1
    }

    /// Whether a successor should be asked for when something is sent. The responder leaves it to the initiator
    /// unless messages run out.
    pub fn is_worn(&self, now: Instant) -> bool {
        self.renew.is_some_and(|at| now >= at) || self.counter >= self.limits().0
    }

    /// The peer can do this, a sum of `FEATURE_*` of [`mesh_wire::carrier`]: from now on do it with it, where we can too.
    pub fn peer_can(&mut self, features: u64) {
        self.peer_features |= features;
    }

    /// Whether the peer said so of this feature.
    pub fn peer_has(&self, feature: u64) -> bool {
        self.peer_features & feature != 0
    }

    /// What the next message will be sealed with.
    pub fn cipher(&self) -> Cipher {
        if self.gcm.is_some() && self.peer_has(FEATURE_AES_256_GCM) {
            Cipher::Aes256Gcm
        } else {
            Cipher::ChaCha20Poly1305
        }
    }

    /// Seals the `len` bytes that stand at [`DATA_HEADER`] in `buffer`, padded with zeros to `padded` bytes, in place.
    /// `buffer` holds at least `padded + OVERHEAD` bytes. Returns the message's length, 0 if the session is used up.
    pub fn seal(&mut self, buffer: &mut [u8], len: usize, padded: usize) -> usize {
        let cipher = self.cipher();
        let total = padded + OVERHEAD;
        let Some((header, rest)) = buffer
            .get_mut(..total)
            .and_then(|message| message.split_first_chunk_mut::<DATA_HEADER>())
        else {
            return 0;
        };
        if self.counter >= self.limits().1 || len > padded {
            return 0;
        }
        *header = data_header(self.indices.remote, self.counter, cipher);
        let (packet, tag) = rest.split_at_mut(padded);
        packet[len..].fill(0);
        let key = match (cipher, &self.gcm) {
            (Cipher::Aes256Gcm, Some(gcm)) => &gcm.send,
            _ => &self.chacha.send,
        };
        let Ok(made) = key.seal_in_place_separate_tag(nonce(self.counter), Aad::empty(), packet)
        else {
            return 0;
        };
        tag.copy_from_slice(made.as_ref());
        self.counter += 1;
        total
    }

    /// Opens a data message in place; returns where its plaintext stands. `None` if it is forged, damaged, a repetition,
    /// too late, or sealed with what was not agreed on.
    pub fn open(
        &mut self,
        message: &mut [u8],
        (counter, cipher): (u64, Cipher),
        now: Instant,
    ) -> Option<Range<usize>> {
        let key = match cipher {
            Cipher::ChaCha20Poly1305 => &self.chacha.receive,
            Cipher::Aes256Gcm => &self.gcm.as_ref()?.receive,
        };
        if counter >= REJECT_AFTER_MESSAGES
            || now >= self.expires
            || !self.window.may_accept(counter)
        {
            return None;
        }
        let sealed = message.get_mut(DATA_HEADER..)?;
        let len = key
            .open_in_place(nonce(counter), Aad::empty(), sealed)
            .ok()?
            .len();
        self.window
            .accept(counter)
            .then_some(DATA_HEADER..DATA_HEADER + len)
    }

    /// What has come under these keys.
    pub fn tally(&self) -> Tally {
        self.window.tally()
    }

    /// The tag of a frame that goes to the peer, to be carried on; it covers `covered`.
    pub fn tag_frame(&mut self, covered: &[u8]) -> Option<RelayTag> {
        self.hop.as_mut()?.tag(self.indices.remote, covered)
    }

    /// Whether the peer sent this frame, and not before.
    pub fn check_frame(&mut self, tag: &RelayTag, covered: &[u8], now: Instant) -> bool {
        now < self.expires && self.hop.as_mut().is_some_and(|hop| hop.check(tag, covered))
    }

    /// From which counter on to ask for a successor, and from which on to seal nothing.
    fn limits(&self) -> (u64, u64) {
        match self.cipher() {
            Cipher::ChaCha20Poly1305 => (REKEY_AFTER_MESSAGES, REJECT_AFTER_MESSAGES),
            Cipher::Aes256Gcm => (GCM_REKEY_AFTER_MESSAGES, GCM_REJECT_AFTER_MESSAGES),
        }
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keypair")
            .field("indices", &self.indices)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// Both directions under one algorithm.
struct Aead {
    send: LessSafeKey,
    receive: LessSafeKey,
}

impl Aead {
    fn new(algorithm: &'static Algorithm, send: &[u8; 32], receive: &[u8; 32]) -> Self {
        let key = |bytes| {
            let key = UnboundKey::new(algorithm, bytes);
            LessSafeKey::new(key.expect("both algorithms take keys of 32 bytes"))
        };
        Self {
            send: key(send),
            receive: key(receive),
        }
    }
}

/// 32 zero bits, then the counter (paper, section 5.4.6). No two messages of a session share a counter.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(gcm: [bool; 2]) -> [Keypair; 2] {
        let now = Instant::now();
        let keys = |send, receive| TransportKeys {
            send: [send; 32],
            receive: [receive; 32],
        };
        let indices = |local, remote| Indices { local, remote };
        let uses = |gcm| Uses { gcm, relay: false };
        [
            Keypair::new(&keys(1, 2), indices(5, 6), (true, uses(gcm[0])), now),
            Keypair::new(&keys(2, 1), indices(6, 5), (false, uses(gcm[1])), now),
        ]
    }

    fn message(from: &mut Keypair, len: usize) -> Vec<u8> {
        let mut buffer = vec![7; 1500];
        let written = from.seal(&mut buffer, len, len.next_multiple_of(PADDING));
        buffer.truncate(written);
        buffer
    }

    fn open(by: &mut Keypair, message: &mut [u8]) -> Option<Range<usize>> {
        let now = by.created;
        let parsed = Message::parse(message)?;
        let Message::Data {
            counter, cipher, ..
        } = parsed
        else {
            return None;
        };
        by.open(message, (counter, cipher), now)
    }

    #[test]
    fn what_is_sealed_is_opened_once() {
        let [mut a, mut b] = pair([false; 2]);
        let mut sealed = message(&mut a, 100);
        assert_eq!(sealed.len(), 112 + OVERHEAD);
        let mut again = sealed.clone();
        assert_eq!(open(&mut b, &mut sealed), Some(16..128));
        assert_eq!(sealed[16..116], [7; 100]);
        assert_eq!(sealed[116..128], [0; 12]);
        assert_eq!(open(&mut b, &mut again), None);
    }

    #[test]
    fn a_forged_message_does_not_burn_its_counter() {
        let [mut a, mut b] = pair([false; 2]);
        let mut sealed = message(&mut a, 100);
        let mut forged = sealed.clone();
        forged[60] ^= 1;
        assert_eq!(open(&mut b, &mut forged), None);
        assert!(open(&mut b, &mut sealed).is_some());
    }

    #[test]
    fn aes_is_used_only_when_both_have_it() {
        for (gcm, cipher) in [
            ([true, true], Cipher::Aes256Gcm),
            ([false, true], Cipher::ChaCha20Poly1305),
        ] {
            let [mut a, mut b] = pair(gcm);
            a.peer_can(FEATURE_AES_256_GCM);
            assert_eq!(a.cipher(), cipher);
            assert!(open(&mut b, &mut message(&mut a, 100)).is_some());
        }
        let [mut a, mut b] = pair([true, false]);
        a.peer_can(FEATURE_AES_256_GCM);
        assert_eq!(
            open(&mut b, &mut message(&mut a, 100)),
            None,
            "b never agreed"
        );
    }

    #[test]
    fn relabelling_the_cipher_of_a_message_does_not_open_it() {
        let [mut a, mut b] = pair([true; 2]);
        let mut sealed = message(&mut a, 100);
        sealed[1] = 1;
        assert_eq!(open(&mut b, &mut sealed), None);
    }

    #[test]
    fn a_session_ends_with_its_counters_and_its_time() {
        let [mut a, mut b] = pair([false; 2]);
        a.counter = REKEY_AFTER_MESSAGES;
        assert!(a.is_worn(a.created) && a.is_usable(a.created));
        a.counter = REJECT_AFTER_MESSAGES - 1;
        assert!(open(&mut b, &mut message(&mut a, 10)).is_some());
        assert!(!a.is_usable(a.created) && message(&mut a, 10).is_empty());
        let [mut a, mut b] = pair([true; 2]);
        a.peer_can(FEATURE_AES_256_GCM);
        a.counter = GCM_REJECT_AFTER_MESSAGES;
        assert!(message(&mut a, 10).is_empty());
        a.counter = 0;
        let late = b.created + REJECT_AFTER;
        let mut sealed = message(&mut a, 10);
        assert_eq!(b.open(&mut sealed, (0, Cipher::Aes256Gcm), late), None);
    }

    #[test]
    fn only_the_initiator_renews_by_time() {
        let [a, b] = pair([false; 2]);
        let at = a.created + REKEY_AFTER;
        assert!(a.is_worn(at) && !b.is_worn(at));
    }
}
