//! Where can no peer be, whoever says that it is there?

use std::net::IpAddr;

/// Whether no peer may be there: loopback, link-local IPv4, multicast, unspecified or broadcast. A candidate of this
/// kind would only make us knock on doors of our own machine or segment.
pub fn is_never_a_peer(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
        }
    }
}
