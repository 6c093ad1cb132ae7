//! What can go wrong in a way that the user sees, and what mends it?
//!
//! One function per failure; its code is stable and listed in [`CODES`], which the operations manual explains.
//! The same [`Problem`] is printed by the command line, kept in `meshd status` and sent by the local API.

mod configuration;
mod host;
mod network;
mod server_url;
mod share;
mod stored;
mod trust;

use std::{io::Write, process::ExitCode};

pub use mesh_wire::problem::Problem;

pub(crate) use self::configuration::shown_key;
pub use self::{
    configuration::{
        WRONG_USAGE, config_feature_not_built, config_invalid, config_missing_variable,
        config_too_large, config_unknown_key, config_unreadable, mesh_disabled,
    },
    host::{
        Listener, cidr_overlap, interface_name_taken, no_tun_device, not_root, operation_failed,
        port_in_use, socket_path_too_long,
    },
    network::{
        LAN_DISCOVERY_OFF, LISTS_DIFFER, MEMBER_REFUSED, NETWORK_DELETED, NETWORK_EXISTS,
        NETWORK_KEY_DIFFERS, address_changed, already_joined, cidr_fixed, daemon_not_running,
        join_link_invalid, lan_discovery_off, lists_differ, member_refused, member_too_many,
        members_unsigned, network_deleted, network_exists, network_key_differs, network_replaced,
        no_relay, no_stun, not_joined, peer_not_found, server_embedded, server_embedded_first,
        server_implausible, server_refused, server_unreachable, server_untrusted,
    },
    server_url::{server_on_loopback, server_plain_http},
    share::{
        share_exists, share_name_invalid, share_not_found, share_path_private, share_path_relative,
        share_path_unreadable,
    },
    stored::{
        STATE_UNWRITABLE, key_file_mode, share_database, state_damaged, state_locked,
        state_unreadable, state_unwritable,
    },
    trust::{
        LINK_CONTESTED, LINK_OVERUSED, PUT_OUT, cannot_certify, link_contested, link_overused,
        network_without_key, no_address_left, not_admin, put_out, put_out_says, role_not_held,
    },
};

/// Every code that this program makes itself, with the situation it stands for. A code of the discovery server
/// is passed on as it came (see [`server_refused`]).
pub const CODES: &[(&str, &str)] = &[
    ("not-root", "meshd up without root or CAP_NET_ADMIN"),
    ("no-tun-device", "the kernel offers no /dev/net/tun"),
    (
        "interface-name-taken",
        "another program's interface has the name",
    ),
    (
        "cidr-overlap",
        "the virtual range overlaps a route of this machine",
    ),
    ("port-in-use", "another program has the port"),
    ("operation-failed", "the operating system refused something"),
    ("key-file-mode", "others may read a file with secrets"),
    ("state-locked", "another meshd uses the state directory"),
    (
        "state-unreadable",
        "a file of the state directory cannot be read",
    ),
    (
        STATE_UNWRITABLE,
        "a file of the state directory cannot be written",
    ),
    (
        "state-damaged",
        "a file of the state directory makes no sense",
    ),
    (
        "join-link-invalid",
        "a join link is cut short, mistyped or foreign",
    ),
    (
        "already-joined",
        "the state directory belongs to another network",
    ),
    (
        "server-embedded",
        "the network is on this daemon's own server, not on the named one",
    ),
    ("server-unreachable", "the discovery server does not answer"),
    (
        "server-untrusted",
        "the discovery server's certificate does not prove its name",
    ),
    (
        "server-plain-http",
        "what is said to the discovery server can be read on the way",
    ),
    (
        "server-on-loopback",
        "the discovery server is named as each machine names itself",
    ),
    ("stun-silent", "no STUN server answers"),
    ("turn-silent", "a TURN server does not answer"),
    (
        "turn-untrusted",
        "the certificate of a TURN server does not prove its name",
    ),
    ("turn-refused", "a TURN server does not relay for this node"),
    (
        NETWORK_EXISTS,
        "the server has a network of that name already",
    ),
    (
        NETWORK_KEY_DIFFERS,
        "the server's network of that name is another one",
    ),
    (
        NETWORK_DELETED,
        "the network was deleted on the server on purpose",
    ),
    (
        "address-changed",
        "the server lost its records and gave this node another address",
    ),
    (
        "server-implausible",
        "the server says of the network what cannot be true",
    ),
    (
        "cidr-fixed",
        "another range is asked for than the network has",
    ),
    (
        "not-joined",
        "membership is asked for before the server has answered",
    ),
    (
        LAN_DISCOVERY_OFF,
        "multicast DNS cannot be used on any interface",
    ),
    (
        LISTS_DIFFER,
        "another member hears of other members than this node",
    ),
    (
        MEMBER_REFUSED,
        "a server lists somebody whom this node does not take for a member",
    ),
    ("daemon-not-running", "a command found no daemon to talk to"),
    (
        "cannot-certify",
        "the certificate must be made anew, and there is nothing to sign it with",
    ),
    (
        "no-address-left",
        "every address of the network's range is taken",
    ),
    (
        LINK_OVERUSED,
        "more machines came by a join link of this node than it is for",
    ),
    (
        LINK_CONTESTED,
        "more machines came by a join link of this node than it is for, and which came first is not known",
    ),
    (PUT_OUT, "this node was revoked"),
    ("not-admin", "only the creator and admins vouch for others"),
    (
        "network-without-key",
        "the network was made without what this takes",
    ),
    ("role-not-held", "an admin gives only roles that it has"),
    ("peer-not-found", "no member has that name, address or id"),
    ("config-unreadable", "the configuration file cannot be read"),
    (
        "config-too-large",
        "the configuration file is no configuration",
    ),
    ("config-invalid", "values of the wrong type or out of range"),
    (WRONG_USAGE, "an option's value cannot be used"),
    ("config-unknown-key", "a key that does not exist"),
    (
        "config-missing-variable",
        "a ${VAR} that the environment lacks",
    ),
    (
        "config-feature-not-built",
        "a key whose feature this version lacks",
    ),
    (
        "mesh-disabled",
        "the configuration says mesh.enabled: false",
    ),
    (
        "share-name-invalid",
        "a share's name cannot stand in a URL path",
    ),
    (
        "share-path-relative",
        "a share's path depends on where one stands",
    ),
    (
        "share-path-private",
        "a share would show the daemon's own keys and state",
    ),
    (
        "share-path-unreadable",
        "a share's directory cannot be read",
    ),
    ("share-exists", "there is a share of that name already"),
    ("share-not-found", "there is no share of that name"),
];

/// Prints `error: <title>`, why and the fix on standard error, and returns exit code 1; 2 for what is wrong with the command
/// itself.
pub fn report(problem: &Problem) -> ExitCode {
    let text = printable(&problem.to_string());
    // With standard error closed there is nobody left to tell; the exit code still says it.
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
    ExitCode::from(if problem.code == WRONG_USAGE { 2 } else { 1 })
}

/// `text` with line breaks as they are and every other control character made visible: what a server, a peer or a
/// file says must not move the cursor or retitle the window.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// Lines of a list below a `why:`, indented to stand under its first word.
fn listed(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().collect::<Vec<_>>().join("\n       ")
}

#[cfg(test)]
mod tests;
