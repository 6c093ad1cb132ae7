//! Does this network reach IPv4 by NAT64, and under which prefix? (RFC 7050)

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::Ipv6Net;
use tokio::{net::lookup_host, time::timeout};

/// The name that has IPv4 addresses alone (RFC 7050 section 8.2): an IPv6 one for it was made by a DNS64.
const NAME: &str = "ipv4only.arpa";
/// Its two addresses.
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// How long the look-up may take.
const LOOKUP: Duration = Duration::from_secs(3);
/// Lengths of prefixes that RFC 6052 section 2.2 allows.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

/// The prefix that the system's resolver shows.
pub(super) async fn prefix() -> Option<Ipv6Net> {
    let addresses = timeout(LOOKUP, lookup_host((NAME, 9))).await.ok()?.ok()?;
    addresses
        .into_iter()
        .find_map(|address| match address.ip() {
            IpAddr::V6(v6) => prefix_of(v6),
            IpAddr::V4(_) => None,
        })
}

/// The prefix of an address that embeds one of the well-known ones.
fn prefix_of(address: Ipv6Addr) -> Option<Ipv6Net> {
    let bytes = address.octets();
    let length = LENGTHS.into_iter().find(|length| {
        let start = usize::from(length / 8);
        // Bits 64 to 71 are left out (RFC 6052 section 2.2).
        let embedded = (start..16).filter(|at| *at != 8 || start == 12).take(4);
        let embedded: Vec<u8> = embedded.map(|at| bytes[at]).collect();
        WELL_KNOWN.iter().any(|known| known.octets() == *embedded)
    })?;
    Ipv6Net::new(address, length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_found_at_each_length_and_in_nothing_else() {
        for (address, prefix) in [
            ("64:ff9b::c000:aa", Some("64:ff9b::/96")),
            ("64:ff9b::192.0.0.171", Some("64:ff9b::/96")),
            ("2001:db8:c000:00aa::", Some("2001:db8::/32")),
            ("2001:db8:1c0:0000:aa::", Some("2001:db8:100::/40")),
            ("2001:db8:122:c000:00:aa00::", Some("2001:db8:122::/48")),
            ("2001:db8:122:3c0:0:00aa::", Some("2001:db8:122:300::/56")),
            (
                "2001:db8:122:344:c0:0:aa00::",
                Some("2001:db8:122:344::/64"),
            ),
            ("2001:db8::1", None),
            ("::", None),
        ] {
            let found = prefix_of(address.parse().unwrap());
            assert_eq!(found, prefix.map(|net| net.parse().unwrap()), "{address}");
        }
    }
}
