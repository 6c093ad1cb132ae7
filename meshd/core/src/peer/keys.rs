//! What all sessions of a node share: its key, its clock and chance, and the guard before its handshakes.

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_wire::{
    WireGuardKey,
    wireguard::{COOKIE_REPLY, Message},
};
use rand::{Rng as _, RngExt as _};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use zeroize::Zeroizing;

use super::table::PeerIdx;
use crate::wireguard::{
    guard::{Guard, Verdict},
    keypair::Uses,
    noise::{Responder, public_key},
    receiver::ReceiverIndices,
    timestamp::Timestamp,
};

/// Our own key and what goes with it.
pub struct SessionKeys {
    private: Zeroizing<[u8; 32]>,
    public: WireGuardKey,
    guard: Guard,
    receivers: ReceiverIndices,
    uses: Uses,
    rng: ChaCha20Rng,
    /// The time since 1970 at some instant.
    clock: (Duration, Instant),
    /// The last timestamp that we sent.
    last: Timestamp,
}

/// What a node's sessions begin with.
pub struct KeyConfig {
    /// Curve25519 private key.
    pub private: [u8; 32],
    /// What sessions are used for beside plain WireGuard.
    pub uses: Uses,
    /// Time since 1970-01-01T00:00:00Z at `now` of [`SessionKeys::new`].
    pub unix_time: Duration,
}

/// Whom a handshake message is for.
#[derive(Debug)]
pub enum Addressee {
    /// An initiation from the owner of this key; the number is its index.
    Initiator(Box<Responder>, u32),
    /// Answers a message of this session.
    Session(PeerIdx),
    /// Too many handshakes: send this back.
    Prove([u8; COOKIE_REPLY]),
    /// Nobody: a wrong authenticator, or not for our key.
    Nobody,
}

impl SessionKeys {
    /// `seed` feeds all keys and indices and must never be used again.
    pub fn new(config: KeyConfig, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let public = public_key(&config.private);
        Self {
            private: Zeroizing::new(config.private),
            public,
            guard: Guard::new(&public),
            receivers: ReceiverIndices::new(&mut rng),
            uses: config.uses,
            rng,
            clock: (config.unix_time, now),
            last: Timestamp::default(),
        }
    }

    /// Time since these were made.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.clock.1)
    }

    /// The time since 1970-01-01T00:00:00Z, by the clock as it was when the node was made.
    pub fn unix_time(&self, now: Instant) -> Duration {
        self.clock.0 + self.age(now)
    }

    /// Our public key.
    pub fn public(&self) -> WireGuardKey {
        self.public
    }

    /// Finds whom a message is for. Costs two short hashes, but for an initiation that deserves more.
    pub fn addressee(
        &mut self,
        (from, datagram): (SocketAddr, &[u8]),
        message: &Message<'_>,
        now: Instant,
    ) -> Addressee {
        match *message {
            Message::Initiation { sender, noise } => {
                match self
                    .guard
                    .judge(datagram, (from, sender), now, &mut self.rng)
                {
                    Verdict::Refuse => return Addressee::Nobody,
                    Verdict::Prove(reply) => return Addressee::Prove(reply),
                    Verdict::Pass => {}
                }
                let seed = self.random();
                Responder::read(&self.private, noise, seed).map_or(Addressee::Nobody, |responder| {
                    Addressee::Initiator(Box::new(responder), sender)
                })
            }
            Message::Response { receiver, .. } if self.guard.is_for_us(datagram) => {
                self.session(receiver)
            }
            Message::Response { .. } => Addressee::Nobody,
            Message::CookieReply { receiver, .. } | Message::Data { receiver, .. } => {
                self.session(receiver)
            }
        }
    }

    fn session(&self, receiver: u32) -> Addressee {
        Addressee::Session(self.receivers.decode(receiver).0)
    }

    /// How sessions are numbered.
    pub fn receivers(&self) -> &ReceiverIndices {
        &self.receivers
    }

    pub(super) fn private(&self) -> &[u8; 32] {
        &self.private
    }

    /// What new sessions are used for beside plain WireGuard.
    pub fn uses(&self) -> Uses {
        self.uses
    }

    /// For the next initiation: later than all before it.
    pub(super) fn timestamp(&mut self, now: Instant) -> Timestamp {
        self.last = Timestamp::from_unix(self.unix_time(now)).after(self.last);
        self.last
    }

    pub(super) fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    pub(super) fn random_below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.rng.random_range(0.0..1.0))
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKeys({})", self.public)
    }
}
