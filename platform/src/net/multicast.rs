//! How is one multicast group heard and spoken to on one interface, beside other programs that do so on the same port?

use super::addresses::LocalAddress;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

/// As far as one segment: who receives less knows that a router was in between (RFC 6762, 11).
const HOPS: u32 = 255;

/// A non-blocking socket that receives what comes to `group` (of the same family as `link.address`) on that interface, and
/// sends there. Other programs may have the port too, if they share it: on the systems that allow it the socket is bound to
/// the group, so that no datagram for one of them comes here.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] where another program has the port for itself.
pub fn join(link: &LocalAddress, group: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let bound = bound_address(link, group, port);
    let socket = Socket::new(Domain::for_address(bound), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Systems of the BSD kind want both.
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if bound.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&bound.into())?;
    match (link.address, group) {
        (IpAddr::V4(own), IpAddr::V4(group)) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Address(own))?;
            socket.set_multicast_if_v4(&own)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            // Else what comes in on any interface that any program has joined the group on.
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v4(false)?;
        }
        (IpAddr::V6(_), IpAddr::V6(group)) => {
            socket.join_multicast_v6(&group, link.index)?;
            socket.set_multicast_if_v6(link.index)?;
            socket.set_multicast_hops_v6(HOPS)?;
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v6(false)?;
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    Ok(socket.into())
}

#[cfg(unix)]
fn bound_address(link: &LocalAddress, group: IpAddr, port: u16) -> SocketAddr {
    match group {
        IpAddr::V4(_) => SocketAddr::new(group, port),
        IpAddr::V6(group) => std::net::SocketAddrV6::new(group, port, 0, link.index).into(),
    }
}

/// No address of a group can be bound here.
#[cfg(not(unix))]
fn bound_address(_link: &LocalAddress, group: IpAddr, port: u16) -> SocketAddr {
    let any: IpAddr = match group {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, port)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{
        net::addresses::local_addresses,
        testing::{add_address, add_interface, in_namespace},
    };

    #[test]
    fn two_share_a_port_hear_each_other_and_not_what_is_elsewhere() {
        in_namespace(async || {
            for (interface, address) in [("lan0", "192.168.7.2"), ("lan1", "192.168.8.2")] {
                add_interface(interface).await;
                add_address(interface, address, 24).await;
            }
            let links = local_addresses("").await.expect("list");
            let group = IpAddr::from([224, 0, 0, 251]);
            let joined = |number: usize| join(&links[number], group, 5353).expect("join");
            let (one, other, elsewhere) = (joined(0), joined(0), joined(1));
            one.send_to(b"hello", (group, 5353)).expect("send");
            let mut buffer = [0; 9];
            let (len, from) = other.recv_from(&mut buffer).expect("heard");
            assert_eq!(&buffer[..len], b"hello");
            assert_eq!(from, SocketAddr::new(links[0].address, 5353));
            let nothing = elsewhere.recv_from(&mut buffer).expect_err("not there");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn who_has_the_port_alone_keeps_it() {
        in_namespace(async || {
            add_interface("lan0").await;
            add_address("lan0", "192.168.7.2", 24).await;
            let links = local_addresses("").await.expect("list");
            let _alone = UdpSocket::bind("0.0.0.0:5353").expect("bind");
            let error = join(&links[0], [224, 0, 0, 251].into(), 5353).expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        });
    }
}
