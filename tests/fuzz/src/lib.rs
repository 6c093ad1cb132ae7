//! Does any input make a decoder panic, hang or contradict itself? Each target takes bytes and checks what must hold.
//!
//! `tests/replay.rs` runs every target over its `corpus/` and seeded mutations of it; a coverage-guided fuzzer calls the
//! same functions through [`run`], see `docs/TESTING.md`.

pub mod mutate;
pub mod node;
pub mod relayed;
pub mod turn;
pub mod wire;

/// A function that takes any bytes. It panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// All targets; the name is also that of the directory under `corpus/`.
pub const TARGETS: [(&str, Target); 25] = [
    ("frame", wire::frame),
    ("letter", wire::letter),
    ("join_link", wire::join_link),
    ("server_address", wire::server_address),
    ("carrier", wire::carrier),
    ("wireguard", wire::wireguard),
    ("relay", wire::relay),
    ("routing", wire::routing),
    ("peer_record", wire::peer_record),
    ("server_message", wire::server_message),
    ("client_message", wire::client_message),
    ("network_psk", wire::network_psk),
    ("segments", node::segments),
    ("ip_header", node::ip_header),
    ("narrow", node::narrow),
    ("node", node::datagrams),
    ("stun_answer", node::stun_answer),
    ("stun_question", node::stun_question),
    ("certificate", wire::certificate),
    ("revocation", wire::revocation),
    ("gossip", wire::gossip),
    ("turn", turn::stream),
    ("turn_relayed", relayed::datagrams),
    ("lan_packet", wire::lan_packet),
    ("lan_announcement", wire::lan_announcement),
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or when the target finds something.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("no target is called `{name}`"));
    target(bytes);
}
