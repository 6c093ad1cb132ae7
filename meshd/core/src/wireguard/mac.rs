//! The two authenticators behind each handshake message, and the cookie between them (paper, sections 5.3 and 5.4.4).
//! The first shows that the sender knows whom it writes to; the second that it can be reached at its address.

use std::{
    fmt,
    time::{Duration, Instant},
};

use blake2::{
    Blake2s256, Blake2sMac, Digest,
    digest::{
        FixedOutput, KeyInit, Update,
        consts::{U16, U32},
    },
};
use chacha20poly1305::{AeadInPlace, Tag, XChaCha20Poly1305, XNonce};
use mesh_wire::{WireGuardKey, wireguard::MACS};

/// How long a cookie is good.
pub const COOKIE_LIFE: Duration = Duration::from_secs(120);
const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// One authenticator.
pub type Mac = [u8; 16];

/// Keyed BLAKE2s with 16 bytes of output.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> Mac {
    let mut state = keyed(key);
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

fn keyed(key: &[u8]) -> Blake2sMac<U16> {
    KeyInit::new_from_slice(key).expect("keys of 16 and 32 bytes are within the limit of BLAKE2s")
}

/// Keyed BLAKE2s with 32 bytes of output: a key of its own for each `label`.
pub fn derive(key: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let mut state = <Blake2sMac<U32> as KeyInit>::new_from_slice(key)
        .expect("a key of 32 bytes is within the limit of BLAKE2s");
    Update::update(&mut state, label);
    state.finalize_fixed().into()
}

/// Compares in constant time.
pub fn equal(a: &Mac, b: &Mac) -> bool {
    a.iter().zip(b).fold(0, |any, (a, b)| any | (a ^ b)) == 0
}

/// What can be said of a receiver from its public key alone.
pub struct ReceiverKeys {
    /// With the key taken in, which is a third of the work.
    mac1: Blake2sMac<U16>,
    cookie: XChaCha20Poly1305,
}

impl ReceiverKeys {
    /// Derives them.
    pub fn new(receiver: &WireGuardKey) -> Self {
        let derive = |label: &[u8]| -> [u8; 32] {
            let mut hash = Blake2s256::new();
            Digest::update(&mut hash, label);
            Digest::update(&mut hash, receiver.as_bytes());
            hash.finalize().into()
        };
        Self {
            mac1: keyed(&derive(LABEL_MAC1)),
            cookie: XChaCha20Poly1305::new(&derive(LABEL_COOKIE).into()),
        }
    }

    /// The first authenticator of a message, which covers everything before both.
    pub fn mac1(&self, message: &[u8]) -> Mac {
        let covered = message.len().saturating_sub(MACS);
        let mut state = self.mac1.clone();
        Update::update(&mut state, &message[..covered]);
        state.finalize_fixed().into()
    }

    /// Seals a cookie for whoever sent a message with this first authenticator.
    pub fn seal_cookie(&self, cookie: &Mac, nonce: &[u8; 24], mac1: &Mac) -> [u8; 32] {
        let mut sealed = [0; 32];
        let (body, tag) = sealed.split_at_mut(16);
        body.copy_from_slice(cookie);
        let made = self
            .cookie
            .encrypt_in_place_detached(XNonce::from_slice(nonce), mac1, body)
            .expect("sixteen bytes are not too long to be sealed");
        tag.copy_from_slice(&made);
        sealed
    }

    /// Opens a cookie that answers a message with this first authenticator.
    pub fn open_cookie(&self, sealed: &[u8; 32], nonce: &[u8; 24], mac1: &Mac) -> Option<Mac> {
        let (body, tag) = sealed.split_at(16);
        let mut cookie: Mac = body.try_into().ok()?;
        self.cookie
            .decrypt_in_place_detached(
                XNonce::from_slice(nonce),
                mac1,
                &mut cookie,
                Tag::from_slice(tag),
            )
            .ok()?;
        Some(cookie)
    }
}

impl fmt::Debug for ReceiverKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverKeys(..)")
    }
}

/// Writes the authenticators of what we send to one peer.
#[derive(Debug)]
pub struct Stamp {
    receiver: ReceiverKeys,
    /// Of the last message; a cookie answers it.
    last_mac1: Option<Mac>,
    cookie: Option<(Mac, Instant)>,
}

impl Stamp {
    /// For messages to the owner of this key.
    pub fn new(receiver: &WireGuardKey) -> Self {
        Self {
            receiver: ReceiverKeys::new(receiver),
            last_mac1: None,
            cookie: None,
        }
    }

    /// Fills the last [`MACS`] bytes of a handshake message.
    pub fn stamp(&mut self, message: &mut [u8], now: Instant) {
        let mac1 = self.receiver.mac1(message);
        let end = message.len();
        message[end - 32..end - 16].copy_from_slice(&mac1);
        self.last_mac1 = Some(mac1);
        self.cookie
            .take_if(|(_, at)| now.saturating_duration_since(*at) >= COOKIE_LIFE);
        if let Some((cookie, _)) = &self.cookie {
            let mac2 = mac(cookie, &[&message[..end - 16]]);
            message[end - 16..].copy_from_slice(&mac2);
        }
    }

    /// Takes a cookie; false if it answers nothing that we sent.
    pub fn take_cookie(&mut self, sealed: &[u8; 32], nonce: &[u8; 24], now: Instant) -> bool {
        let opened = self
            .last_mac1
            .and_then(|mac1| self.receiver.open_cookie(sealed, nonce, &mac1));
        let Some(cookie) = opened else { return false };
        self.cookie = Some((cookie, now));
        // One answer to each message: a second copy changes nothing.
        self.last_mac1 = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_only_by_whom_it_answers() {
        let keys = ReceiverKeys::new(&WireGuardKey::from_bytes([7; 32]));
        let sealed = keys.seal_cookie(&[1; 16], &[2; 24], &[3; 16]);
        assert_eq!(keys.open_cookie(&sealed, &[2; 24], &[3; 16]), Some([1; 16]));
        assert_eq!(keys.open_cookie(&sealed, &[2; 24], &[4; 16]), None);
        assert_eq!(keys.open_cookie(&sealed, &[9; 24], &[3; 16]), None);
    }

    #[test]
    fn a_cookie_is_used_until_it_is_too_old() {
        let now = Instant::now();
        let receiver = WireGuardKey::from_bytes([7; 32]);
        let mut stamp = Stamp::new(&receiver);
        let mut message = [0; 148];
        stamp.stamp(&mut message, now);
        assert_eq!(message[132..], [0; 16]);
        let mac1: Mac = message[116..132].try_into().unwrap();
        let sealed = ReceiverKeys::new(&receiver).seal_cookie(&[1; 16], &[2; 24], &mac1);
        assert!(stamp.take_cookie(&sealed, &[2; 24], now));
        stamp.stamp(&mut message, now);
        assert_ne!(message[132..], [0; 16]);
        message[132..].fill(0);
        stamp.stamp(&mut message, now + COOKIE_LIFE);
        assert_eq!(message[132..], [0; 16]);
    }
}
