//! Which places on the virtual LAN are there, and which of them is free?
//!
//! A place is an address of the network's range and a name. In a network with a key each node chooses its own, without one
//! the discovery server does; both by the same rules.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The longest DNS label (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Whether the address is one that a member of the range may have: not the first and not the last.
pub fn is_host(cidr: Ipv4Net, address: Ipv4Addr) -> bool {
    cidr.contains(&address) && address != cidr.network() && address != cidr.broadcast()
}

/// `wish` if it is a free host address of the range, else the first free one from host number `start` on, round the range;
/// `None` when all are taken.
pub fn free_address(
    cidr: Ipv4Net,
    (wish, start): (Option<Ipv4Addr>, u64),
    is_taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<Ipv4Addr> {
    let is_free = |address: &Ipv4Addr| !is_taken(*address);
    if let Some(wish) = wish.filter(|wish| is_host(cidr, *wish)).filter(is_free) {
        return Some(wish);
    }
    let first = u32::from(cidr.network()).checked_add(1)?;
    let count = u32::from(cidr.broadcast()).checked_sub(first)?;
    let start = u32::try_from(start % u64::from(count.max(1))).unwrap_or(0);
    let round = (start..count).chain(0..start);
    round.map(|host| Ipv4Addr::from(first + host)).find(is_free)
}

/// `hostname` if it is free, else with `-2`, `-3`, ... behind it, cut so that it stays a DNS label.
pub fn free_name(hostname: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = hostname.to_owned();
    let mut number = 1_u32;
    while is_taken(&name) {
        number += 1;
        name = numbered(hostname, number);
    }
    name
}

/// Whether a member whose host name is `hostname` may have got `name` for it.
pub fn is_name_for(name: &str, hostname: &str) -> bool {
    let number = name
        .rsplit_once('-')
        .and_then(|(_, number)| number.parse().ok());
    name == hostname
        || number.is_some_and(|number| number >= 2 && name == numbered(hostname, number))
}

fn numbered(hostname: &str, number: u32) -> String {
    let suffix = format!("-{number}");
    let room = LONGEST_LABEL.saturating_sub(suffix.len());
    let stem: String = hostname.chars().take(room).collect();
    format!("{}{suffix}", stem.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::id::check_dns_label;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_free_wish_is_granted_and_a_bad_one_gets_the_lowest_free_address() {
        let taken: BTreeSet<Ipv4Addr> = ["10.1.0.1", "10.1.0.3"]
            .map(|text| text.parse().unwrap())
            .into();
        let ask = |wish: &str| {
            let wish = (Some(wish.parse().unwrap()), 0);
            free_address(net("10.1.0.0/24"), wish, |address| taken.contains(&address)).unwrap()
        };
        assert_eq!(ask("10.1.0.77"), Ipv4Addr::new(10, 1, 0, 77));
        for bad in ["10.1.0.0", "10.1.0.255", "10.1.0.3", "10.2.0.1"] {
            assert_eq!(ask(bad), Ipv4Addr::new(10, 1, 0, 2), "{bad}");
        }
    }

    #[test]
    fn every_start_finds_the_one_free_address_and_a_full_range_has_none() {
        let free = Ipv4Addr::new(10, 1, 0, 4);
        for start in 0..20 {
            let found = free_address(net("10.1.0.0/29"), (None, start), |address| address != free);
            assert_eq!(found, Some(free));
        }
        assert_eq!(free_address(net("10.1.0.0/30"), (None, 3), |_| true), None);
    }

    #[test]
    fn taken_names_get_a_number_and_stay_dns_labels() {
        let mut taken = BTreeSet::new();
        for expected in ["web", "web-2", "web-3"] {
            let name = free_name("web", |name| taken.contains(name));
            assert_eq!(name, expected);
            assert!(is_name_for(&name, "web"));
            taken.insert(name);
        }
        let long = "a".repeat(61) + "-b";
        let name = free_name(&long, |name| name == long);
        assert_eq!(name, "a".repeat(61) + "-2");
        assert!(is_name_for(&name, &long));
        check_dns_label("host name", &name).unwrap();
    }

    #[test]
    fn a_number_behind_a_host_name_does_not_make_it_another() {
        for name in [
            "db", "web-1", "web-x", "webs", "-2", "w-2", "web-02-2", "web-02",
        ] {
            assert!(!is_name_for(name, "web"), "{name}");
        }
    }
}
