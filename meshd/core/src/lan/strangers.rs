//! For which addresses is there traffic, and nobody known who owns them? In a large network members are told of others when
//! they ask for them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Addresses at once: what a scan of the virtual LAN asks for beyond that gets no answer.
const MAX_WANTED: usize = 64;

/// The same address is asked for again after so long, as a host does by ARP.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A first packet is worth nothing any more after so long.
const KEPT: Duration = Duration::from_secs(3);

/// The first packet for each such address.
#[derive(Debug, Default)]
pub struct Strangers {
    wanted: BTreeMap<IpAddr, Wanted>,
}

#[derive(Debug)]
struct Wanted {
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
            packet: packet(),
            since: now,
            asked: now,
        };
        self.wanted.insert(address, wanted);
        true
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
    fn a_scan_takes_little_room_and_ends() {
        let (mut strangers, start) = (Strangers::default(), Instant::now());
        let asked = (0..1_000).filter(|n| strangers.want(ip(*n), start, || vec![0; 100]));
        assert_eq!(asked.count(), MAX_WANTED);
        assert!(strangers.want(ip(2_000), start + KEPT, Vec::new));
        assert_eq!(strangers.wanted.len(), 1);
    }
}
