//! How much of the relay may one member use, and one address?
//!
//! Keys cost nothing on a server where anybody may make a network, so what a member may use is bounded by its address too;
//! who has an IPv6 /48 has 65,536 of these, so that is bounded as well; and so is the server as a whole.
//! Pure; the caller tells the time.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use mesh_wire::NodeId;

use crate::rate::{site_key, source_key};

/// Allocations of one member at once. A daemon needs one for each way it reaches the server (IPv4, IPv6, TCP), and
/// again as many while it changes networks.
pub(crate) const MAX_PER_MEMBER: usize = 10;

/// Allocations of one address at once (IPv6: of a /64): an eighth of what the server has, and enough for the homes that
/// share the address of a carrier's NAT.
pub(crate) const MAX_PER_SOURCE: usize = 256;

/// Allocations of one IPv6 /48 at once: a quarter of what the server has. It is what one customer gets (RFC 6177), or what some
/// hundred homes of one provider share.
pub(crate) const MAX_PER_SITE: usize = 512;

/// Bytes per second that one member may have relayed, both ways together: 100 Mbit/s, more than homes without a direct
/// path mostly send, and a tenth of what a small server has.
pub const BYTES_PER_SECOND: u64 = 12_500_000;

/// What may come at once is this part of a second's worth: as much as a relay's socket buffers hold on either side.
const BURST: u64 = 4;

/// And never less than a train of datagrams, which is judged at one moment.
const LEAST_BURST: u64 = 65_536;

/// So many times what a member may have relayed, all members of one address together may.
const SOURCE_SHARE: u64 = 5;

/// The same of all members of one /48.
const SITE_SHARE: u64 = 8;

/// The same of everybody: 1 Gbit/s, what the interface of a small server carries.
const SERVER_SHARE: u64 = 10;

/// Why there is no further allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// The member has all that it may have, and where it asks from has room.
    Member,
    /// Its address has, or its IPv6 /48, with all the members there.
    Place,
    /// The server has.
    Server,
}

/// Who uses the relay: a member, from an address.
pub(crate) type User = (NodeId, IpAddr);

/// Whom a use is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Payer {
    Member(NodeId),
    Source(IpAddr),
    /// An IPv6 /48.
    Site(IpAddr),
    Server,
}

#[derive(Debug)]
struct Usage {
    allocations: usize,
    /// Bytes of the burst that are left.
    left: u64,
    at: Instant,
}

/// What members and addresses use.
#[derive(Debug)]
pub(crate) struct Quotas {
    limit: usize,
    /// Bytes that one member may have relayed in a second; the others may so many times that.
    rate: u64,
    total: usize,
    usage: HashMap<Payer, Usage>,
}

impl Quotas {
    /// `limit` is the number of allocations of all members together, `rate` what one may have relayed, in bytes per second.
    pub(crate) fn new(limit: usize, rate: u64) -> Self {
        Self {
            limit,
            rate,
            total: 0,
            usage: HashMap::new(),
        }
    }

    /// Counts one more allocation of a member, if it may have one.
    pub(crate) fn admit(&mut self, user: User, now: Instant) -> Result<(), Exhausted> {
        let is_full = |payer: Payer| {
            let usage = self.usage.get(&payer);
            usage.is_some_and(|usage| usage.allocations >= payer.allocations())
        };
        let full: Vec<Payer> = payers(user).filter(|payer| is_full(*payer)).collect();
        match full[..] {
            [] => {}
            [Payer::Member(_)] => return Err(Exhausted::Member),
            _ => return Err(Exhausted::Place),
        }
        if self.total >= self.limit {
            return Err(Exhausted::Server);
        }
        for payer in payers(user) {
            let usage = self.usage.entry(payer).or_insert_with(|| Usage {
                allocations: 0,
                left: payer.burst(self.rate),
                at: now,
            });
            usage.allocations += 1;
        }
        self.total += 1;
        Ok(())
    }

    /// An allocation of a member is no more.
    pub(crate) fn release(&mut self, user: User) {
        let mut was_there = false;
        for payer in payers(user) {
            if let Some(usage) = self.usage.get_mut(&payer) {
                was_there = true;
                usage.allocations = usage.allocations.saturating_sub(1);
            }
        }
        self.total = self.total.saturating_sub(usize::from(was_there));
    }

