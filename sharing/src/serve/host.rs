//! Is the `Host` header one of our names? A foreign name means DNS rebinding: a web page that made its own name point at
//! a virtual address, to read shares with its visitor's rights. Pure.

use std::net::{IpAddr, Ipv6Addr};

use mesh_wire::peer_info::Directory;

/// The zone of mesh names; `.internal` is reserved for private use, so no outsider can own a name in it.
const ZONE: &str = ".mesh.internal";

/// Whether `host` (with or without port, as in `Host` or in a URL's authority) may name the server that was reached
/// at `address`.
pub(crate) fn is_ours(host: &str, address: IpAddr, directory: &Directory) -> bool {
    let Some(name) = without_port(host) else {
        return false;
    };
    if let Some(ip) = literal(name) {
        return ip.to_canonical() == address.to_canonical() || ip.is_loopback();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.strip_suffix(ZONE).is_some_and(|rest| !rest.is_empty())
        || directory
            .peers
            .iter()
            .any(|peer| peer.name.eq_ignore_ascii_case(&name))
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind(':') {
        // The colons of a bare or bracketed IPv6 address are no port's.
        Some(colon) if !host[colon..].contains(']') => (&host[..colon], &host[colon + 1..]),
        Some(_) | None => (host, ""),
    };
    let plain = !name.is_empty() && !name.contains('@');
    (plain && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

fn literal(name: &str) -> Option<IpAddr> {
    match name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mesh_wire::{
        WireGuardKey,
        peer_info::{PeerInfo, PeerRecord},
    };

    use super::*;

    fn directory() -> Directory {
        let key = SigningKey::from_bytes(&[3; 32]);
        let network = "n".parse().unwrap();
        let record = PeerRecord::sign(
            &key,
            &network,
            WireGuardKey::from_bytes([4; 32]),
            "alice",
            (1, 2),
        )
        .unwrap();
        Directory {
            revocations: Vec::new(),
            revision: 1,
            peers: vec![PeerInfo {
                name: "alice".into(),
                virtual_ips: vec!["10.100.0.2".parse().unwrap()],
                online: true,
                last_seen: 0,
                record,
            }],
        }
    }

    fn ours(host: &str) -> bool {
        is_ours(host, "10.100.0.2".parse().unwrap(), &directory())
    }

    #[test]
    fn our_address_and_names_are_accepted_with_any_port() {
        for host in [
            "10.100.0.2",
            "10.100.0.2:80",
            "10.100.0.2:7083",
            "alice",
            "Alice:80",
            "alice.n.mesh.internal",
            "ALICE.N.MESH.INTERNAL.",
            "localhost",
            "localhost:8080",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "[::ffff:10.100.0.2]",
        ] {
            assert!(ours(host), "{host}");
        }
    }

    #[test]
    fn foreign_names_and_malformed_hosts_are_refused() {
        for host in [
            "",
            "evil.example",
            "10.100.0.3",
            "10.100.0.2.evil.example",
            "mesh.internal",
            ".mesh.internal",
            "evil-mesh.internal",
            "alice.evil.example",
            "10.100.0.2:x",
            "10.100.0.2:999999",
            "alice@10.100.0.2",
            "[10.100.0.2]",
            "[::2]",
            "::1]",
            "bob",
        ] {
            assert!(!ours(host), "{host}");
        }
    }
}
