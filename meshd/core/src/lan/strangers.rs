//! For which addresses is there traffic, and nobody known who owns them? In a large network members are told of others when
//! they ask for them. Who goes on sending to an address that nobody turns out to have is told so.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::errors::Limiter;

/// Addresses at once: what a scan of the virtual LAN asks for beyond that gets no answer.
const MAX_WANTED: usize = 64;

/// The same address is asked for again after so long, as a host does by ARP.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A first packet is worth nothing any more after so long. An address that has no owner by then, as who knows all members says,
/// has none; and so long that word holds.
const KEPT: Duration = Duration::from_secs(3);

/// After so long without a packet for it an address is a new one.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// The first packet for each such address.
#[derive(Debug, Default)]
pub struct Strangers {
    wanted: BTreeMap<IpAddr, Wanted>,
    told: Limiter,
}

#[derive(Debug)]
struct Wanted {
    /// Since when its owner is looked for.
    sought: Instant,
    /// When it was last said that no member has the address.
    disowned: Option<Instant>,
    packet: Vec<u8>,
    since: Instant,
    asked: Instant,
}

impl Strangers {
    /// Keeps a packet for `address`, made by `packet` if there is none; whether it is time to ask who owns the address.
    pub fn want(
        &mut self,
        address: IpAddr,
        now: Instant,
        packet: impl FnOnce() -> Vec<u8>,
    ) -> bool {
        if let Some(wanted) = self.wanted.get_mut(&address) {
            if now.saturating_duration_since(wanted.asked) < ASK_AGAIN {
                return false;
            }
            if now.saturating_duration_since(wanted.asked) >= FORGOTTEN {
                wanted.sought = now;
                wanted.disowned = None;
            }
            wanted.asked = now;
            if now.saturating_duration_since(wanted.since) >= KEPT {
                wanted.packet = packet();
                wanted.since = now;
            }
            return true;
        }
        if self.wanted.len() >= MAX_WANTED {
            let is_old = |wanted: &Wanted| now.saturating_duration_since(wanted.asked) >= KEPT;
            self.wanted.retain(|_, wanted| !is_old(wanted));
        }
        if self.wanted.len() >= MAX_WANTED {
            return false;
        }
        let wanted = Wanted {
            sought: now,
            disowned: None,
            packet: packet(),
            since: now,
            asked: now,
        };
        self.wanted.insert(address, wanted);
        true
    }

    /// No member has this address, says who knows all.
    pub fn disown(&mut self, address: IpAddr, now: Instant) {
        if let Some(wanted) = self.wanted.get_mut(&address) {
            wanted.disowned = Some(now);
        }
    }

    /// Whether who sends to `address` is to be told that nobody has it.
    pub fn is_nobody(&mut self, address: IpAddr, now: Instant) -> bool {
        let since = |time| now.saturating_duration_since(time);
        let is_nobody = |wanted: &Wanted| {
            let said = wanted.disowned.map(since);
            since(wanted.sought) >= KEPT && said.is_some_and(|said| said <= KEPT)
        };
        self.wanted.get(&address).is_some_and(is_nobody) && self.told.allows(now)
    }

    /// These addresses have an owner now: what waited for it.
    pub fn found(&mut self, addresses: &[IpAddr], now: Instant) -> Vec<Vec<u8>> {
        let wanted = addresses
            .iter()
            .filter_map(|address| self.wanted.remove(address));
        wanted
            .filter(|wanted| now.saturating_duration_since(wanted.since) < KEPT)
            .map(|wanted| wanted.packet)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u16) -> IpAddr {
        let [a, b] = n.to_be_bytes();
        IpAddr::from([10, 100, a, b])
    }

    #[test]
    fn the_first_packet_waits_and_the_address_is_asked_for_once_a_second() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(strangers.want(ip(1), at(0), || vec![1]));
        assert!(!strangers.want(ip(1), at(900), || vec![2]));
        assert!(strangers.want(ip(1), at(1_000), || vec![3]));
        assert_eq!(strangers.found(&[ip(1), ip(2)], at(1_500)), [[1]]);
        assert_eq!(strangers.found(&[ip(1)], at(1_500)), Vec::<Vec<u8>>::new());
        // One that waited too long is not sent, and makes room for a newer one.
        assert!(strangers.want(ip(1), at(2_000), || vec![4]));
        assert!(strangers.want(ip(1), at(5_000), || vec![5]));
        assert_eq!(strangers.found(&[ip(1)], at(7_999)), [[5]]);
        assert!(strangers.want(ip(1), at(8_000), || vec![6]));
        assert!(strangers.found(&[ip(1)], at(11_000)).is_empty());
    }

    #[test]
    fn an_address_without_an_owner_for_three_seconds_is_nobodys() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, nobody) in [(0, false), (1, false), (2, false), (3, true), (4, true)] {
            strangers.want(ip(1), at(second), Vec::new);
            assert_eq!(strangers.is_nobody(ip(1), at(second)), nobody, "{second}");
            strangers.disown(ip(1), at(second));
        }
        assert!(
            !strangers.is_nobody(ip(2), at(4)),
            "nobody has asked for it"
        );
        // Whoever comes back later is looked for anew, and may have joined meanwhile.
        strangers.want(ip(1), at(14), Vec::new);
        strangers.disown(ip(1), at(14));
        assert!(!strangers.is_nobody(ip(1), at(14)));
        strangers.want(ip(1), at(17), Vec::new);
        let told = (0..50).filter(|_| strangers.is_nobody(ip(1), at(17)));
        assert_eq!(told.count(), 10);
        // While nobody can say, it may have an owner.
        strangers.want(ip(1), at(18), Vec::new);
        assert!(!strangers.is_nobody(ip(1), at(18)));
        strangers.want(ip(2), at(18), Vec::new);
        strangers.want(ip(2), at(22), Vec::new);
        assert!(!strangers.is_nobody(ip(2), at(22)));
    }

    #[test]
    fn a_scan_takes_little_room_and_ends() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let asked = (0..1_000).filter(|n| strangers.want(ip(*n), start, || vec![0; 100]));
        assert_eq!(asked.count(), MAX_WANTED);
        assert!(strangers.want(ip(2_000), start + KEPT, Vec::new));
        assert_eq!(strangers.wanted.len(), 1);
    }
}
