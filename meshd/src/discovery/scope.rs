//! What may a discovery server decide? In a network with a key nothing about who is a member and what it has: that is in
//! certificates. Without one which free address of the agreed private range a member has. No route of this host is its to
//! take.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use mesh_wire::{
    NetworkId, NodeId,
    discovery::Network,
    id::check_dns_label,
    peer_info::{PeerInfo, PeerRecord},
    place::is_host,
    trust::{Binding, Root},
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
    /// In a network with a key: what certificates are verified against.
    pub root: Option<Root>,
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
        let is_sound = addresses
            && check_dns_label("name", &peer.name).is_ok()
            && peer.name.parse::<NodeId>().is_err()
            && peer.record.verify(&self.network).is_ok();
        match &self.root {
            None => is_sound,
            Some(root) => is_sound && is_certified(peer, root),
        }
    }

    fn is_member_address(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => is_host(self.cidr, ip),
            IpAddr::V6(_) => false,
        }
    }
}

/// Whether all that the server says of a member is in its certificate.
fn is_certified(peer: &PeerInfo, root: &Root) -> bool {
    peer.record.certified(root).is_ok_and(|certificate| {
        let Binding {
            name, virtual_ips, ..
        } = &certificate.binding;
        (name, virtual_ips) == (&peer.name, &peer.virtual_ips)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;
    use mesh_wire::{
        WireGuardKey,
        trust::{Certificate, Issuer, Roles},
    };

    use super::*;
    use crate::trust::anchor::tests as anchor;

    pub(crate) fn scope() -> Scope {
        Scope {
            network: "my-network".parse().unwrap(),
            cidr: "10.100.0.0/16".parse().unwrap(),
            node_id: NodeId::of(&SigningKey::from_bytes(&[99; 32])),
            own_ips: vec![[10, 100, 0, 99].into()],
            root: None,
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

    /// A member with a certificate of the network with key 1, which says what `binding` makes of it.
    pub(crate) fn certified(number: u8, change: impl FnOnce(&mut Binding)) -> PeerInfo {
        let key = SigningKey::from_bytes(&[1; 32]);
        let mut binding = anchor::binding(number, Roles::default());
        change(&mut binding);
        let certificate = Certificate::sign(&root(), &key, &Issuer::Network, &binding).unwrap();
        member(number, &certificate, 1)
    }

    /// A member with this certificate.
    pub(crate) fn member(number: u8, certificate: &Certificate, seq: u64) -> PeerInfo {
        let binding = certificate.binding.clone();
        let record = PeerRecord::sign_with(
            &SigningKey::from_bytes(&[number; 32]),
            &scope().network,
            binding.wireguard_key,
            ("host", Some(certificate)),
            (seq, 1),
        );
        PeerInfo {
            name: binding.name,
            virtual_ips: binding.virtual_ips,
            online: true,
            last_seen: 0,
            record: record.unwrap(),
        }
    }

    pub(crate) fn root() -> Root {
        Root {
            network: scope().network,
            key: NodeId::of(&SigningKey::from_bytes(&[1; 32])),
        }
    }

    pub(crate) fn keyed() -> Scope {
        Scope {
            root: Some(root()),
            ..scope()
        }
    }

    #[test]
    fn in_a_network_with_a_key_only_certificates_make_members() {
        let bob = certified(2, |_| {});
        assert!(keyed().admits(&bob));
        assert!(!keyed().admits(&peer(2, "bob", 1)), "none");
        let renamed = PeerInfo {
            name: "alice".into(),
            ..bob.clone()
        };
        assert!(!keyed().admits(&renamed));
        let moved = PeerInfo {
            virtual_ips: vec![[10, 100, 0, 77].into()],
            ..bob.clone()
        };
        assert!(!keyed().admits(&moved));
        let other_key = certified(2, |b| b.wireguard_key = WireGuardKey::from_bytes([77; 32]));
        assert!(keyed().admits(&other_key));
        let mut swapped = bob;
        swapped.record.wireguard_key = WireGuardKey::from_bytes([77; 32]);
        assert!(!keyed().admits(&swapped));
        let elsewhere = Scope {
            root: Some(Root {
                key: NodeId::from_bytes([7; 32]),
                ..root()
            }),
            ..scope()
        };
        assert!(!elsewhere.admits(&certified(2, |_| {})));
    }

    fn network(cidr: &str) -> Network {
        Network {
            id: scope().network,
            cidr: cidr.parse().unwrap(),
            network_key: None,
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
