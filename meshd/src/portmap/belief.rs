//! Is what a gateway calls its external address one that peers can reach?

use std::net::{IpAddr, Ipv4Addr};

use platform::net::addresses::is_private;

/// Why an external address is not believed; `None` if it may be true. A public address that is a lie costs peers a few
/// checks that nobody answers: they limit those by address.
pub(super) fn doubt(external: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = external.octets();
    if first == 0 {
        return Some("the router has no address on the internet");
    }
    if external.is_loopback() || external.is_multicast() || first >= 240 {
        return Some("that is no address of a host");
    }
    if is_private(IpAddr::V4(external)) {
        return Some("that address is private: another NAT stands behind the router");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_a_peer_can_reach_are_believed() {
        for nonsense in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "169.254.0.1",
        ] {
            assert!(doubt(nonsense.parse().unwrap()).is_some(), "{nonsense}");
        }
        for public in ["198.51.100.7", "1.1.1.1", "172.32.0.1", "223.255.255.254"] {
            assert_eq!(doubt(public.parse().unwrap()), None, "{public}");
        }
    }
}
