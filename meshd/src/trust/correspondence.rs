//! How are letters between members sealed, so that the discovery server can only forward them?
//!
//! XChaCha20-Poly1305 under a key that only the two have: BLAKE3 over the Curve25519 secret of their session keys and the
//! session's preshared key. Network, sender and receiver are under the seal, so none can be turned round or aside.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use data_encoding::BASE64;
use mesh_wire::{
    DecodeError, NetworkId, NodeId, WireGuardKey,
    discovery::MAX_SIGNAL,
    letter::{Content, Letter},
    peer_info::PeerRecord,
    psk::NetworkPsk,
};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const WHAT: &str = "sealed letter";
const NONCE: usize = 24;

/// Seals and opens this node's letters.
pub struct Correspondence {
    network: NetworkId,
    node_id: NodeId,
    secret: StaticSecret,
    psk: NetworkPsk,
    written: (u64, u32),
    /// The number of the newest letter of each member that was opened.
    read: BTreeMap<NodeId, (u64, u32)>,
}

impl Correspondence {
    /// That of the node with this identity and session key.
    pub fn new(network: NetworkId, node_id: NodeId, secret: &[u8; 32], psk: NetworkPsk) -> Self {
        Self {
            network,
            node_id,
            secret: StaticSecret::from(*secret),
            psk,
            written: (0, 0),
            read: BTreeMap::new(),
        }
    }

    /// Seals for `to`, as the server takes it. `seq` is that of our own record as it stands.
    pub fn seal(&mut self, to: &PeerRecord, seq: u64, content: Content) -> Option<String> {
        let sealed = self.seal_bytes(to, seq, content)?;
        Some(BASE64.encode(&sealed))
    }

    /// As [`Self::seal`], for those who carry bytes.
    pub fn seal_bytes(&mut self, to: &PeerRecord, seq: u64, content: Content) -> Option<Vec<u8>> {
        self.written = next_number(self.written, seq, SystemTime::now())?;
        let letter = Letter {
            number: self.written,
            content,
        };
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload {
            msg: &letter.to_bytes(),
            aad: &self.context(&self.node_id, &to.node_id),
        };
        let sealed = self.cipher(&to.wireguard_key)?;
        let sealed = sealed.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens what `from` is said to have written.
    ///
    /// # Errors
    /// If it did not write that, or it was read before, or it was written before the record that we have of it.
    pub fn open(&mut self, from: &PeerRecord, payload: &str) -> Result<Content, DecodeError> {
        let wrong = |why| DecodeError::new(WHAT, why);
        if payload.len() > MAX_SIGNAL {
            return Err(wrong("is too long"));
        }
        let bytes = BASE64
            .decode(payload.as_bytes())
            .map_err(|_| wrong("is not base64"))?;
        self.open_bytes(from, &bytes)
    }

    /// As [`Self::open`], from what [`Self::seal_bytes`] made.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_bytes(&mut self, from: &PeerRecord, bytes: &[u8]) -> Result<Content, DecodeError> {
        let wrong = |why| DecodeError::new(WHAT, why);
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE>()
            .ok_or_else(|| wrong("is cut short"))?;
        let payload = Payload {
            msg: sealed,
            aad: &self.context(&from.node_id, &self.node_id),
        };
        let opened = self
            .cipher(&from.wireguard_key)
            .and_then(|cipher| cipher.decrypt(&XNonce::from(*nonce), payload).ok())
            .ok_or_else(|| wrong("was not written by its sender for us"))?;
        let letter = Letter::read(&opened)?;
        let newest = self.read.get(&from.node_id);
        if newest.is_some_and(|newest| letter.number <= *newest) || letter.number.0 < from.seq {
            return Err(wrong("is an old one"));
        }
        self.read.insert(from.node_id, letter.number);
        Ok(letter.content)
    }

    fn cipher(&self, peer: &WireGuardKey) -> Option<XChaCha20Poly1305> {
        let shared = self
            .secret
            .diffie_hellman(&PublicKey::from(*peer.as_bytes()));
        // A key of small order would give a secret that everybody knows.
        if !shared.was_contributory() {
            return None;
        }
        let own = WireGuardKey::from_bytes(PublicKey::from(&self.secret).to_bytes());
        let psk = Zeroizing::new(self.psk.session_psk(&own, peer));
        let mut hasher = blake3::Hasher::new_derive_key("meshd 2026-11 letter v1");
        hasher.update(shared.as_bytes()).update(&*psk);
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        Some(XChaCha20Poly1305::new(&(*key).into()))
    }

    fn context(&self, from: &NodeId, to: &NodeId) -> Vec<u8> {
        let ids = [&from.as_bytes()[..], to.as_bytes()].concat();
        [self.network.as_str().as_bytes(), &[0], &ids].concat()
    }
}

