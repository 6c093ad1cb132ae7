//! Which peers may the server relay to?
//!
//! Pure. A relay inside a network sees what a stranger on the Internet does not: the host's own services, its neighbours,
//! a cloud's metadata address. So everything that is not a public unicast address is refused, in every way of writing it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Ports of services that answer a single forged datagram with more than it had, in order: the relay must not be the
/// one who asks them in a victim's name.
const REFUSED_PORTS: [u16; 20] = [
    0, 7, 13, 17, 19, 53, 69, 111, 123, 137, 138, 139, 161, 389, 520, 1_900, 3_702, 5_353, 5_355,
    11_211,
];

/// Why a peer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// Never an address of one host on the Internet.
    Special,
    /// Of a private network, which the operator did not open.
    Private,
    /// The server itself.
    Own,
    /// A service that floods.
    Port,
}

/// What the operator allows, and what the server's own addresses are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    allow_private: bool,
    own: BTreeSet<IpAddr>,
    /// The first 64 bits of own global IPv6 addresses: the networks that the server is in.
    own_networks: BTreeSet<u64>,
}

impl Policy {
    /// Without knowledge of own addresses.
    pub(crate) fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            own: BTreeSet::new(),
            own_networks: BTreeSet::new(),
        }
    }

    /// Replaces the list of the server's own addresses.
    pub(crate) fn set_own(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.own = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
        let networks = self.own.iter().filter_map(|ip| match ip {
            IpAddr::V6(v6) => Some(network(*v6)),
            IpAddr::V4(_) => None,
        });
        self.own_networks = networks.collect();
    }

    /// Whether an address is known as the server's own.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip.to_canonical())
    }

    /// Whether anything may be sent to this address.
    pub(crate) fn check_address(&self, ip: IpAddr) -> Result<(), Forbidden> {
        if self.is_own(ip) {
            return Err(Forbidden::Own);
        }
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.check_v4(v4),
            IpAddr::V6(v6) => self.check_v6(v6),
        }
    }

    /// Whether anything may be sent to this address and port.
    pub(crate) fn check(&self, peer: SocketAddr) -> Result<(), Forbidden> {
        if REFUSED_PORTS.binary_search(&peer.port()).is_ok() {
            return Err(Forbidden::Port);
        }
        self.check_address(peer.ip())
    }

    fn check_v4(&self, ip: Ipv4Addr) -> Result<(), Forbidden> {
        let [a, b, c, _] = ip.octets();
        match (a, b, c) {
            // "This network", loopback, link-local, protocol assignments, 6to4 relays, benchmarks, multicast, reserved.
            (0 | 127, ..)
            | (169, 254, _)
            | (192, 0, 0)
            | (192, 88, 99)
            | (198, 18..=19, _)
            | (224..=255, ..) => Err(Forbidden::Special),
            // RFC 1918 and the carriers' RFC 6598.
            (10, ..) | (100, 64..=127, _) | (172, 16..=31, _) | (192, 168, _)
                if !self.allow_private =>
            {
                Err(Forbidden::Private)
            }
            _ => Ok(()),
        }
    }

    /// Global unicast is 2000::/3. That leaves out every form that has an IPv4 address within (mapped ones were made IPv4
    /// before): compatible, translated, NAT64 with its local prefix; a peer with an IPv4 address is named by that.
    fn check_v6(&self, ip: Ipv6Addr) -> Result<(), Forbidden> {
        let [first, second, ..] = ip.segments();
        match (first, second) {
            // Protocol assignments with Teredo, benchmarks and ORCHID; 6to4.
            (0x2001, 0..=0x01ff) | (0x2002, _) => Err(Forbidden::Special),
            // Neighbours have addresses of the whole Internet and a router that shields them from it, but not from us.
            (0x2000..=0x3fff, _)
                if !self.allow_private && self.own_networks.contains(&network(ip)) =>
            {
                Err(Forbidden::Private)
            }
            (0x2000..=0x3fff, _) => Ok(()),
            (0xfc00..=0xfdff, _) if self.allow_private => Ok(()),
            (0xfc00..=0xfdff, _) => Err(Forbidden::Private),
            _ => Err(Forbidden::Special),
        }
    }
}

