//! What does the public server do for the hosts? STUN binding answers, and a mailbox for signals.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_wire::discovery::{SIGNAL_REFILL, SIGNALS_AT_ONCE};
use rand::{Rng, RngExt};

use crate::{
    network::HostId,
    turn::{Relay, Sent},
};

/// RFC 8489 section 5.
const MAGIC_COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0, 0x20];

/// What the mailbox does to signals between arriving and leaving.
#[derive(Debug, Clone, Copy)]
pub struct Mailbox {
    /// At least this long.
    pub delay: Duration,
    /// Up to this much more, drawn per signal, so that later ones may overtake.
    pub jitter: Duration,
    /// Share that vanishes, 0 to 1.
    pub loss: f64,
    /// Share that is delivered twice, 0 to 1.
    pub duplicate: f64,
}

impl Mailbox {
    /// A mailbox that does its work.
    pub const fn prompt() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
        }
    }

    /// When the copies of a signal leave: none, one or two.
    pub fn departures(&self, now: Instant, rng: &mut impl Rng) -> Vec<Instant> {
        if rng.random_bool(self.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.random_bool(self.duplicate));
        (0..copies)
            .map(|_| now + self.delay + self.jitter.mul_f64(rng.random::<f64>()))
            .collect()
    }
}

/// Whose signals were forwarded, and whose were too many: as the discovery server does.
#[derive(Debug, Default)]
pub struct Postage {
    /// Of each sender: from when on it may send as many at once as anybody.
    used_up: BTreeMap<HostId, Instant>,
    /// Those that were not forwarded because there were too many.
    pub refused: usize,
    /// Those that were, by sender.
    pub forwarded: BTreeMap<HostId, usize>,
}

impl Postage {
    /// Whether a signal of this host is forwarded now.
    pub fn take(&mut self, from: HostId, now: Instant) -> bool {
        let used_up = self.used_up.entry(from).or_insert(now);
        let after = (*used_up).max(now) + SIGNAL_REFILL;
        let may = after <= now + SIGNAL_REFILL * SIGNALS_AT_ONCE;
        if may {
            *used_up = after;
            *self.forwarded.entry(from).or_default() += 1;
        } else {
            self.refused += 1;
        }
        may
    }
}

/// The server.
#[derive(Debug)]
pub struct SimServer {
    /// Where STUN is asked.
    pub stun: SocketAddr,
    /// While false it neither answers nor forwards.
    pub is_up: bool,
    /// Its TURN, where it has one.
    pub relay: Option<Relay>,
    /// May be changed at any time.
    pub mailbox: Mailbox,
    /// How many signals it forwards.
    pub postage: Postage,
}

impl SimServer {
    /// Takes a datagram for an address of the server.
    pub fn receive(
        &mut self,
        (from, to): (SocketAddr, SocketAddr),
        datagram: &[u8],
        now: Instant,
    ) -> Vec<Sent> {
        match &mut self.relay {
            Some(relay) if !datagram.starts_with(&BINDING_REQUEST) || relay.relays(to) => {
                relay.receive((from, to), datagram, now)
            }
            Some(_) | None => vec![Sent {
                from: self.stun,
                to: from,
                bytes: self.answer(from, datagram),
            }],
        }
    }

    /// Answers a datagram from `observed`.
    ///
    /// # Panics
    /// If it is not a Binding request: nothing else is any of the server's business.
    pub fn answer(&self, observed: SocketAddr, datagram: &[u8]) -> Vec<u8> {
        assert!(
            datagram.len() == 20
                && datagram[..2] == BINDING_REQUEST
                && datagram[4..8] == MAGIC_COOKIE.to_be_bytes(),
            "the server got something that is no Binding request: {datagram:?}"
        );
        let IpAddr::V4(ip) = observed.ip() else {
            panic!("the simulated Internet is IPv4");
        };
        let mut answer = Vec::with_capacity(32);
        answer.extend_from_slice(&BINDING_SUCCESS);
        answer.extend_from_slice(&12_u16.to_be_bytes());
        answer.extend_from_slice(&datagram[4..20]);
        answer.extend_from_slice(&XOR_MAPPED_ADDRESS);
        answer.extend_from_slice(&8_u16.to_be_bytes());
        answer.extend_from_slice(&[0, 1]);
        let [high, low, ..] = MAGIC_COOKIE.to_be_bytes();
        let port = observed.port() ^ u16::from_be_bytes([high, low]);
        answer.extend_from_slice(&port.to_be_bytes());
        answer.extend_from_slice(&(ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
        answer
    }
}
