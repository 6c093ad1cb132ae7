//! Is this handshake message worth the work of answering it? Nothing here costs more than two short hashes, and no
//! state of a peer is touched (paper, section 5.3).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use mesh_wire::{
    WireGuardKey,
    wireguard::{COOKIE_REPLY, MACS, cookie_reply},
};
use rand::RngExt as _;

use super::mac::{COOKIE_LIFE, Mac, ReceiverKeys, equal, mac};

/// Initiations per second, of all senders together, from which on a sender must prove its address. A network of 1,000
/// peers that all come back at once is served within seconds even so.
pub const BUSY_PER_SECOND: u32 = 200;
/// Initiations that one proven source may send at once, and per second in the long run, while we are busy.
const SOURCE_BURST: u32 = 5;
const SOURCE_PER_SECOND: u32 = 20;
/// Sources that are counted; when more are active, the counts begin anew.
const SOURCES: usize = 4096;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Send this back instead: we are busy, and the sender has not proven its address.
    Prove([u8; COOKIE_REPLY]),
    /// Be silent.
    Refuse,
}

/// Judges the handshake messages that come to one node.
#[derive(Debug)]
pub struct Guard {
    keys: ReceiverKeys,
    /// What cookies are made of, and since when.
    secret: Option<([u8; 32], Instant)>,
    /// Initiations since this instant.
    counted: Option<(Instant, u32)>,
    sources: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Guard {
    /// For a node with this public key.
    pub fn new(public: &WireGuardKey) -> Self {
        Self {
            keys: ReceiverKeys::new(public),
            secret: None,
            counted: None,
            sources: BTreeMap::new(),
        }
    }

    /// Whether the first authenticator is right: the sender knows our public key.
    pub fn is_for_us(&self, message: &[u8]) -> bool {
        let (mac1, _) = macs(message);
        equal(&mac1, &self.keys.mac1(message))
    }

    /// Judges an initiation. `sender` is its index.
    pub fn judge(
        &mut self,
        message: &[u8],
        (from, sender): (SocketAddr, u32),
        now: Instant,
        rng: &mut impl rand::Rng,
    ) -> Verdict {
        if !self.is_for_us(message) {
            return Verdict::Refuse;
        }
        if !self.is_busy(now) {
            return Verdict::Pass;
        }
        let cookie = self.cookie(from, now, rng);
        let (mac1, mac2) = macs(message);
        let covered = &message[..message.len().saturating_sub(16)];
        // Who has no cookie leaves it zero, and so does a flood: that needs no hash.
        let is_proven = mac2 != Mac::default() && equal(&mac2, &mac(&cookie, &[covered]));
        if !is_proven {
            let nonce = rng.random();
            let sealed = self.keys.seal_cookie(&cookie, &nonce, &mac1);
            return Verdict::Prove(cookie_reply(sender, &nonce, &sealed));
        }
        if self.has_credit(from.ip(), now) {
            Verdict::Pass
        } else {
            Verdict::Refuse
        }
    }

    /// Counts one more, and says whether there were too many within a second.
    fn is_busy(&mut self, now: Instant) -> bool {
        let (since, count) = self.counted.get_or_insert((now, 0));
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > BUSY_PER_SECOND
    }

    /// The cookie of an address and port.
    fn cookie(&mut self, from: SocketAddr, now: Instant, rng: &mut impl rand::Rng) -> Mac {
        self.secret
            .take_if(|(_, since)| now.saturating_duration_since(*since) >= COOKIE_LIFE);
        let (secret, _) = self.secret.get_or_insert_with(|| (rng.random(), now));
        let port = from.port().to_be_bytes();
        match from.ip() {
            IpAddr::V4(ip) => mac(secret, &[&ip.octets(), &port]),
            IpAddr::V6(ip) => mac(secret, &[&ip.octets(), &port]),
        }
    }

    /// A token bucket for each source; an IPv6 host owns a /64.
    fn has_credit(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = match source {
            IpAddr::V4(_) => source,
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        };
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            self.sources.clear();
        }
        let (since, spent) = self.sources.entry(source).or_insert((now, 0));
        let earned = now.saturating_duration_since(*since).as_millis()
            * u128::from(SOURCE_PER_SECOND)
            / 1000;
        if earned > 0 {
            *spent = spent.saturating_sub(u32::try_from(earned).unwrap_or(u32::MAX));
            *since = now;
        }
        *spent = spent.saturating_add(1).min(SOURCE_BURST + 1);
        *spent <= SOURCE_BURST
    }
}