/// The network of an address: IPv6 links have prefixes of 64 bits (RFC 4291 section 2.5.1).
fn network(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why it is refused.
    fn verdict(policy: &Policy, text: &str) -> Option<Forbidden> {
        let peer = SocketAddr::new(text.parse().unwrap(), 40_000);
        policy.check(peer).err()
    }

    /// First and last address of each range, and what lies just outside of it.
    const SPECIAL: [&str; 36] = [
        "0.0.0.0",
        "0.255.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "192.0.0.0",
        "192.0.0.255",
        "192.88.99.1",
        "198.18.0.0",
        "198.19.255.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::",
        "febf:ffff::1",
        "fec0::1",
        "ff00::",
        "ff02::1",
        "ffff::1",
        "2001::1",
        "2001:1ff:ffff::1",
        "2001:2::1",
        "2002::1",
        "2002:ffff::1",
        "100::1",
        "1fff:ffff::1",
        "4000::1",
        "5f00::1",
        "64:ff9b::c633:6402",
        "64:ff9b:1::c633:6402",
    ];

    const PRIVATE: [&str; 12] = [
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "fc00::",
        "fc00::1",
        "fd00::1",
        "fdff:ffff::1",
    ];

    const PUBLIC: [&str; 33] = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "8.8.8.8",
        // Documentation (RFC 5737, 3849) is routed nowhere, and laboratories take it for the public Internet.
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "2001:db8::1",
        "2000::",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700::1",
        "3fff:ffff::1",
        "2a00::1",
    ];

    #[test]
    fn special_addresses_are_refused_whatever_is_allowed() {
        for allow_private in [false, true] {
            let policy = Policy::new(allow_private);
            for text in SPECIAL {
                assert_eq!(verdict(&policy, text), Some(Forbidden::Special), "{text}");
            }
        }
    }

    #[test]
    fn private_addresses_are_refused_unless_allowed() {
        for text in PRIVATE {
            let refused = Some(Forbidden::Private);
            assert_eq!(verdict(&Policy::new(false), text), refused, "{text}");
            assert_eq!(verdict(&Policy::new(true), text), None, "{text}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for text in PUBLIC {
            assert_eq!(verdict(&Policy::new(false), text), None, "{text}");
        }
    }

    /// The ways of writing an IPv4 address as an IPv6 one.
    fn disguises(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
        let bits = u128::from(v4.to_bits());
        let six_to_four = (0x2002_u128 << 112) | (bits << 80);
        let teredo_server = (0x2001_u128 << 112) | (bits << 64);
        let teredo_client = (0x2001_u128 << 112) | (!bits & 0xffff_ffff);
        let nat64 = 0x0064_ff9b_u128 << 96;
        let nat64_local = (nat64 | (1 << 80)) & !(0xffff_u128 << 64);
        // RFC 6052 with a prefix of 48 bits: bits 64 to 71 stay zero.
        let split = (bits >> 16 << 64) | ((bits & 0xffff) << 40);
        [
            0xffff_0000_0000 | bits,
            bits,
            0xffff_0000_0000_0000 | bits,
            six_to_four,
            six_to_four | 1,
            teredo_server,
            teredo_client,
            nat64 | bits,
            nat64_local | bits,
            nat64_local | split,
        ]
        .map(Ipv6Addr::from_bits)
        .to_vec()
    }

    #[test]
    fn no_disguise_makes_a_forbidden_address_allowed() {
        let texts = SPECIAL.iter().chain(&PRIVATE);
        let v4 = texts.filter_map(|text| text.parse::<Ipv4Addr>().ok());
        for ip in v4 {
            for disguise in disguises(ip) {
                let peer = SocketAddr::new(disguise.into(), 40_000);
                assert!(
                    Policy::new(false).check(peer).is_err(),
                    "{disguise} for {ip}"
                );
            }
        }
        // With private networks allowed, only the mapped form is one that is read as the address itself.
        let allowed = Policy::new(true);
        let all = disguises(Ipv4Addr::new(192, 168, 0, 1));
        let passed: Vec<_> = all
            .iter()
            .filter(|ip| allowed.check_address(IpAddr::V6(**ip)).is_ok())
            .collect();
        assert_eq!(passed, [&all[0]]);
    }

    #[test]
    fn the_servers_own_addresses_are_refused_in_every_form() {
        let mut policy = Policy::new(true);
        policy.set_own([
            "198.51.100.2".parse().unwrap(),
            "192.168.1.1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        ]);
        for text in [
            "198.51.100.2",
            "::ffff:198.51.100.2",
            "192.168.1.1",
            "2001:db8::2",
        ] {
            assert_eq!(verdict(&policy, text), Some(Forbidden::Own), "{text}");
        }
        assert_eq!(verdict(&policy, "198.51.100.3"), None);
    }

    #[test]
    fn ports_of_services_that_flood_are_refused() {
        assert!(REFUSED_PORTS.is_sorted());
        let policy = Policy::new(false);
        let peer = |port| SocketAddr::new(Ipv4Addr::new(198, 51, 100, 2).into(), port);
        for port in REFUSED_PORTS {
            assert_eq!(policy.check(peer(port)), Err(Forbidden::Port), "{port}");
        }
        for port in [1, 443, 500, 4_500, 51_820, u16::MAX] {
            assert_eq!(policy.check(peer(port)), Ok(()), "{port}");
        }
    }

    #[test]
    fn neighbours_with_global_ipv6_addresses_are_private_too() {
        let ours: IpAddr = "2a00:1:2:3::1".parse().unwrap();
        for (allow, expected) in [(false, Some(Forbidden::Private)), (true, None)] {
            let mut policy = Policy::new(allow);
            policy.set_own([ours, "198.51.100.2".parse().unwrap()]);
            assert_eq!(verdict(&policy, "2a00:1:2:3:ffff::9"), expected);
            assert_eq!(verdict(&policy, "2a00:1:2:4::1"), None);
            assert_eq!(verdict(&policy, "198.51.100.3"), None);
            assert_eq!(verdict(&policy, "2a00:1:2:3::1"), Some(Forbidden::Own));
        }
    }
}
