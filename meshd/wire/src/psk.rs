//! What is the network's shared secret, and what is derived from it for whom?

use data_encoding::BASE32_NOPAD;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{DecodeError, WireGuardKey};

/// The network's pre-shared key: 32 random bytes, known to members only. Travels in a join link's fragment,
/// which no client sends to a server.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct NetworkPsk([u8; 32]);

impl NetworkPsk {
    /// Wraps 32 bytes from a cryptographic random source.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself, to be stored in a file that only its owner reads.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// 58 characters of lower-case base32: the key and 4 bytes of checksum, so that a cut or mistyped link is
    /// noticed before it is used.
    pub fn to_text(&self) -> String {
        let mut bytes = [0_u8; 36];
        let (key, sum) = bytes.split_at_mut(32);
        key.copy_from_slice(&self.0);
        sum.copy_from_slice(&checksum(&self.0));
        let text = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
        bytes.zeroize();
        text
    }

    /// The inverse of [`Self::to_text`].
    pub fn from_text(text: &str) -> Result<Self, DecodeError> {
        const WHAT: &str = "network secret";
        let bytes = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| DecodeError::new(WHAT, "is cut short or not base32"))?;
        let (key, sum) = bytes
            .split_first_chunk::<32>()
            .ok_or(DecodeError::new(WHAT, "is cut short"))?;
        if sum != checksum(key) {
            return Err(DecodeError::new(
                WHAT,
                "is cut short or mistyped (checksum differs)",
            ));
        }
        Ok(Self(*key))
    }

    /// The preshared key of the WireGuard session between two members. Symmetric in its arguments.
    pub fn session_psk(&self, a: &WireGuardKey, b: &WireGuardKey) -> [u8; 32] {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut hasher = blake3::Hasher::new_derive_key("meshd 2026-11 session psk v1");
        hasher
            .update(&self.0)
            .update(low.as_bytes())
            .update(high.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The bearer token that proves to the discovery server that its holder may join. The secret cannot be
    /// computed from it.
    pub fn admission_token(&self) -> String {
        let token = blake3::derive_key("meshd 2026-11 admission token v1", &self.0);
        BASE32_NOPAD.encode(&token).to_ascii_lowercase()
    }
}

impl std::fmt::Debug for NetworkPsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NetworkPsk(..)")
    }
}

fn checksum(key: &[u8; 32]) -> [u8; 4] {
    let [a, b, c, d, ..] = blake3::derive_key("meshd 2026-11 link checksum v1", key);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_survives_and_notices_damage() {
        let psk = NetworkPsk::from_bytes([42; 32]);
        let text = psk.to_text();
        assert_eq!(text.len(), 58);
        assert_eq!(NetworkPsk::from_text(&text), Ok(psk));
        for cut in 0..text.len() {
            assert!(NetworkPsk::from_text(&text[..cut]).is_err(), "{cut}");
        }
        let typo = text.replacen('f', "g", 1);
        assert_ne!(typo, text);
        assert!(NetworkPsk::from_text(&typo).is_err());
    }

    #[test]
    fn a_session_psk_is_the_same_on_both_sides_and_differs_per_pair() {
        let psk = NetworkPsk::from_bytes([1; 32]);
        let [a, b, c] = [1, 2, 3].map(|n| WireGuardKey::from_bytes([n; 32]));
        assert_eq!(psk.session_psk(&a, &b), psk.session_psk(&b, &a));
        assert_ne!(psk.session_psk(&a, &b), psk.session_psk(&a, &c));
    }

    #[test]
    fn nothing_of_the_secret_is_printed() {
        assert_eq!(
            format!("{:?}", NetworkPsk::from_bytes([0xAB; 32])),
            "NetworkPsk(..)"
        );
    }
}