    /// Takes `bytes` of what a member may have relayed; `false` if they are too many now.
    pub(crate) fn take(&mut self, user: User, bytes: usize, now: Instant) -> bool {
        let bytes = bytes as u64;
        for payer in payers(user) {
            let Some(usage) = self.usage.get_mut(&payer) else {
                return false;
            };
            usage.refill(payer, self.rate, now);
            if usage.left < bytes {
                return false;
            }
        }
        for payer in payers(user) {
            if let Some(usage) = self.usage.get_mut(&payer) {
                usage.left = usage.left.saturating_sub(bytes);
            }
        }
        true
    }

    /// Forgets those without allocations, once their burst is whole again: an allocation ended and made anew must not
    /// bring a new burst.
    pub(crate) fn forget_idle(&mut self, now: Instant) {
        self.usage.retain(|payer, usage| {
            usage.refill(*payer, self.rate, now);
            usage.allocations > 0 || usage.left < payer.burst(self.rate)
        });
    }
}

fn payers((node, source): User) -> impl Iterator<Item = Payer> {
    let own = [Payer::Member(node), Payer::Source(source_key(source))];
    let site = site_key(source).map(Payer::Site);
    own.into_iter().chain(site).chain([Payer::Server])
}

impl Payer {
    fn allocations(self) -> usize {
        match self {
            Self::Member(_) => MAX_PER_MEMBER,
            Self::Source(_) => MAX_PER_SOURCE,
            Self::Site(_) => MAX_PER_SITE,
            // Counted as the total.
            Self::Server => usize::MAX,
        }
    }

    fn share(self) -> u64 {
        match self {
            Self::Member(_) => 1,
            Self::Source(_) => SOURCE_SHARE,
            Self::Site(_) => SITE_SHARE,
            Self::Server => SERVER_SHARE,
        }
    }

    fn burst(self, rate: u64) -> u64 {
        (rate.saturating_mul(self.share()) / BURST).max(LEAST_BURST)
    }
}

impl Usage {
    fn refill(&mut self, payer: Payer, rate: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let more = micros.saturating_mul(rate.saturating_mul(payer.share())) / 1_000_000;
        // Packets follow each other faster than in microseconds; what they leave over must add up.
        if more > 0 {
            self.left = self.left.saturating_add(more).min(payer.burst(rate));
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MEMBERS_BURST: u64 = BYTES_PER_SECOND / BURST;

    /// A member at an address of its own.
    fn user(number: u8) -> User {
        (NodeId::from_bytes([number; 32]), [192, 0, 2, number].into())
    }

    /// One of many members in one /64.
    fn at_one(number: usize) -> User {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let source = [0x2a00, 1, 2, 3, 0, 0, 0, number as u16];
        (NodeId::from_bytes(bytes), source.into())
    }

    #[test]
    fn a_member_has_its_allocations_and_the_server_its_own() {
        let now = Instant::now();
        let mut quotas = Quotas::new(MAX_PER_MEMBER + 1, BYTES_PER_SECOND);
        for _ in 0..MAX_PER_MEMBER {
            assert_eq!(quotas.admit(user(1), now), Ok(()));
        }
        assert_eq!(quotas.admit(user(1), now), Err(Exhausted::Member));
        assert_eq!(quotas.admit(user(2), now), Ok(()));
        assert_eq!(quotas.admit(user(2), now), Err(Exhausted::Server));
        quotas.release(user(1));
        assert_eq!(quotas.admit(user(2), now), Ok(()));
    }

    #[test]
    fn a_full_place_is_told_from_a_member_that_has_all_it_may_have() {
        let (mut quotas, now) = (Quotas::new(usize::MAX, BYTES_PER_SECOND), Instant::now());
        for number in 0..MAX_PER_SOURCE {
            assert_eq!(quotas.admit(at_one(number), now), Ok(()));
        }
        // Nothing that one of them gives up elsewhere makes room here.
        assert_eq!(
            quotas.admit(at_one(MAX_PER_SOURCE), now),
            Err(Exhausted::Place)
        );
        for _ in 0..MAX_PER_MEMBER {
            assert_eq!(quotas.admit(user(1), now), Ok(()));
        }
        assert_eq!(quotas.admit(user(1), now), Err(Exhausted::Member));
    }

    #[test]
    fn the_least_rate_lets_a_whole_train_through() {
        let (mut quotas, start) = (Quotas::new(1, 125_000), Instant::now());
        quotas.admit(user(1), start).unwrap();
        for second in 0..3 {
            let now = start + Duration::from_secs(second);
            assert!(quotas.take(user(1), 45 * 1_400, now), "second {second}");
        }
    }

    #[test]
    fn a_member_has_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10, BYTES_PER_SECOND);
        quotas.admit(user(1), start).unwrap();
        quotas.admit(user(2), start).unwrap();
        let mut taken = 0;
        while quotas.take(user(1), 1_000, start) {
            taken += 1_000;
        }
        assert_eq!(taken, MEMBERS_BURST);
        assert!(quotas.take(user(2), 1_000, start));
        assert!(!quotas.take(user(3), 1, start));
        // In steps shorter than a byte's time nothing is lost and nothing is won.
        let mut now = start;
        let mut taken = 0;
        for _ in 0..1_000_000 {
            now += Duration::from_nanos(100);
            if quotas.take(user(1), 1_000, now) {
                taken += 1_000;
            }
        }
        let fair = BYTES_PER_SECOND / 10;
        assert!(taken <= fair && taken >= fair * 9 / 10, "{taken} of {fair}");
    }

