//! The creator of a network with a key: invites, certificates and revocations, as the daemons make them.

use std::{
    net::Ipv4Addr,
    time::{SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId, WireGuardKey,
    discovery::{RegisterPeer, Revoke},
    peer_info::PeerRecord,
    trust::{
        Binding, Capability, Certificate, Invite, InviteTerms, Issuer, Revocation, Role, Root,
        Span, default_mac,
    },
};

use crate::harness::{Net, Node};

pub(crate) const DAY: u64 = 24 * 3600;

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// A network, with the secret half of its key.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) net: Net,
    pub(crate) key: SigningKey,
}

impl Authority {
    /// Of a network that no server knows yet.
    pub(crate) fn new(name: &str) -> Self {
        let key = SigningKey::from_bytes(&[200; 32]);
        let mut net = Net::new(name, "10.100.0.0/24");
        net.create.network_key = Some(NodeId::of(&key));
        Self { net, key }
    }

    pub(crate) fn root(&self) -> Root {
        Root {
            network: self.net.id.clone(),
            key: NodeId::of(&self.key),
        }
    }

    /// An invite with this key.
    pub(crate) fn invite(&self, secret: [u8; 32], uses: Option<u32>, span: Span) -> Capability {
        let secret = SigningKey::from_bytes(&secret);
        let terms = InviteTerms {
            key: NodeId::of(&secret),
            uses,
            roles: [Role::Relay].into_iter().collect(),
            span,
        };
        let invite = Invite::sign(&self.root(), &self.key, None, &terms).unwrap();
        Capability::new(secret, invite).unwrap()
    }

    pub(crate) fn week(&self, secret: [u8; 32], uses: Option<u32>) -> Capability {
        let span = Span {
            from: now() - 60,
            until: now() + 7 * DAY,
        };
        self.invite(secret, uses, span)
    }

    pub(crate) fn by_network(&self, binding: &Binding) -> Certificate {
        Certificate::sign(&self.root(), &self.key, &Issuer::Network, binding).unwrap()
    }

    pub(crate) fn register(
        &self,
        node: &Node,
        seq: u64,
        certificate: Option<&Certificate>,
    ) -> RegisterPeer {
        let record = PeerRecord::sign_with(
            &node.key,
            &self.net.id,
            WireGuardKey::from_bytes(*node.id().as_bytes()),
            (&node.hostname, certificate),
            (seq, 1),
        );
        RegisterPeer {
            record: record.unwrap(),
            requested_ip: None,
        }
    }

    /// Puts a key out.
    pub(crate) fn out(&self, key: &NodeId) -> Revocation {
        Revocation::sign(&self.root(), &self.key, None, (key, now())).unwrap()
    }

    /// The request that hands a revocation over.
    pub(crate) fn revoke(revocation: &Revocation) -> Revoke {
        Revoke {
            revocation: revocation.to_text(),
        }
    }
}

/// What a certificate says of a node.
pub(crate) fn binding(node: &Node, address: u8) -> Binding {
    let from = now();
    Binding {
        node_id: node.id(),
        wireguard_key: WireGuardKey::from_bytes(*node.id().as_bytes()),
        name: node.hostname.clone(),
        virtual_ips: vec![Ipv4Addr::new(10, 100, 0, address).into()],
        mac: default_mac(&node.id()),
        roles: [Role::Relay].into_iter().collect(),
        subnets: Vec::new(),
        span: Span {
            from,
            until: from + 30 * DAY,
        },
        serial: 1,
    }
}
