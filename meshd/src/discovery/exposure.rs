//! Who can read what is said to a discovery server, and who reaches it by the URL that is known here?

use std::net::IpAddr;

use platform::net::addresses::is_private;
use url::{Host, Url};

use crate::problem::{self, Problem};

/// Endings of names that the Internet's own name service gives to nobody (RFC 6761, 6762, 8375, and ICANN for `internal`), and
/// what home routers make up.
const LOCAL_ENDINGS: [&str; 7] = [
    "localhost",
    "local",
    "home.arpa",
    "internal",
    "lan",
    "home",
    "fritz.box",
];

/// What is to be said of a server's URL, though nothing fails. The server `embedded` in this daemon is named otherwise in join links.
pub fn notes(server: &Url, embedded: Option<&Url>) -> Vec<Problem> {
    let exposed = is_exposed(server).then(|| problem::server_plain_http(server.as_str()));
    let misleads = is_loopback(server) && embedded != Some(server);
    let loopback = misleads.then(|| problem::server_on_loopback(server.as_str()));
    exposed.into_iter().chain(loopback).collect()
}

/// Whether what is said to this server may pass others in the clear: the URL does not say https, and names no place on
/// this machine or in a private network. What a public name stands for is not asked.
fn is_exposed(server: &Url) -> bool {
    let is_near = match server.host() {
        Some(Host::Ipv4(ip)) => is_private(ip.into()),
        Some(Host::Ipv6(ip)) => is_private(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => is_local_name(name),
        None => true,
    };
    server.scheme() == "http" && !is_near
}

/// Whether the URL leads each machine to itself, so that a join link with it leads nobody here.
fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Host::Ipv6(ip)) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip.is_unspecified()
        }
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// A name without a dot is looked up in the own network only.
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let ends_so = |ending: &str| {
        let rest = name.strip_suffix(ending);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !name.contains('.') || LOCAL_ENDINGS.iter().any(|ending| ends_so(ending))
}

#[cfg(test)]
mod tests {
    use mesh_wire::join_link::parse_server;

    use super::*;

    #[test]
    fn plain_http_to_the_internet_is_exposed_and_https_and_the_own_network_are_not() {
        for exposed in [
            "198.51.100.2",
            "http://198.51.100.2:7080",
            "mesh.example.com",
            "http://mesh.example.com.",
            "[2001:db8::2]",
            "http://[::ffff:198.51.100.2]:7080",
            "172.32.0.1",
            "notlocal.example",
            "mylocal.net",
            "box.de",
        ] {
            assert!(is_exposed(&parse_server(exposed).unwrap()), "{exposed}");
        }
        for fine in [
            "https://198.51.100.2",
            "https://mesh.example.com:8443",
            "127.0.0.1",
            "localhost:7080",
            "192.168.1.10",
            "http://10.1.2.3:7080",
            "172.16.0.1",
            "169.254.3.4",
            "100.64.0.7",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "http://[::ffff:192.168.1.10]:7080",
            "nas",
            "nas.local",
            "http://nas.home.arpa.:7080",
            "mesh.corp.internal",
            "router.fritz.box",
        ] {
            assert!(!is_exposed(&parse_server(fine).unwrap()), "{fine}");
        }
    }

    #[test]
    fn what_leads_each_machine_to_itself_is_known() {
        for (server, own) in [
            ("localhost:7080", true),
            ("http://a.localhost.", true),
            ("127.0.0.2", true),
            ("0.0.0.0:7080", true),
            ("[::1]:7080", true),
            ("http://[::ffff:127.0.0.1]:7080", true),
            ("192.168.1.2", false),
            ("notlocalhost", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&parse_server(server).unwrap()), own, "{server}");
        }
    }
}
