//! Which way do packets leave this host for the internet? That can change while all its addresses stay: a cable beside Wi-Fi gets
//! the better route once its lease is there, a tunnel takes the default route.

use super::{NetError, addresses::source_towards};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Somewhere on the internet, where nothing is ever sent: a.root-servers.net, whose addresses have not changed in decades. One for
/// documentation would not do, since hosts may have routes that lead such packets nowhere.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];

/// How packets to the internet leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The system's number of the interface; 0 where it does not say.
    pub interface: u32,
    /// The router on that interface, if the system names one.
    pub gateway: Option<IpAddr>,
    /// The source that the system chooses.
    pub source: Option<IpAddr>,
}

/// The way out over IPv4 and over IPv6, each `None` where there is none. Whatever rules and tables the host has, its kernel has
/// applied them.
pub async fn ways_out() -> Result<[Option<Way>; 2], NetError> {
    system::ways(FAR).await
}

/// As [`ways_out`], as far as it can be told where netlink is refused: the sources alone.
pub fn sources_out() -> [Option<Way>; 2] {
    FAR.map(|to| {
        let source = source_towards(to).ok()?;
        Some(Way {
            interface: 0,
            gateway: None,
            source: Some(source),
        })
    })
}

#[cfg(target_os = "linux")]
mod system {
    use super::{NetError, Way};
    use crate::net::netlink;
    use futures::TryStreamExt as _;
    use netlink_packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    };
    use std::net::IpAddr;

    pub(super) async fn ways(far: [IpAddr; 2]) -> Result<[Option<Way>; 2], NetError> {
        let handle = netlink::connect()?;
        let mut found = [None; 2];
        for (way, to) in found.iter_mut().zip(far) {
            let mut answers = Box::pin(handle.route().get(question(to)).execute());
            // A refusal is the answer where no route leads there.
            *way = match answers.try_next().await {
                Ok(answer) => answer.as_ref().and_then(read),
                Err(rtnetlink::Error::NetlinkError(_)) => None,
                Err(error) => {
                    return Err(NetError::System {
                        operation: "look up a route",
                        source: netlink::netlink_error(error),
                    });
                }
            };
        }
        Ok(found)
    }

    fn question(to: IpAddr) -> RouteMessage {
        let mut question = RouteMessage::default();
        let (family, prefix_len, address) = match to {
            IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(v6)),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = prefix_len;
        question
            .attributes
            .push(RouteAttribute::Destination(address));
        question
    }

    fn read(answer: &RouteMessage) -> Option<Way> {
        if answer.header.kind != RouteType::Unicast {
            return None;
        }
        let mut way = Way {
            interface: 0,
            gateway: None,
            source: None,
        };
        for attribute in &answer.attributes {
            match attribute {
                RouteAttribute::Oif(index) => way.interface = *index,
                RouteAttribute::Gateway(address) => way.gateway = ip(address),
                RouteAttribute::PrefSource(address) => way.source = ip(address),
                _ => {}
            }
        }
        Some(way)
    }

    fn ip(address: &RouteAddress) -> Option<IpAddr> {
        match address {
            RouteAddress::Inet(v4) => Some((*v4).into()),
            RouteAddress::Inet6(v6) => Some((*v6).into()),
            _ => None,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{NetError, Way, sources_out};
    use std::net::IpAddr;

    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn ways(_far: [IpAddr; 2]) -> Result<[Option<Way>; 2], NetError> {
        Ok(sources_out())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::testing::{add_address, add_interface, add_route, in_namespace, index_of};

    #[test]
    fn a_way_out_is_the_best_routes_interface_gateway_and_source() {
        in_namespace(async || {
            assert_eq!(ways_out().await.expect("ask"), [None, None]);
            for (name, address) in [("lan0", "192.168.7.2"), ("lan1", "192.168.8.2")] {
                add_interface(name).await;
                add_address(name, address, 24).await;
            }
            add_route("0.0.0.0", 0, "192.168.7.1").await;
            let way = |name: &str, gateway: [u8; 4], source: [u8; 4]| Way {
                interface: index_of(name),
                gateway: Some(gateway.into()),
                source: Some(source.into()),
            };
            let first = way("lan0", [192, 168, 7, 1], [192, 168, 7, 2]);
            assert_eq!(ways_out().await.expect("ask"), [Some(first), None]);
            // A better one, though the default route is the same still.
            add_route("128.0.0.0", 1, "192.168.8.1").await;
            let second = way("lan1", [192, 168, 8, 1], [192, 168, 8, 2]);
            assert_eq!(ways_out().await.expect("ask"), [Some(second), None]);
            let sources = sources_out().map(|way| way.and_then(|way| way.source));
            assert_eq!(sources, [second.source, None]);
        });
    }
}
