//! How often may one source do something?
//!
//! Pure token buckets; the caller tells the time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Sources that are remembered at once: at about 60 bytes each a flood from many addresses costs 1 MB.
const MAX_SOURCES: usize = 16_384;

/// A burst, and the time after which one more is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) refill: Duration,
}

/// One bucket: how much of the burst is used up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    used: f64,
    at: Instant,
}

impl Bucket {
    /// An unused bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { used: 0.0, at: now }
    }

    /// Takes one if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let allowed = self.has(rate, now);
        if allowed {
            self.used += 1.0;
        }
        allowed
    }

    fn has(&mut self, rate: Rate, now: Instant) -> bool {
        self.drain(rate, now);
        self.used + 1.0 <= f64::from(rate.burst)
    }

    fn drain(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.used = (self.used - passed / rate.refill.as_secs_f64()).max(0.0);
        self.at = now;
    }
}

/// So many times what a source may do, all sources of one IPv6 /48 together may: it is what one customer gets (RFC 6177), or
/// some hundred homes of one provider share.
const SITE_SHARE: u32 = 16;

/// Who pays: a source, or its site; and how many times what a source may do it may.
type Payer = (IpAddr, u32);

/// One bucket per source address; an IPv6 source is its /64, which one host owns as a whole, and shares a bucket with its /48.
#[derive(Debug)]
pub(crate) struct Sources {
    rate: Rate,
    buckets: BTreeMap<Payer, Bucket>,
}

impl Sources {
    /// No source has used anything yet.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: BTreeMap::new(),
        }
    }

    /// Takes one from the buckets of `source`. When too many sources are active at once, new ones are refused.
    pub(crate) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        let rate = self.rate;
        let site = site_key(source).map(|site| (site, SITE_SHARE));
        let payers = std::iter::once((source_key(source), 1)).chain(site);
        let is_allowed = |payer: Payer| {
            let bucket = self.bucket(payer, now);
            bucket.is_some_and(|bucket| bucket.has(rate.times(payer.1), now))
        };
        if !payers.clone().all(is_allowed) {
            return false;
        }
        for payer in payers {
            if let Some(bucket) = self.buckets.get_mut(&payer) {
                bucket.used += 1.0;
            }
        }
        true
    }

    /// The bucket of a payer, if there is room for it.
    fn bucket(&mut self, payer: Payer, now: Instant) -> Option<&mut Bucket> {
        if !self.buckets.contains_key(&payer) && self.buckets.len() >= MAX_SOURCES {
            let rate = self.rate;
            self.buckets.retain(|(_, share), bucket| {
                bucket.drain(rate.times(*share), now);
                bucket.used > 0.0
            });
            if self.buckets.len() >= MAX_SOURCES {
                return None;
            }
        }
        let bucket = self.buckets.entry(payer);
        Some(bucket.or_insert_with(|| Bucket::new(now)))
    }
}

impl Rate {
    fn times(self, share: u32) -> Self {
        Self {
            burst: self.burst.saturating_mul(share),
            refill: self.refill / share,
        }
    }
}

/// The source that an address belongs to: itself, or its /64.
pub(crate) fn source_key(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// The /48 that an IPv6 address belongs to: who has one has 65,536 sources.
pub(crate) fn site_key(source: IpAddr) -> Option<IpAddr> {
    match source.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        refill: Duration::from_secs(10),
    };

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let takes: Vec<bool> = (0..5).map(|_| bucket.take(RATE, start)).collect();
        assert_eq!(takes, [true, true, true, false, false]);
        assert!(!bucket.take(RATE, start + Duration::from_secs(9)));
        assert!(bucket.take(RATE, start + Duration::from_secs(11)));
        assert!(!bucket.take(RATE, start + Duration::from_secs(12)));
    }

    #[test]
    fn sources_do_not_share_a_bucket_but_addresses_of_one_ipv6_network_do() {
        let now = Instant::now();
        let mut sources = Sources::new(RATE);
        let mut take = |text: &str| sources.take(text.parse().unwrap(), now);
        assert!(take("2001:db8::1") && take("2001:db8::2") && take("2001:db8::3"));
        assert!(!take("2001:db8::4"));
        assert!(take("2001:db8:0:1::1"));
        assert!(take("198.51.100.1") && take("198.51.100.1") && take("::ffff:198.51.100.1"));
        assert!(!take("198.51.100.1"));
    }

    #[test]
    fn the_networks_of_one_ipv6_site_share_what_it_may_do() {
        let now = Instant::now();
        let mut sources = Sources::new(RATE);
        let mut take = |site: u16, network: u16| {
            let source = Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1);
            sources.take(source.into(), now)
        };
        let taken = (0..1_000).filter(|network| take(1, *network)).count();
        assert_eq!(taken, (RATE.burst * SITE_SHARE) as usize);
        assert!(take(2, 0), "another one");
    }

    #[test]
    fn memory_is_bounded_and_idle_sources_make_room() {
        let now = Instant::now();
        let mut sources = Sources::new(RATE);
        for n in 0..MAX_SOURCES {
            assert!(sources.take(IpAddr::V4((n as u32).into()), now));
        }
        assert!(!sources.take("198.51.100.1".parse().unwrap(), now));
        let later = now + RATE.refill;
        assert!(sources.take("198.51.100.1".parse().unwrap(), later));
        assert_eq!(sources.buckets.len(), 1);
    }
}
