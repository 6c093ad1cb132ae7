//! How are the JSON bodies described in the OpenAPI document?
//!
//! The types themselves are in `mesh_wire`, which knows nothing of OpenAPI. These name the same fields; a test
//! compares them with what `mesh_wire` really writes.
#![expect(
    dead_code,
    reason = "only the derived descriptions of these types are used, never values"
)]

use utoipa::{
    OpenApi as _, ToSchema,
    openapi::{
        OpenApi,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

/// A network to be created.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateNetwork {
    /// The name it shall have on this server: a DNS label.
    #[schema(
        example = "my-network",
        pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
    )]
    pub id: String,
    /// Where virtual addresses are taken from.
    #[schema(example = "10.100.0.0/16")]
    pub cidr: String,
    /// The network's Ed25519 public key in lower-case base32. Without one whoever has the admission token is a member;
    /// with one only who has a certificate.
    #[schema(min_length = 52, max_length = 52)]
    pub network_key: Option<String>,
    /// What members show as their bearer token. The server keeps a hash of it.
    #[schema(
        min_length = 32,
        max_length = 128,
        pattern = "^[!-~]+$",
        format = Password
    )]
    pub admission_token: String,
}

/// A network.
#[derive(Debug, ToSchema)]
pub(crate) struct Network {
    /// Its name on this server.
    pub id: String,
    /// Where virtual addresses are taken from.
    pub cidr: String,
    /// The network's Ed25519 public key in lower-case base32; null when it has none.
    #[schema(required = true)]
    pub network_key: Option<String>,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Members, online or not.
    pub peer_count: u64,
    /// UDP port of the server's STUN service; null when it has none.
    #[schema(required = true)]
    pub stun_port: Option<u16>,
    /// The address to reach STUN at, when it differs from the host of the server's URL.
    #[schema(required = true)]
    pub public_ip: Option<String>,
}

/// All networks.
#[derive(Debug, ToSchema)]
pub(crate) struct NetworkList {
    /// In order of name.
    pub networks: Vec<Network>,
}

/// What a node says of itself, signed with its identity key.
#[derive(Debug, ToSchema)]
pub(crate) struct PeerRecord {
    /// The node's Ed25519 public key in lower-case base32.
    #[schema(min_length = 52, max_length = 52)]
    pub node_id: String,
    /// The node's Curve25519 public key in base64.
    #[schema(min_length = 44, max_length = 44)]
    pub wireguard_key: String,
    /// The host name it would like to have: a DNS label.
    pub hostname: String,
    /// Rises with every record that the node signs.
    pub seq: u64,
    /// Random per start of the daemon.
    pub instance: u64,
    /// Base64 of the Ed25519 signature.
    pub signature: String,
    /// Base64 of the certificate that makes the node a member; needed where the network has a key.
    pub certificate: Option<String>,
}

/// A key to be revoked.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revoke {
    /// Base64 of the signed revocation.
    pub revocation: String,
}

/// A node to be registered.
#[derive(Debug, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterPeer {
    /// What the node signed.
    pub record: PeerRecord,
    /// The address it had before, or would like.
    pub requested_ip: Option<String>,
}

/// A member.
#[derive(Debug, ToSchema)]
pub(crate) struct PeerInfo {
    /// The name in this network, unique there.
    pub name: String,
    /// Addresses on the virtual LAN.
    pub virtual_ips: Vec<String>,
    /// Whether the server has a live event connection from it.
    pub online: bool,
    /// Seconds since the Unix epoch.
    pub last_seen: u64,
    /// What the node signed; its fields stand beside the others.
    #[serde(flatten)]
    pub record: PeerRecord,
}

/// All members of a network.
#[derive(Debug, ToSchema)]
pub(crate) struct Directory {
    /// Rises with every change, across restarts of the server.
    pub revision: u64,
    /// In order of name.
    pub peers: Vec<PeerInfo>,
    /// Base64 of the signed revocations: keys that are out for good.
    pub revocations: Vec<String>,
}

/// A problem document (RFC 9457).
#[derive(Debug, ToSchema)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable machine-readable name.
    pub code: String,
    /// What went wrong.
    pub title: String,
    /// Why.
    pub detail: String,
    /// What helps.
    pub fix: String,
}

/// The state of the server.
#[derive(Debug, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`; otherwise the answer is a problem.
    pub status: String,
    /// The server's version.
    pub version: String,
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "discovery-server",
    description = "Registry of networks and peers, and signalling between them."
))]
struct Document;

/// The document without its paths.
pub(super) fn document() -> OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    for (name, description) in [
        ("admission_token", "What the network was created with"),
        ("admin_token", "The token of the server's administrator"),
    ] {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(description.to_owned());
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
    }
    document
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesh_wire::{NodeId, WireGuardKey, discovery, peer_info, problem};
    use serde_json::Value;
    use utoipa::PartialSchema;

    use super::*;

    /// All properties that a schema has, those of its `allOf` parts included.
    fn described<T: PartialSchema>(inner: &[Value]) -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let mut names = BTreeSet::new();
        let parts = schema["allOf"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![schema.clone()]);
        for part in parts.iter().chain(inner) {
            if let Some(properties) = part["properties"].as_object() {
                names.extend(properties.keys().cloned());
            }
        }
        names
    }

    fn written(value: &impl serde::Serialize) -> BTreeSet<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    fn record() -> peer_info::PeerRecord {
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let network = "net".parse().unwrap();
        let wireguard = WireGuardKey::from_bytes([2; 32]);
        let mut record =
            peer_info::PeerRecord::sign(&key, &network, wireguard, "alice", (1, 2)).unwrap();
        record.certificate = Some(String::new());
        record
    }

    #[test]
    fn the_described_fields_are_the_ones_on_the_wire() {
        let key = NodeId::from_bytes([1; 32]);
        let create = discovery::CreateNetwork {
            id: "net".parse().unwrap(),
            cidr: "10.0.0.0/8".parse().unwrap(),
            network_key: Some(key),
            admission_token: String::new(),
        };
        assert_eq!(described::<CreateNetwork>(&[]), written(&create));
        let network = discovery::Network {
            id: "net".parse().unwrap(),
            cidr: "10.0.0.0/8".parse().unwrap(),
            network_key: Some(key),
            created_at: 0,
            peer_count: 0,
            stun_port: None,
            public_ip: None,
        };
        assert_eq!(described::<Network>(&[]), written(&network));
        let list = discovery::NetworkList { networks: vec![] };
        assert_eq!(described::<NetworkList>(&[]), written(&list));
        assert_eq!(described::<PeerRecord>(&[]), written(&record()));
        let register = discovery::RegisterPeer {
            record: record(),
            requested_ip: Some("10.0.0.1".parse().unwrap()),
        };
        assert_eq!(described::<RegisterPeer>(&[]), written(&register));
        let info = peer_info::PeerInfo {
            name: String::new(),
            virtual_ips: vec![],
            online: true,
            last_seen: 0,
            record: record(),
        };
        let flattened = serde_json::to_value(PeerRecord::schema()).unwrap();
        assert_eq!(described::<PeerInfo>(&[flattened]), written(&info));
        let directory = peer_info::Directory::default();
        assert_eq!(described::<Directory>(&[]), written(&directory));
        let revoke = discovery::Revoke {
            revocation: String::new(),
        };
        assert_eq!(described::<Revoke>(&[]), written(&revoke));
        assert_eq!(
            described::<Problem>(&[]),
            written(&problem::Problem::new(400, "a", "b"))
        );
    }
}