    #[test]
    fn a_new_allocation_brings_no_new_burst() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10, BYTES_PER_SECOND);
        quotas.admit(user(1), start).unwrap();
        assert!(quotas.take(user(1), MEMBERS_BURST as usize, start));
        quotas.release(user(1));
        quotas.forget_idle(start);
        quotas.admit(user(1), start).unwrap();
        assert!(!quotas.take(user(1), 1_000, start));
        quotas.release(user(1));
        quotas.forget_idle(start + Duration::from_secs(1));
        assert!(quotas.usage.is_empty());
    }

    #[test]
    fn many_members_of_one_address_share_what_it_may_use() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10_000, BYTES_PER_SECOND);
        let admitted = (0..1_000).filter(|n| quotas.admit(at_one(*n), start).is_ok());
        assert_eq!(admitted.count(), MAX_PER_SOURCE);
        assert_eq!(quotas.admit(user(1), start), Ok(()));
        let taken =
            (0..MAX_PER_SOURCE).filter(|n| quotas.take(at_one(*n), MEMBERS_BURST as usize, start));
        assert_eq!(taken.count() as u64, SOURCE_SHARE);
        assert!(quotas.take(user(1), MEMBERS_BURST as usize, start));
        quotas.release(at_one(0));
        assert_eq!(quotas.admit(at_one(1_000), start), Ok(()));
    }

    /// A member of its own in a /64 of its own of this /48.
    fn in_site(site: u16, network: u16) -> User {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&site.to_be_bytes());
        bytes[2..4].copy_from_slice(&network.to_be_bytes());
        let source = [0x2a00, 1, site, network, 0, 0, 0, 1];
        (NodeId::from_bytes(bytes), source.into())
    }

    #[test]
    fn many_networks_of_one_site_share_what_it_may_use() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10_000, BYTES_PER_SECOND);
        let admitted = (0..1_000).filter(|n| quotas.admit(in_site(1, *n), start).is_ok());
        assert_eq!(admitted.count(), MAX_PER_SITE);
        assert_eq!(quotas.admit(in_site(2, 0), start), Ok(()));
        let taken = (0..512).filter(|n| quotas.take(in_site(1, *n), MEMBERS_BURST as usize, start));
        assert_eq!(taken.count() as u64, SITE_SHARE);
        assert!(quotas.take(in_site(2, 0), MEMBERS_BURST as usize, start));
    }

    #[test]
    fn all_together_have_what_the_server_carries() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10_000, BYTES_PER_SECOND);
        for site in 0..100 {
            quotas.admit(in_site(site, 0), start).unwrap();
        }
        let taken =
            (0..100).filter(|site| quotas.take(in_site(*site, 0), MEMBERS_BURST as usize, start));
        assert_eq!(taken.count() as u64, SERVER_SHARE);
    }
}
