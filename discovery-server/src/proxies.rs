//! Who asks, when a reverse proxy stands in front of the server?
//!
//! Behind one all clients have one address, and would share what a single one may do. What a proxy says of them is believed
//! only if the operator named its address: else anybody could be whomever they like.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// Each proxy adds at the end whom it heard (nginx: `$proxy_add_x_forwarded_for`). RFC 7239's `Forwarded` is hardly used.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies in a row; what stands in front of them is not looked at.
const MAX_PROXIES: usize = 16;

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Vec<IpNet>);

impl Proxies {
    /// These, and no others.
    pub(crate) fn new(trusted: Vec<IpNet>) -> Self {
        Self(trusted)
    }

    /// Whether this is the address of one.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Where a request comes from that `neighbour` sent: the last address of the header that is no trusted proxy's. What
    /// stands in front of that one is the client's own word. A proxy that names nobody asks for itself.
    pub(crate) fn client(&self, neighbour: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = neighbour.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut names = lines
            // The client's own part of a line may be of any bytes.
            .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
            .map(parsed)
            .take(MAX_PROXIES);
        while self.trust(client) {
            match names.next() {
                Some(Some(before)) => client = before,
                Some(None) | None => break,
            }
        }
        client
    }
}

/// Some proxies name a port too.
fn parsed(name: &[u8]) -> Option<IpAddr> {
    let name = str::from_utf8(name).ok()?.trim();
    let with_port = || Some(name.parse::<SocketAddr>().ok()?.ip());
    let address = name.parse().ok().or_else(with_port);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(neighbour: &str, lines: &[&str]) -> String {
        let trusted = ["192.0.2.0/24", "2001:db8::/32"].map(|range| range.parse().unwrap());
        let headers = lines
            .iter()
            .map(|line| (FORWARDED_FOR, line.parse().unwrap()));
        let proxies = Proxies::new(trusted.into());
        let client = proxies.client(neighbour.parse().unwrap(), &headers.collect());
        client.to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_clients() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client("::ffff:192.0.2.1", &["198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(
            client("192.0.2.1", &["10.0.0.1, 198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(
            client("192.0.2.1", &["198.51.100.7, 192.0.2.9"]),
            "198.51.100.7"
        );
        assert_eq!(
            client("192.0.2.1", &["10.0.0.1", "198.51.100.7:4711"]),
            "198.51.100.7"
        );
        assert_eq!(client("2001:db8::1", &["[2001:db9::7]:443"]), "2001:db9::7");
    }

    #[test]
    fn who_is_no_proxy_speaks_for_nobody_else() {
        assert_eq!(client("198.51.100.9", &["198.51.100.7"]), "198.51.100.9");
        let proxies = Proxies::default();
        let headers = [(FORWARDED_FOR, "198.51.100.7".parse().unwrap())];
        let neighbour = "192.0.2.1".parse().unwrap();
        assert_eq!(
            proxies.client(neighbour, &headers.into_iter().collect()),
            neighbour
        );
    }

    #[test]
    fn what_a_client_writes_in_front_hides_nothing() {
        let proxies = Proxies::new(vec!["192.0.2.0/24".parse().unwrap()]);
        let line = HeaderValue::from_bytes(b"\xff\xfe, 198.51.100.7").unwrap();
        let headers = [(FORWARDED_FOR, line)].into_iter().collect();
        let client = proxies.client("192.0.2.1".parse().unwrap(), &headers);
        assert_eq!(client.to_string(), "198.51.100.7");
    }

    #[test]
    fn what_is_no_address_is_charged_to_the_proxy() {
        for line in ["", "unknown", "198.51.100.7, _hidden", "198.51.100.7,"] {
            assert_eq!(client("192.0.2.1", &[line]), "192.0.2.1", "{line}");
        }
        assert_eq!(client("192.0.2.1", &[]), "192.0.2.1");
        let circle = vec!["192.0.2.2"; 100].join(",");
        assert_eq!(client("192.0.2.1", &[&circle]), "192.0.2.2");
    }
}