/// Both authenticators of a handshake message.
fn macs(message: &[u8]) -> (Mac, Mac) {
    let start = message.len().saturating_sub(MACS);
    let mut both = [[0; 16]; 2];
    for (to, from) in both.iter_mut().flatten().zip(&message[start..]) {
        *to = *from;
    }
    let [mac1, mac2] = both;
    (mac1, mac2)
}

#[cfg(test)]
mod tests {
    use mesh_wire::wireguard::{Message, NOISE_INITIATION, initiation};
    use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

    use super::*;
    use crate::wireguard::mac::Stamp;

    const US: WireGuardKey = WireGuardKey::from_bytes([7; 32]);

    struct Flood {
        guard: Guard,
        rng: ChaCha12Rng,
        now: Instant,
    }

    impl Flood {
        fn new() -> Self {
            let rng = ChaCha12Rng::from_seed([1; 32]);
            Self {
                guard: Guard::new(&US),
                rng,
                now: Instant::now(),
            }
        }

        fn judge(&mut self, message: &[u8], from: [u8; 4], port: u16) -> Verdict {
            let from = (SocketAddr::from((from, port)), 9);
            self.guard.judge(message, from, self.now, &mut self.rng)
        }

        fn fill(&mut self, stamp: &mut Stamp) {
            for port in 0..=201 {
                self.judge(&message(stamp, self.now), [9, 9, 9, 9], port);
            }
        }
    }

    fn message(stamp: &mut Stamp, now: Instant) -> [u8; 148] {
        let mut message = initiation(9, &[0; NOISE_INITIATION]);
        stamp.stamp(&mut message, now);
        message
    }

    #[test]
    fn a_message_for_somebody_else_gets_no_answer() {
        let mut flood = Flood::new();
        let mut wrong = Stamp::new(&WireGuardKey::from_bytes([8; 32]));
        let message = message(&mut wrong, flood.now);
        assert_eq!(flood.judge(&message, [1, 1, 1, 1], 1), Verdict::Refuse);
    }

    #[test]
    fn a_busy_node_asks_for_proof_and_then_listens() {
        let (mut flood, mut honest) = (Flood::new(), Stamp::new(&US));
        flood.fill(&mut Stamp::new(&US));
        let first = message(&mut honest, flood.now);
        let Verdict::Prove(reply) = flood.judge(&first, [1, 1, 1, 1], 1) else {
            panic!("not busy")
        };
        let Some(Message::CookieReply {
            receiver: 9,
            nonce,
            sealed,
        }) = Message::parse(&reply)
        else {
            panic!("no cookie")
        };
        assert!(honest.take_cookie(sealed, nonce, flood.now));
        let second = message(&mut honest, flood.now);
        assert!(
            matches!(flood.judge(&second, [1, 1, 1, 2], 1), Verdict::Prove(_)),
            "another address"
        );
        assert!(
            matches!(flood.judge(&second, [1, 1, 1, 1], 2), Verdict::Prove(_)),
            "another port"
        );
        assert_eq!(flood.judge(&second, [1, 1, 1, 1], 1), Verdict::Pass);
    }

    #[test]
    fn a_proven_source_still_has_a_limit_of_its_own() {
        let (mut flood, mut greedy) = (Flood::new(), Stamp::new(&US));
        flood.fill(&mut Stamp::new(&US));
        let first = message(&mut greedy, flood.now);
        let Verdict::Prove(reply) = flood.judge(&first, [1, 1, 1, 1], 1) else {
            panic!("not busy")
        };
        let Some(Message::CookieReply { nonce, sealed, .. }) = Message::parse(&reply) else {
            panic!("no cookie")
        };
        assert!(greedy.take_cookie(sealed, nonce, flood.now));
        let proven = message(&mut greedy, flood.now);
        let passed = (0..100)
            .filter(|_| flood.judge(&proven, [1, 1, 1, 1], 1) == Verdict::Pass)
            .count();
        assert_eq!(passed, 5);
        flood.now += Duration::from_millis(100);
        assert_eq!(flood.judge(&proven, [1, 1, 1, 1], 1), Verdict::Pass);
    }

    #[test]
    fn a_new_second_begins_a_new_count() {
        let mut flood = Flood::new();
        flood.fill(&mut Stamp::new(&US));
        flood.now += Duration::from_secs(1);
        let fresh = message(&mut Stamp::new(&US), flood.now);
        assert_eq!(flood.judge(&fresh, [1, 1, 1, 1], 1), Verdict::Pass);
    }
}
