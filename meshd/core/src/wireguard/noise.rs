//! The handshake: Noise_IKpsk2 with WireGuard's prologue (paper, section 5.4; Noise Protocol Framework, revision 34).
//! One message each way; both sides then hold the same two keys, one per direction.

use std::fmt;

use mesh_wire::{
    WireGuardKey,
    wireguard::{NOISE_INITIATION, NOISE_RESPONSE},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng},
};
use snow::{
    Builder, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice, NoiseParams},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::timestamp::Timestamp;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where the preshared key is mixed in: the "psk2" of the pattern.
const PSK_PLACE: u8 = 2;

/// The two keys that a finished handshake leaves.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TransportKeys {
    /// For what we send.
    pub send: [u8; 32],
    /// For what we receive.
    pub receive: [u8; 32],
}

impl fmt::Debug for TransportKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransportKeys(..)")
    }
}

/// A handshake that we began.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Begins a handshake with the owner of `peer`. `seed` must never be used again. `None` if `peer` is no usable key.
    pub fn start(
        private: &[u8; 32],
        (peer, psk): (&WireGuardKey, &[u8; 32]),
        timestamp: Timestamp,
        seed: [u8; 32],
    ) -> Option<(Self, [u8; NOISE_INITIATION])> {
        let mut state = builder(private, seed)?
            .remote_public_key(peer.as_bytes())
            .ok()?
            .psk(PSK_PLACE, psk)
            .ok()?
            .build_initiator()
            .ok()?;
        let mut message = [0; NOISE_INITIATION];
        let len = state
            .write_message(timestamp.as_bytes(), &mut message)
            .ok()?;
        (len == NOISE_INITIATION).then_some((Self(state), message))
    }

    /// Takes the peer's response. A message that is not its response changes nothing.
    pub fn finish(&mut self, response: &[u8; NOISE_RESPONSE]) -> Option<TransportKeys> {
        self.0.read_message(response, &mut []).ok()?;
        let (send, receive) = self.0.dangerously_get_raw_split();
        Some(TransportKeys { send, receive })
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

/// A handshake that a peer began, up to the point where we know who it is.
pub struct Responder {
    state: HandshakeState,
    /// The key that the initiator proved to hold, if its timestamp is new.
    pub peer: WireGuardKey,
    /// When it began, by its own clock.
    pub timestamp: Timestamp,
}

impl Responder {
    /// Opens an initiation. `seed` must never be used again. `None` if it is not for our key, damaged, or made with a
    /// key of low order.
    pub fn read(
        private: &[u8; 32],
        message: &[u8; NOISE_INITIATION],
        seed: [u8; 32],
    ) -> Option<Self> {
        let mut state = builder(private, seed)?.build_responder().ok()?;
        let mut timestamp = [0; 12];
        state.read_message(message, &mut timestamp).ok()?;
        let peer: [u8; 32] = state.get_remote_static()?.try_into().ok()?;
        Some(Self {
            state,
            peer: WireGuardKey::from_bytes(peer),
            timestamp: Timestamp::from_bytes(timestamp),
        })
    }

    /// Answers.
    pub fn respond(mut self, psk: &[u8; 32]) -> Option<([u8; NOISE_RESPONSE], TransportKeys)> {
        self.state.set_psk(usize::from(PSK_PLACE), psk).ok()?;
        let mut message = [0; NOISE_RESPONSE];
        self.state.write_message(&[], &mut message).ok()?;
        let (receive, send) = self.state.dangerously_get_raw_split();
        Some((message, TransportKeys { send, receive }))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({})", self.peer)
    }
}

/// The public key that belongs to a private one.
pub fn public_key(private: &[u8; 32]) -> WireGuardKey {
    let mut dh = DefaultResolver
        .resolve_dh(&DHChoice::Curve25519)
        .expect("the resolver was built with Curve25519");
    dh.set(private);
    let public = dh.pubkey().try_into();
    WireGuardKey::from_bytes(public.expect("a public key has 32 bytes"))
}

fn builder(private: &[u8; 32], seed: [u8; 32]) -> Option<Builder<'_>> {
    let params: NoiseParams = PATTERN.parse().ok()?;
    Builder::with_resolver(params, Box::new(Primitives { seed }))
        .prologue(PROLOGUE)
        .ok()?
        .local_private_key(private)
        .ok()
}

/// The library's own primitives, but with our randomness, and without keys of low order.
struct Primitives {
    seed: [u8; 32],
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(ChaCha20Rng::from_seed(self.seed))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let dh = DefaultResolver.resolve_dh(choice)?;
        Some(Box::new(Contributory(dh)))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Seeded(ChaCha20Rng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

/// Refuses a shared secret that a peer could have forced (RFC 7748, section 6.1).
struct Contributory(Box<dyn Dh>);

impl Dh for Contributory {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }

    fn set(&mut self, private: &[u8]) {
        self.0.set(private);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.0.generate(rng)
    }

    fn pubkey(&self) -> &[u8] {
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.dh(public, out)?;
        let secret = out.iter().take(self.0.dh_len());
        if secret.fold(0, |any, byte| any | byte) == 0 {
            return Err(snow::Error::Dh);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PSK: [u8; 32] = [5; 32];

    fn now() -> Timestamp {
        Timestamp::from_unix(Duration::from_secs(1_700_000_000))
    }

    fn initiate(to: &WireGuardKey) -> Option<(Initiator, [u8; NOISE_INITIATION])> {
        Initiator::start(&[1; 32], (to, &PSK), now(), [3; 32])
    }

    #[test]
    fn both_sides_end_with_the_same_keys() {
        let (mut a, message) = initiate(&public_key(&[2; 32])).unwrap();
        let b = Responder::read(&[2; 32], &message, [4; 32]).unwrap();
        assert_eq!((b.peer, b.timestamp), (public_key(&[1; 32]), now()));
        let (response, of_b) = b.respond(&PSK).unwrap();
        let of_a = a.finish(&response).unwrap();
        assert_eq!((of_a.send, of_a.receive), (of_b.receive, of_b.send));
        assert_ne!(of_a.send, of_a.receive);
    }

    #[test]
    fn another_psk_key_or_byte_ends_it() {
        let (mut a, message) = initiate(&public_key(&[2; 32])).unwrap();
        assert!(Responder::read(&[9; 32], &message, [4; 32]).is_none());
        let mut damaged = message;
        damaged[40] ^= 1;
        assert!(Responder::read(&[2; 32], &damaged, [4; 32]).is_none());
        let respond = |psk| {
            Responder::read(&[2; 32], &message, [4; 32])
                .unwrap()
                .respond(psk)
        };
        let (wrong, _) = respond(&[6; 32]).unwrap();
        assert!(a.finish(&wrong).is_none());
        let (right, _) = respond(&PSK).unwrap();
        assert!(
            a.finish(&right).is_some(),
            "a forged response does not spoil the handshake"
        );
    }
}
