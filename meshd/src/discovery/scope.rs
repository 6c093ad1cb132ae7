//! What may a discovery server decide about addresses? Which free address of the agreed private range a member has, and
//! nothing else: no route of this host is its to take.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use mesh_wire::{
    NetworkId, NodeId,
    discovery::Network,
    id::check_dns_label,
    peer_info::{PeerInfo, PeerRecord},
};

use crate::config::is_usable_range;

/// The network as we know it, against which everything that the server says is held.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its name.
    pub network: NetworkId,
    /// Where its addresses come from.
    pub cidr: Ipv4Net,
    /// Ourselves.
    pub node_id: NodeId,
    /// Our addresses; empty before the first registration.
    pub own_ips: Vec<IpAddr>,
}

impl Scope {
    /// Why this network cannot be the one, if so. `joined` tells whether its range is known already.
    pub fn object_to_network(&self, network: &Network, joined: bool) -> Option<String> {
        if network.id != self.network {
            return Some(format!(
                "it speaks of a network {} that was not asked for",
                network.id
            ));
        }
        if !is_usable_range(network.cidr) {
            return Some(format!(
                "it names {} as the virtual range, which is no range for private use",
                network.cidr
            ));
        }
        if joined && network.cidr != self.cidr {
            return Some(format!(
                "it changed the virtual range from {} to {}",
                self.cidr, network.cidr
            ));
        }
        None
    }

    /// Why this cannot be our own registration, if so.
    pub fn object_to_own(&self, own: &PeerInfo) -> Option<String> {
        if own.record.node_id != self.node_id {
            return Some("it answered our registration with another member's".to_owned());
        }
        match own.virtual_ips.as_slice() {
            [ip] if self.is_member_address(*ip) && check_dns_label("name", &own.name).is_ok() => {
                None
            }
            [_] => Some(format!(
                "it gives this node a name or an address that {} does not have",
                self.cidr
            )),
            _ => Some("it gives this node no address, or more than one".to_owned()),
        }
    }

    /// Whether a member may be listed so: signed by itself, with a proper name and addresses of this range that are
    /// not ours.
    pub fn admits(&self, peer: &PeerInfo) -> bool {
        let PeerRecord { node_id, .. } = peer.record;
        let addresses = peer.virtual_ips.iter().all(|ip| {
            self.is_member_address(*ip) && (node_id == self.node_id || !self.own_ips.contains(ip))
        });
        addresses
            && check_dns_label("name", &peer.name).is_ok()
            && peer.name.parse::<NodeId>().is_err()
            && peer.record.verify(&self.network).is_ok()
    }

    fn is_member_address(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                self.cidr.contains(&ip) && ip != self.cidr.network() && ip != self.cidr.broadcast()
            }
            IpAddr::V6(_) => false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ed25519_dalek::SigningKey;
    use mesh_wire::WireGuardKey;

    use super::*;

    pub(crate) fn scope() -> Scope {
        Scope {
            network: "my-network".parse().unwrap(),
            cidr: "10.100.0.0/16".parse().unwrap(),
            node_id: NodeId::of(&SigningKey::from_bytes(&[99; 32])),
            own_ips: vec![[10, 100, 0, 99].into()],
        }
    }

    pub(crate) fn peer(key: u8, name: &str, seq: u64) -> PeerInfo {
        let signer = SigningKey::from_bytes(&[key; 32]);
        let session_key = WireGuardKey::from_bytes([key; 32]);
        let record =
            PeerRecord::sign(&signer, &scope().network, session_key, name, (seq, seq)).unwrap();
        PeerInfo {
            name: name.to_owned(),
            virtual_ips: vec![[10, 100, 0, key].into()],
            online: true,
            last_seen: 0,
            record,
        }
    }

    fn network(cidr: &str) -> Network {
        Network {
            id: scope().network,
            cidr: cidr.parse().unwrap(),
            network_key: NodeId::from_bytes([1; 32]),
            created_at: 0,
            peer_count: 0,
            stun_port: None,
            public_ip: None,
        }
    }

    #[test]
    fn only_private_ranges_and_the_known_one_are_taken() {
        assert!(
            scope()
                .object_to_network(&network("10.100.0.0/16"), true)
                .is_none()
        );
        assert!(
            scope()
                .object_to_network(&network("10.66.0.0/16"), false)
                .is_none()
        );
        assert!(
            scope()
                .object_to_network(&network("10.66.0.0/16"), true)
                .is_some()
        );
        for public in [
            "8.0.0.0/8",
            "0.0.0.0/0",
            "203.0.113.0/24",
            "10.0.0.0/31",
            "127.0.0.0/8",
        ] {
            assert!(
                scope().object_to_network(&network(public), false).is_some(),
                "{public}"
            );
        }
    }

    #[test]
    fn our_own_address_is_exactly_one_of_the_range() {
        let own = |ips: Vec<IpAddr>| PeerInfo {
            virtual_ips: ips,
            ..peer(99, "me", 1)
        };
        assert!(
            scope()
                .object_to_own(&own(vec![[10, 100, 0, 99].into()]))
                .is_none()
        );
        for ips in [
            vec![],
            vec![[203, 0, 113, 254].into()],
            vec![[10, 100, 0, 0].into()],
            vec![[10, 100, 255, 255].into()],
            vec![[10, 100, 0, 9].into(), [10, 100, 0, 8].into()],
            vec![IpAddr::from([0_u16; 8])],
        ] {
            assert!(
                scope().object_to_own(&own(ips.clone())).is_some(),
                "{ips:?}"
            );
        }
        assert!(scope().object_to_own(&peer(5, "other", 1)).is_some());
    }

    #[test]
    fn a_member_has_an_address_of_the_range_that_is_not_ours_and_a_proper_name() {
        assert!(scope().admits(&peer(2, "bob", 1)));
        let with_ip = |ip: [u8; 4]| PeerInfo {
            virtual_ips: vec![ip.into()],
            ..peer(2, "bob", 1)
        };
        assert!(!scope().admits(&with_ip([10, 100, 0, 99])));
        assert!(!scope().admits(&with_ip([192, 168, 1, 1])));
        let named = |name: &str| PeerInfo {
            name: name.to_owned(),
            ..peer(2, "bob", 1)
        };
        assert!(!scope().admits(&named("evil\nproblem: fake")));
        assert!(!scope().admits(&named(&NodeId::from_bytes([7; 32]).to_string())));
    }
}
