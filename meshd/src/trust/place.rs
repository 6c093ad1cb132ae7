//! Which address and name does a node ask for?
//!
//! It chooses among those that are free and signs for its choice; the server only says whether another was faster.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use mesh_wire::{NodeId, peer_info::Directory};

/// An address and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// On the virtual LAN.
    pub address: Ipv4Addr,
    /// A DNS label.
    pub name: String,
}

/// What a node would like.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Itself: what it has already is free for it.
    pub node_id: NodeId,
    /// The network's range.
    pub cidr: Ipv4Net,
    /// The address that it had before.
    pub address: Option<IpAddr>,
    /// Its host name.
    pub hostname: &'a str,
    /// Zero at the first try. After others were faster, where to begin to look: a random number, so that many who join
    /// at once do not meet again.
    pub start: u64,
}

impl Wish<'_> {
    /// A place that no member has; `None` if all addresses are taken.
    pub fn choose(&self, members: &Directory) -> Option<Place> {
        let others = || {
            members
                .peers
                .iter()
                .filter(|peer| peer.record.node_id != self.node_id)
        };
        let addresses: BTreeSet<IpAddr> = others()
            .flat_map(|peer| peer.virtual_ips.iter().copied())
            .collect();
        let names: BTreeSet<&str> = others().map(|peer| peer.name.as_str()).collect();
        Some(Place {
            address: self.free_address(&addresses)?,
            name: free_name(self.hostname, &names),
        })
    }

    fn free_address(&self, taken: &BTreeSet<IpAddr>) -> Option<Ipv4Addr> {
        let first = u32::from(self.cidr.network()).checked_add(1)?;
        let count = u32::from(self.cidr.broadcast()).checked_sub(first)?;
        let is_host = |address: Ipv4Addr| (first..first + count).contains(&u32::from(address));
        let is_free = |address: &Ipv4Addr| !taken.contains(&IpAddr::V4(*address));
        if let Some(IpAddr::V4(before)) = self.address
            && is_host(before)
            && is_free(&before)
        {
            return Some(before);
        }
        let start = u32::try_from(self.start % u64::from(count.max(1))).unwrap_or(0);
        (0..count)
            .map(|step| Ipv4Addr::from(first + (start + step) % count))
            .find(is_free)
    }
}

/// Whether a member whose host name is `hostname` may have got `name` for it.
pub fn is_name_for(name: &str, hostname: &str) -> bool {
    if name == hostname {
        return true;
    }
    let Some((stem, number)) = name.rsplit_once('-') else {
        return false;
    };
    let is_numbered = number.parse::<u32>().is_ok_and(|number| number >= 2);
    is_numbered && stem == stem_for(hostname, &format!("-{number}"))
}

/// What of a host name is left room for before a suffix in a DNS label.
fn stem_for(hostname: &str, suffix: &str) -> String {
    let stem: String = hostname.chars().take(63 - suffix.len()).collect();
    stem.trim_end_matches('-').to_owned()
}

/// `hostname` if it is free, else with `-2`, `-3`, ... behind it, cut so that it stays a DNS label.
fn free_name(hostname: &str, taken: &BTreeSet<&str>) -> String {
    if !taken.contains(hostname) {
        return hostname.to_owned();
    }
    let mut number = 2_u32;
    loop {
        let suffix = format!("-{number}");
        let name = format!("{}{suffix}", stem_for(hostname, &suffix));
        if !taken.contains(name.as_str()) {
            return name;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::scope::tests::peer;

    fn wish(cidr: &str) -> Wish<'static> {
        Wish {
            node_id: NodeId::from_bytes([0; 32]),
            cidr: cidr.parse().unwrap(),
            address: None,
            hostname: "web",
            start: 0,
        }
    }

    fn members(peers: &[(u8, &str)]) -> Directory {
        Directory {
            peers: peers.iter().map(|(n, name)| peer(*n, name, 1)).collect(),
            ..Directory::default()
        }
    }

    #[test]
    fn the_lowest_free_address_and_name_come_first() {
        let taken = members(&[(1, "web"), (2, "web-2"), (4, "db")]);
        let place = wish("10.100.0.0/24").choose(&taken).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 3));
        assert_eq!(place.name, "web-3");
    }

    #[test]
    fn what_a_node_had_it_keeps_while_it_is_free() {
        let mut wish = wish("10.100.0.0/24");
        wish.address = Some([10, 100, 0, 77].into());
        let place = wish.choose(&members(&[(1, "a")])).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 77));
        let place = wish.choose(&members(&[(77, "a")])).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 1));
        wish.address = Some([10, 100, 0, 255].into());
        let place = wish.choose(&members(&[])).unwrap();
        assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 1));
    }

    #[test]
    fn every_start_finds_the_one_free_address_and_a_full_range_has_none() {
        let mut wish = wish("10.100.0.0/29");
        let most = members(&[(1, "a"), (2, "b"), (3, "c"), (5, "d"), (6, "e")]);
        for start in 0..20 {
            wish.start = start;
            let place = wish.choose(&most).unwrap();
            assert_eq!(place.address, Ipv4Addr::new(10, 100, 0, 4));
        }
        wish.cidr = "10.100.0.0/30".parse().unwrap();
        assert_eq!(wish.choose(&most), None);
    }

    #[test]
    fn a_number_behind_a_host_name_does_not_make_it_another() {
        for name in ["web", "web-2", "web-17"] {
            assert!(is_name_for(name, "web"), "{name}");
        }
        for name in ["db", "web-1", "web-x", "webs", "-2", "w-2", "web-02-2"] {
            assert!(!is_name_for(name, "web"), "{name}");
        }
        let long = "a".repeat(63);
        let numbered = free_name(&long, &BTreeSet::from([long.as_str()]));
        assert!(is_name_for(&numbered, &long));
    }
}