/// A number greater than any before, also than those of an earlier run under the same record: counted from when that was
/// signed, in steps of which nobody writes as many.
fn next_number(last: (u64, u32), seq: u64, now: SystemTime) -> Option<(u64, u32)> {
    const STEP_MS: u128 = 64;
    let signed = UNIX_EPOCH + Duration::from_secs(seq);
    let steps = now
        .duration_since(signed)
        .map_or(0, |age| age.as_millis() / STEP_MS);
    let steps = u32::try_from(steps).unwrap_or(u32::MAX / 2);
    match last {
        (same, count) if same == seq => Some((seq, count.checked_add(1)?.max(steps))),
        _ => Some((seq, steps)),
    }
}

impl std::fmt::Debug for Correspondence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correspondence").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mesh_wire::signal::Signal;

    use super::*;

    fn network() -> NetworkId {
        "my-network".parse().unwrap()
    }

    fn of(number: u8) -> (Correspondence, PeerRecord) {
        let key = SigningKey::from_bytes(&[number; 32]);
        let secret = [number; 32];
        let public = PublicKey::from(&StaticSecret::from(secret)).to_bytes();
        let public = WireGuardKey::from_bytes(public);
        let psk = NetworkPsk::from_bytes([9; 32]);
        (
            Correspondence::new(network(), NodeId::of(&key), &secret, psk),
            PeerRecord::sign(&key, &network(), public, "host", (7, 1)).unwrap(),
        )
    }

    fn content() -> Content {
        Content::Signal(Signal {
            ufrag: "abcd".into(),
            pwd: "0123456789abcdefghijkl".into(),
            remote_ufrag: None,
            candidates: Vec::new(),
        })
    }

    #[test]
    fn only_the_receiver_opens_a_letter_and_only_once() {
        let [
            (mut alice, of_alice),
            (mut bob, of_bob),
            (mut carol, of_carol),
        ] = [1, 2, 3].map(of);
        let sealed = alice.seal(&of_bob, 7, content()).unwrap();
        assert!(!sealed.contains("ufrag"));
        assert!(carol.open(&of_alice, &sealed).is_err());
        assert!(
            bob.open(&of_carol, &sealed).is_err(),
            "said to be of another"
        );
        assert!(alice.open(&of_bob, &sealed).is_err(), "turned round");
        assert_eq!(bob.open(&of_alice, &sealed), Ok(content()));
        assert!(bob.open(&of_alice, &sealed).is_err(), "again");
        let next = alice.seal(&of_bob, 7, content()).unwrap();
        let later = alice.seal(&of_bob, 8, content()).unwrap();
        assert_eq!(bob.open(&of_alice, &later), Ok(content()));
        assert!(bob.open(&of_alice, &next).is_err(), "overtaken");
    }

    #[test]
    fn no_bit_of_a_letter_can_be_changed() {
        let [(mut alice, of_alice), (mut bob, of_bob)] = [1, 2].map(of);
        let sealed = alice.seal(&of_bob, 7, content()).unwrap();
        let bytes = BASE64.decode(sealed.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                bob.open(&of_alice, &BASE64.encode(&changed)).is_err(),
                "{at}"
            );
            assert!(bob.open(&of_alice, &BASE64.encode(&bytes[..at])).is_err());
        }
        assert_eq!(bob.open(&of_alice, &sealed), Ok(content()));
    }

    #[test]
    fn a_letter_from_before_the_senders_record_is_not_read() {
        let [(mut alice, of_alice), (mut bob, of_bob)] = [1, 2].map(of);
        let old = alice.seal(&of_bob, 6, content()).unwrap();
        assert!(bob.open(&of_alice, &old).is_err());
    }

    #[test]
    fn numbers_rise_also_after_a_restart_under_the_same_record() {
        let signed = UNIX_EPOCH + Duration::from_secs(7);
        let mut last = (0, 0);
        for _ in 0..100 {
            let next = next_number(last, 7, signed).unwrap();
            assert!(next > last);
            last = next;
        }
        let restarted = next_number((0, 0), 7, signed + Duration::from_secs(10)).unwrap();
        assert!(restarted > last);
        assert!(next_number(last, 8, signed).unwrap() > restarted);
        assert!(
            next_number((7, 5), 7, UNIX_EPOCH).unwrap() > (7, 5),
            "a clock that went back"
        );
    }

    #[test]
    fn a_key_of_small_order_gets_no_letter() {
        let [(mut alice, _), (_, mut of_bob)] = [1, 2].map(of);
        of_bob.wireguard_key = WireGuardKey::from_bytes([0; 32]);
        assert_eq!(alice.seal(&of_bob, 7, content()), None);
    }
}
