//! Under which addresses can this host be reached, and which one would it use towards another?

use super::NetError;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// An address of this host that can be an ICE host candidate (RFC 8445, 5.1.1.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix of the network it is in.
    pub prefix_len: u8,
    /// The interface that has it.
    pub interface: String,
    /// The system's number of that interface.
    pub index: u32,
}

/// Addresses of the interfaces that are up, sorted, without duplicates. Left out: loopback,
/// link-local and multicast addresses, those of `ignore_interface` (the mesh's own), and IPv6
/// addresses that are not yet or no longer for use (tentative, duplicate, deprecated).
pub async fn local_addresses(ignore_interface: &str) -> Result<Vec<LocalAddress>, NetError> {
    let mut addresses = system::addresses().await?;
    addresses
        .retain(|address| address.interface != ignore_interface && is_candidate(address.address));
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// All addresses of this host, whatever they are good for.
pub async fn own_addresses() -> Result<Vec<IpAddr>, NetError> {
    system::all().await
}

/// The address that this host would use as source towards `destination` (the port is of no
/// account). No packet is sent. `NetworkUnreachable` or similar when there is no route.
pub fn source_towards(destination: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connecting a UDP socket only looks up the route. Port 0 is refused by some systems.
    socket.connect(SocketAddr::new(destination, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// True for addresses that mean nothing on the public Internet: RFC 1918, carrier-grade NAT (RFC
/// 6598), unique local IPv6 (RFC 4193), link-local and loopback.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            v4.is_private() || is_shared || v4.is_link_local() || v4.is_loopback()
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

fn is_candidate(address: IpAddr) -> bool {
    let excluded = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        // RFC 8445 also excludes site-local, IPv4-compatible and IPv4-mapped addresses.
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.to_ipv4().is_some()
                || v6.segments()[0] & 0xffc0 == 0xfec0
        }
    };
    !excluded && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

#[cfg(target_os = "linux")]
mod system {
    use super::{LocalAddress, NetError};
    use crate::net::netlink;
    use netlink_packet_route::address::{
        AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
    };
    use std::net::IpAddr;

    pub(super) async fn addresses() -> Result<Vec<LocalAddress>, NetError> {
        let handle = netlink::connect()?;
        let links = netlink::links(&handle).await?;
        let request = handle.address().get().execute();
        let messages = netlink::collect("list addresses", request).await?;
        let usable = messages.into_iter().filter(is_usable);
        let addresses = usable.filter_map(|message| {
            let link = links.get(&message.header.index)?;
            let address = own_address(&message)?;
            (link.is_up && !link.is_loopback).then(|| LocalAddress {
                address,
                prefix_len: message.header.prefix_len,
                interface: link.name.clone(),
                index: message.header.index,
            })
        });
        Ok(addresses.collect())
    }

    pub(super) async fn all() -> Result<Vec<IpAddr>, NetError> {
        let handle = netlink::connect()?;
        let request = handle.address().get().execute();
        let messages = netlink::collect("list addresses", request).await?;
        Ok(messages.iter().filter_map(own_address).collect())
    }

    /// On a point-to-point interface `Address` is the other end and `Local` is ours; IPv6 mostly
    /// has `Address` only.
    fn own_address(message: &AddressMessage) -> Option<IpAddr> {
        let mut other = None;
        for attribute in &message.attributes {
            if let AddressAttribute::Local(address) = attribute {
                return Some(*address);
            }
            if let AddressAttribute::Address(address) = attribute {
                other = Some(*address);
            }
        }
        other
    }

    fn is_usable(message: &AddressMessage) -> bool {
        let short = AddressHeaderFlags::Tentative
            | AddressHeaderFlags::Dadfailed
            | AddressHeaderFlags::Deprecated;
        let long = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
        !message.header.flags.intersects(short)
            && !message.attributes.iter().any(|attribute| {
                matches!(attribute, AddressAttribute::Flags(flags) if flags.intersects(long))
            })
    }
}

#[cfg(any(target_os = "macos", windows))]
mod system {
    use super::{LocalAddress, NetError};
    use std::net::IpAddr;

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn addresses() -> Result<Vec<LocalAddress>, NetError> {
        let interfaces = netdev::get_interfaces();
        let usable = interfaces
            .iter()
            .filter(|interface| interface.is_up() && !interface.is_loopback());
        let addresses = usable.flat_map(|interface| {
            let v4 = interface
                .ipv4
                .iter()
                .map(|net| (net.addr().into(), net.prefix_len()));
            let v6 = interface
                .ipv6
                .iter()
                .map(|net| (net.addr().into(), net.prefix_len()));
            v4.chain(v6).map(|(address, prefix_len)| LocalAddress {
                address,
                prefix_len,
                interface: interface.name.clone(),
                index: interface.index,
            })
        });
        Ok(addresses.collect())
    }

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn all() -> Result<Vec<IpAddr>, NetError> {
        let interfaces = netdev::get_interfaces();
        let addresses = interfaces.iter().flat_map(|interface| {
            let v4 = interface.ipv4.iter().map(|net| net.addr().into());
            let v6 = interface.ipv6.iter().map(|net| net.addr().into());
            v4.chain(v6)
        });
        Ok(addresses.collect())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod system {
    use super::{LocalAddress, NetError};

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn addresses() -> Result<Vec<LocalAddress>, NetError> {
        Err(NetError::Unsupported {
            operation: "list addresses",
            system: std::env::consts::OS,
        })
    }

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn all() -> Result<Vec<std::net::IpAddr>, NetError> {
        Err(NetError::Unsupported {
            operation: "list addresses",
            system: std::env::consts::OS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn the_hosts_own_addresses_are_all_there_loopback_among_them() {
        let own = own_addresses().await.expect("a list");
        assert!(own.contains(&ip("127.0.0.1")), "{own:?}");
        let candidates = local_addresses("").await.expect("a list");
        assert!(candidates.iter().all(|local| own.contains(&local.address)));
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for private in [
            "10.0.0.1",
            "172.31.255.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "fd00::1",
            "fe80::1",
            "::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "2001:db8::1",
        ] {
            assert!(!is_private(ip(public)), "{public}");
        }
    }

    #[test]
    fn addresses_that_no_peer_can_use_are_no_candidates() {
        for useless in [
            "127.0.0.1",
            "169.254.3.4",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "::",
            "ff02::1",
            "::ffff:1.2.3.4",
            "fec0::1",
        ] {
            assert!(!is_candidate(ip(useless)), "{useless}");
        }
        for useful in [
            "10.0.0.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert!(is_candidate(ip(useful)), "{useful}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_host_lists_its_addresses_without_those_of_the_mesh() {
        use crate::testing::{add_address, add_interface, in_namespace};
        in_namespace(async || {
            add_interface("lan0").await;
            add_interface("mesh0").await;
            for (interface, address, prefix) in [
                ("lan0", "192.168.7.2", 24),
                ("lan0", "169.254.7.2", 16),
                ("lo", "10.1.1.1", 32),
                ("mesh0", "10.9.0.1", 24),
            ] {
                add_address(interface, address, prefix).await;
            }
            let found = local_addresses("mesh0").await.expect("list");
            assert!(found.iter().all(|found| found.index > 0));
            let expected = LocalAddress {
                address: ip("192.168.7.2"),
                prefix_len: 24,
                interface: "lan0".to_owned(),
                index: found[0].index,
            };
            assert_eq!(found, [expected]);
            assert_eq!(local_addresses("").await.expect("list").len(), 2);
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_source_address_follows_the_route() {
        use crate::testing::{add_address, add_interface, in_namespace};
        in_namespace(async || {
            add_interface("lan0").await;
            add_address("lan0", "192.168.7.2", 24).await;
            let source = source_towards(ip("192.168.7.99")).expect("a route");
            assert_eq!(source, ip("192.168.7.2"));
            source_towards(ip("8.8.8.8")).expect_err("no route");
        });
    }
}
