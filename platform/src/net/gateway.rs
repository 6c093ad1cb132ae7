//! Through which router does this host reach the internet?

use super::NetError;
use std::net::IpAddr;

/// The next hop of a default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The router's address on the network that it shares with this host.
    pub address: IpAddr,
    /// The interface that leads there.
    pub interface: String,
}

/// The gateways of the default routes, at most one for each version of IP, IPv4 first: that of the
/// route with the lowest metric. Routes of `ignore_interface` (the mesh's own) and default routes
/// without a gateway, as on a point-to-point link, do not count.
pub async fn default_gateways(ignore_interface: &str) -> Result<Vec<Gateway>, NetError> {
    let mut found = system::candidates().await?;
    found.retain(|candidate| candidate.gateway.interface != ignore_interface);
    let best = |v4: bool| {
        let family = |candidate: &&Candidate| candidate.gateway.address.is_ipv4() == v4;
        found
            .iter()
            .filter(family)
            .min_by_key(|candidate| candidate.metric)
            .map(|candidate| candidate.gateway.clone())
    };
    Ok([best(true), best(false)].into_iter().flatten().collect())
}

struct Candidate {
    gateway: Gateway,
    metric: u32,
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Candidate, Gateway, NetError};
    use crate::net::netlink::{self, Link};
    use netlink_packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
    };
    use std::{collections::BTreeMap, net::IpAddr};

    pub(super) async fn candidates() -> Result<Vec<Candidate>, NetError> {
        let handle = netlink::connect()?;
        let links = netlink::links(&handle).await?;
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let dump = handle.route().get(request).execute();
            let messages = netlink::collect("list routes", dump).await?;
            let routes = messages.iter().filter(|message| is_default(message));
            found.extend(routes.filter_map(|message| candidate(message, &links)));
        }
        Ok(found)
    }

    fn is_default(message: &RouteMessage) -> bool {
        let header = &message.header;
        header.kind == RouteType::Unicast
            && header.destination_prefix_length == 0
            && header.table == RouteHeader::RT_TABLE_MAIN
    }

    fn candidate(message: &RouteMessage, links: &BTreeMap<u32, Link>) -> Option<Candidate> {
        let (mut address, mut index, mut metric): (Option<IpAddr>, _, _) = (None, None, 0);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(v4)) => address = Some((*v4).into()),
                RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => address = Some((*v6).into()),
                RouteAttribute::Oif(oif) => index = Some(*oif),
                RouteAttribute::Priority(priority) => metric = *priority,
                _ => {}
            }
        }
        let link = links.get(&index?).filter(|link| link.is_up)?;
        let gateway = Gateway {
            address: address?,
            interface: link.name.clone(),
        };
        Some(Candidate { gateway, metric })
    }
}

#[cfg(any(target_os = "macos", windows))]
mod system {
    use super::{Candidate, Gateway, NetError};
    use std::net::IpAddr;

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn candidates() -> Result<Vec<Candidate>, NetError> {
        let interfaces = netdev::get_interfaces();
        let mut found = Vec::new();
        // The system's own order stands for a metric.
        for (metric, interface) in (0..).zip(&interfaces) {
            let Some(router) = &interface.gateway else {
                continue;
            };
            let v4 = router.ipv4.first().map(|v4| IpAddr::V4(*v4));
            let v6 = router.ipv6.first().map(|v6| IpAddr::V6(*v6));
            found.extend([v4, v6].into_iter().flatten().map(|address| Candidate {
                gateway: Gateway {
                    address,
                    interface: interface.name.clone(),
                },
                metric,
            }));
        }
        Ok(found)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod system {
    use super::{Candidate, NetError};

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn candidates() -> Result<Vec<Candidate>, NetError> {
        Err(NetError::Unsupported {
            operation: "list routes",
            system: std::env::consts::OS,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::testing::{add_address, add_interface, in_namespace};
    use rtnetlink::RouteMessageBuilder;
    use std::net::Ipv4Addr;

    async fn add_default(gateway: Ipv4Addr, metric: u32) {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .priority(metric)
            .build();
        handle.route().add(route).execute().await.expect("a route");
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_names_the_gateway() {
        in_namespace(async || {
            assert_eq!(default_gateways("mesh0").await.expect("list"), []);
            for (interface, address) in [
                ("lan0", "192.168.7.2"),
                ("lan1", "192.168.8.2"),
                ("mesh0", "10.9.0.1"),
            ] {
                add_interface(interface).await;
                add_address(interface, address, 24).await;
            }
            add_default([192, 168, 7, 1].into(), 600).await;
            add_default([192, 168, 8, 1].into(), 100).await;
            add_default([10, 9, 0, 2].into(), 1).await;
            let expected = Gateway {
                address: [192, 168, 8, 1].into(),
                interface: "lan1".to_owned(),
            };
            assert_eq!(default_gateways("mesh0").await.expect("list"), [expected]);
        });
    }
}
