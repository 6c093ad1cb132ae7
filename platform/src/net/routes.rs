//! Which networks does this host already reach, and would the mesh's network collide with one?

use super::NetError;
use ipnet::IpNet;

/// A unicast route of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The network it leads to; prefix length 0 is the default route.
    pub destination: IpNet,
    /// The interface it uses (the first one of a multipath route).
    pub interface: String,
}

/// All unicast routes of all tables, in the system's order; those to the host itself, broadcast
/// and multicast are left out. [`NetError::Unsupported`] except on Linux.
pub async fn list() -> Result<Vec<Route>, NetError> {
    system::list().await
}

/// The first route that shares addresses with `network`, and its interface. Routes of
/// `ignore_interface` (the mesh's own, of a previous run) do not count, nor do default routes,
/// also in the form of two halves, since any network lies within them.
pub async fn overlapping(
    network: IpNet,
    ignore_interface: &str,
) -> Result<Option<(IpNet, String)>, NetError> {
    let routes = list().await?;
    Ok(first_overlap(&routes, network, ignore_interface))
}

fn first_overlap(routes: &[Route], network: IpNet, ignore: &str) -> Option<(IpNet, String)> {
    let overlap = routes.iter().find(|route| {
        let other = route.destination;
        let shared = network.contains(&other.network()) || other.contains(&network.network());
        other.prefix_len() > 1 && shared && route.interface != ignore
    })?;
    Some((overlap.destination, overlap.interface.clone()))
}

#[cfg(target_os = "linux")]
mod system {
    use super::{NetError, Route};
    use crate::net::netlink::{self, Link};
    use ipnet::IpNet;
    use netlink_packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    };
    use std::{
        collections::BTreeMap,
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
    };

    pub(super) async fn list() -> Result<Vec<Route>, NetError> {
        let handle = netlink::connect()?;
        let links = netlink::links(&handle).await?;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let dump = handle.route().get(request).execute();
            let messages = netlink::collect("list routes", dump).await?;
            routes.extend(messages.iter().filter_map(|message| route(message, &links)));
        }
        Ok(routes)
    }

    fn route(message: &RouteMessage, links: &BTreeMap<u32, Link>) -> Option<Route> {
        if message.header.kind != RouteType::Unicast {
            return None;
        }
        let mut address: IpAddr = match message.header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut index = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = (*v4).into(),
                RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = (*v6).into(),
                RouteAttribute::Oif(oif) => index = Some(*oif),
                RouteAttribute::MultiPath(hops) => {
                    index = index.or(hops.first().map(|hop| hop.interface_index));
                }
                _ => {}
            }
        }
        let prefix_len = message.header.destination_prefix_length;
        Some(Route {
            destination: IpNet::new(address, prefix_len).ok()?,
            interface: links.get(&index?)?.name.clone(),
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{NetError, Route};

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn list() -> Result<Vec<Route>, NetError> {
        Err(NetError::Unsupported {
            operation: "list routes",
            system: std::env::consts::OS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn only_real_overlaps_count() {
        let routes: Vec<Route> = [
            ("0.0.0.0/0", "lan0"),
            ("128.0.0.0/1", "vpn0"),
            ("10.9.0.0/16", "mesh0"),
            ("10.9.5.0/24", "lan1"),
            ("::/0", "lan0"),
            ("fd00::/8", "lan2"),
        ]
        .iter()
        .map(|(destination, interface)| Route {
            destination: net(destination),
            interface: (*interface).to_owned(),
        })
        .collect();
        let overlap = |network| first_overlap(&routes, net(network), "mesh0");
        assert_eq!(
            overlap("10.9.0.0/16"),
            Some((net("10.9.5.0/24"), "lan1".to_owned()))
        );
        assert_eq!(
            overlap("10.9.5.128/25"),
            Some((net("10.9.5.0/24"), "lan1".to_owned()))
        );
        assert_eq!(overlap("10.9.6.0/24"), None);
        assert_eq!(overlap("192.168.0.0/16"), None);
        assert_eq!(
            overlap("fd12:3456::/32"),
            Some((net("fd00::/8"), "lan2".to_owned()))
        );
        assert_eq!(overlap("2001:db8::/32"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_routes_of_a_host_are_found_by_a_dump() {
        use crate::testing::{add_address, add_interface, in_namespace};
        in_namespace(async || {
            add_interface("lan0").await;
            add_interface("mesh0").await;
            add_address("lan0", "192.168.7.2", 24).await;
            add_address("lan0", "fd00:7::2", 64).await;
            add_address("mesh0", "10.9.0.1", 16).await;
            let overlap = overlapping(net("192.168.0.0/16"), "mesh0")
                .await
                .expect("list");
            assert_eq!(overlap, Some((net("192.168.7.0/24"), "lan0".to_owned())));
            let overlap = overlapping(net("fd00:7::/48"), "mesh0")
                .await
                .expect("list");
            assert_eq!(overlap, Some((net("fd00:7::/64"), "lan0".to_owned())));
            assert_eq!(
                overlapping(net("10.9.0.0/16"), "mesh0")
                    .await
                    .expect("list"),
                None
            );
            let overlap = overlapping(net("10.9.0.0/16"), "other")
                .await
                .expect("list");
            assert_eq!(overlap, Some((net("10.9.0.0/16"), "mesh0".to_owned())));
        });
    }
}
