//! Members that nobody let in: their records are signed as they should be, and say that they are what they are not.

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NetworkId, NodeId, WireGuardKey,
    peer_info::{PeerInfo, PeerRecord},
    trust::{Binding, Certificate, Issuer, Roles, Root, Span},
};
use serde_json::{Value, json};

/// The tests' network.
const NETWORK: &str = "my-network";
/// Later than what any daemon signs today.
const SEQ: u64 = 4_000_000_000;

/// One without a certificate, and one whose certificate another network's key has signed.
pub(crate) fn both() -> [Value; 2] {
    let [plain, certified] = [251, 252].map(|number| stranger(number, number == 252));
    [plain, certified]
}

/// A list of strangers that is a little shorter than `longest` bytes.
pub(crate) fn crowd(longest: usize) -> String {
    let mut list = String::from(r#"{"type":"snapshot","revision":1,"peers":["#);
    for number in 1.. {
        let next = stranger(number, false).to_string();
        if list.len() + next.len() + 3 > longest {
            break;
        }
        if number > 1 {
            list.push(',');
        }
        list.push_str(&next);
    }
    list.push_str("]}");
    list
}

fn stranger(number: u16, has_certificate: bool) -> Value {
    let mut secret = [3; 32];
    secret[..2].copy_from_slice(&number.to_be_bytes());
    let key = SigningKey::from_bytes(&secret);
    let network: NetworkId = NETWORK.parse().expect("it is a name");
    let [high, low] = number.to_be_bytes();
    let binding = Binding {
        node_id: NodeId::of(&key),
        wireguard_key: WireGuardKey::from_bytes(secret),
        name: format!("mallory-{number}"),
        virtual_ips: vec![[10, 100, high, low].into()],
        mac: [2, 0, 0, 0, high, low],
        roles: Roles::default(),
        subnets: Vec::new(),
        span: Span {
            from: 0,
            until: 300 * 24 * 3600,
        },
        serial: number.into(),
    };
    let root = Root {
        network: network.clone(),
        key: NodeId::of(&key),
    };
    let certificate = has_certificate.then(|| {
        Certificate::sign(&root, &key, &Issuer::Network, &binding).expect("it can be read")
    });
    let said = ("mallory", certificate.as_ref());
    let record = PeerRecord::sign_with(&key, &network, binding.wireguard_key, said, (SEQ, 1));
    let peer = PeerInfo {
        name: binding.name,
        virtual_ips: binding.virtual_ips,
        online: true,
        last_seen: 0,
        record: record.expect("the host name is one"),
    };
    json!(peer)
}
