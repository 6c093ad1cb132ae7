//! Did this client lately hear from the server at the address that it sends from? (RFC 8489 section 9.2)
//!
//! A nonce is a time and a MAC over that time and the client, so that nothing is kept for strangers. It has 16 characters:
//! an answer with one is at most three times as long as its request.

use data_encoding::BASE64URL;
use zeroize::Zeroizing;

use super::Client;

/// Longer than a client is silent that keeps its permissions alive, which last 300 s.
const LIFETIME: u32 = 600;

/// Hands out nonces and checks them.
pub(crate) struct Nonces {
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl Nonces {
    /// `key` is random.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self {
            key: Zeroizing::new(key),
        }
    }

    /// A nonce for this client. `now` is in seconds since the Unix epoch.
    pub(crate) fn issue(&self, client: Client, now: u64) -> String {
        self.at(client, seconds(now))
    }

    /// Whether this nonce was issued to this client lately.
    pub(crate) fn is_fresh(&self, nonce: &str, client: Client, now: u64) -> bool {
        let Ok(bytes) = BASE64URL.decode(nonce.as_bytes()) else {
            return false;
        };
        let Some((time, _)) = bytes.split_first_chunk::<4>() else {
            return false;
        };
        let issued = u32::from_be_bytes(*time);
        // A wrong guess tells nothing but that it is wrong, and 64 bits are not guessed byte by byte from afar.
        seconds(now).wrapping_sub(issued) < LIFETIME && self.at(client, issued) == nonce
    }

    fn at(&self, client: Client, issued: u32) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&issued.to_be_bytes());
        hasher.update(client.to_string().as_bytes());
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&issued.to_be_bytes());
        bytes[4..].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        BASE64URL.encode(&bytes)
    }
}

/// Seconds modulo 2^32, which is enough to tell ten minutes.
fn seconds(now: u64) -> u32 {
    u32::try_from(now & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Transport;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_nonce_is_good_for_its_client_and_for_ten_minutes() {
        let nonces = Nonces::new([1; 32]);
        let client = |text: &str, transport| Client {
            transport,
            address: text.parse().unwrap(),
        };
        let own = client("198.51.100.7:5000", Transport::Udp);
        let nonce = nonces.issue(own, NOW);
        assert_eq!(nonce.len(), 16);
        assert!(nonces.is_fresh(&nonce, own, NOW));
        assert!(nonces.is_fresh(&nonce, own, NOW + 599));
        assert!(!nonces.is_fresh(&nonce, own, NOW + 600));
        assert!(!nonces.is_fresh(&nonce, own, NOW - 1));
        for other in [
            client("198.51.100.7:5001", Transport::Udp),
            client("198.51.100.8:5000", Transport::Udp),
            client("198.51.100.7:5000", Transport::Tcp),
        ] {
            assert!(!nonces.is_fresh(&nonce, other, NOW));
        }
        for bad in ["", "AAAA", "!", "AAAAAAAAAAAAAAAA", &nonce[..15]] {
            assert!(!nonces.is_fresh(bad, own, NOW), "{bad}");
        }
    }
}
