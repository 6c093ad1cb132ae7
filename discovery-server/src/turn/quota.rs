//! How much of the relay may one member use?
//!
//! Pure; the caller tells the time.

use std::{collections::HashMap, time::Instant};

use mesh_wire::NodeId;

/// Allocations of one member at once. A daemon needs one for each way it reaches the server (IPv4, IPv6, TCP), and
/// again as many while it changes networks.
pub(crate) const MAX_PER_MEMBER: usize = 10;

/// Bytes per second that one member may have relayed, both ways together: 100 Mbit/s, more than homes without a direct
/// path mostly send, and a tenth of what a small server has.
const BYTES_PER_SECOND: u64 = 12_500_000;

/// What may come at once: a quarter of a second's worth, as much as a relay's socket buffers hold on either side.
const BURST: u64 = BYTES_PER_SECOND / 4;

/// Why there is no further allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// The member has all that it may have.
    Member,
    /// The server has.
    Server,
}

#[derive(Debug)]
struct Usage {
    allocations: usize,
    /// Bytes of the burst that are left.
    left: u64,
    at: Instant,
}

/// What members use.
#[derive(Debug)]
pub(crate) struct Quotas {
    limit: usize,
    total: usize,
    members: HashMap<NodeId, Usage>,
}

impl Quotas {
    /// `limit` is the number of allocations of all members together.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            total: 0,
            members: HashMap::new(),
        }
    }

    /// Counts one more allocation of a member, if it may have one.
    pub(crate) fn admit(&mut self, node: NodeId, now: Instant) -> Result<(), Exhausted> {
        let of_member = self.members.get(&node).map_or(0, |usage| usage.allocations);
        if of_member >= MAX_PER_MEMBER {
            return Err(Exhausted::Member);
        }
        if self.total >= self.limit {
            return Err(Exhausted::Server);
        }
        let usage = self.members.entry(node).or_insert(Usage {
            allocations: 0,
            left: BURST,
            at: now,
        });
        usage.allocations += 1;
        self.total += 1;
        Ok(())
    }

    /// An allocation of a member is no more.
    pub(crate) fn release(&mut self, node: &NodeId) {
        if let Some(usage) = self.members.get_mut(node) {
            usage.allocations = usage.allocations.saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }

    /// Takes `bytes` of what a member may have relayed; `false` if they are too many now.
    pub(crate) fn take(&mut self, node: &NodeId, bytes: usize, now: Instant) -> bool {
        let Some(usage) = self.members.get_mut(node) else {
            return false;
        };
        usage.refill(now);
        match usage.left.checked_sub(bytes as u64) {
            Some(left) => {
                usage.left = left;
                true
            }
            None => false,
        }
    }

    /// Forgets members without allocations, once their burst is whole again: an allocation ended and made anew must not
    /// bring a new burst.
    pub(crate) fn forget_idle(&mut self, now: Instant) {
        self.members.retain(|_, usage| {
            usage.refill(now);
            usage.allocations > 0 || usage.left < BURST
        });
    }
}

impl Usage {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let more = micros.saturating_mul(BYTES_PER_SECOND) / 1_000_000;
        // Packets follow each other faster than in microseconds; what they leave over must add up.
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    #[test]
    fn a_member_has_its_allocations_and_the_server_its_own() {
        let now = Instant::now();
        let mut quotas = Quotas::new(MAX_PER_MEMBER + 1);
        for _ in 0..MAX_PER_MEMBER {
            assert_eq!(quotas.admit(node(1), now), Ok(()));
        }
        assert_eq!(quotas.admit(node(1), now), Err(Exhausted::Member));
        assert_eq!(quotas.admit(node(2), now), Ok(()));
        assert_eq!(quotas.admit(node(2), now), Err(Exhausted::Server));
        quotas.release(&node(1));
        assert_eq!(quotas.admit(node(2), now), Ok(()));
    }

    #[test]
    fn a_member_has_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10);
        quotas.admit(node(1), start).unwrap();
        quotas.admit(node(2), start).unwrap();
        let mut taken = 0;
        while quotas.take(&node(1), 1_000, start) {
            taken += 1_000;
        }
        assert_eq!(taken, BURST);
        assert!(quotas.take(&node(2), 1_000, start));
        assert!(!quotas.take(&node(3), 1, start));
        // In steps shorter than a byte's time nothing is lost and nothing is won.
        let mut now = start;
        let mut taken = 0;
        for _ in 0..1_000_000 {
            now += Duration::from_nanos(100);
            if quotas.take(&node(1), 1_000, now) {
                taken += 1_000;
            }
        }
        let fair = BYTES_PER_SECOND / 10;
        assert!(taken <= fair && taken >= fair * 9 / 10, "{taken} of {fair}");
    }

    #[test]
    fn a_new_allocation_brings_no_new_burst() {
        let start = Instant::now();
        let mut quotas = Quotas::new(10);
        quotas.admit(node(1), start).unwrap();
        assert!(quotas.take(&node(1), BURST as usize, start));
        quotas.release(&node(1));
        quotas.forget_idle(start);
        quotas.admit(node(1), start).unwrap();
        assert!(!quotas.take(&node(1), 1_000, start));
        quotas.release(&node(1));
        quotas.forget_idle(start + Duration::from_secs(1));
        assert!(quotas.members.is_empty());
    }
}
