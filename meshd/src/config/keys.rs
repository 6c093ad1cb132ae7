//! Which keys are there, of which type, with which default, and what do they mean?
//!
//! The one table behind the defaults of [`super::Settings`], the hints for misspelt keys and `docs/CONFIG.md`;
//! tests compare it with the fields that the file reader knows.

/// A key of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// From the top level, with dots; `[]` stands for each item of a list.
    pub path: &'static str,
    /// What may be written there.
    pub kind: &'static str,
    /// The value where the key is absent; empty where the meaning says what happens then.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// Every key, in the order of the manual.
pub const KEYS: &[Key] = &[
    key(
        "mesh.enabled",
        "`true` or `false`",
        "true",
        "`false`: `meshd up` with this file does nothing and says so.",
    ),
    key(
        "mesh.network_id",
        "DNS label",
        "my-network",
        "The network to create; once joined, the joined one.",
    ),
    key(
        "mesh.network_cidr",
        "private IPv4 range, /30 or shorter",
        "10.100.0.0/16",
        "Where virtual addresses are taken from. The creator's choice; who joins takes it over.",
    ),
    key(
        "mesh.trust",
        "`certificates` or `psk`",
        "certificates",
        "What makes the members of a network that is created here. `certificates`: a key that stays on this machine signs for \
         each; links can be limited and members revoked. `psk`: whoever has the network's secret is a member for good.",
    ),
    key(
        "mesh.name",
        "DNS label",
        "",
        "This node's wish for its host name in the network; the system's host name where absent.",
    ),
    key(
        "mesh.listen_port",
        "port, 0 to 65535",
        "7081",
        "UDP port of all mesh traffic; `0` takes any free one.",
    ),
    key(
        "mesh.device.type",
        "`tun` or `tap`",
        "tun",
        "`tun` carries IP packets, `tap` Ethernet frames.",
    ),
    key(
        "mesh.device.name",
        "interface name, 1 to 15 bytes",
        "mesh0",
        "The name of the network interface.",
    ),
    key(
        "mesh.device.mtu",
        "number, 576 to 8908",
        "1400",
        "Bytes of the greatest IP packet on the interface. 1400 fits an internet path of 1500 bytes over any number of relays. A path that carries less is found out for each peer.",
    ),
    key(
        "mesh.device.offload",
        "`true` or `false`",
        "true",
        "Whether the kernel and meshd hand each other many packets as one, where the kernel can. `false` costs speed; it \
         is for a kernel or a driver that damages such packets.",
    ),
    key(
        "mesh.device.threads",
        "1 to 16",
        "1",
        "Threads that move packets. More than one pays where several peers are busy at once and cores are idle: each thread \
         has some of the peers, and the UDP port `listen_port` plus its number. Linux only.",
    ),
    key(
        "mesh.device.realtime",
        "`true` or `false`",
        "true",
        "Whether a thread that has much to move for members, from 60,000 packets a second, runs before ordinary processes for \
         up to 8 ms at a time. Round trips stay short under load and streams fast. `false` is for a machine whose other \
         work matters more. Linux only; needs CAP_SYS_NICE, which root has.",
    ),
    key(
        "mesh.device.mac_address",
        "empty, or six octets",
        "",
        "Hardware address of a `tap` device; made up where empty.",
    ),
    key(
        "mesh.discovery.server",
        "`HOST`, `HOST:PORT` or URL",
        "",
        "The discovery server; where absent, `meshd up` starts an embedded one. Without a scheme `http`, without a port 7080. For `https` the system's authorities are trusted, or those of the file in the environment variable `SSL_CERT_FILE`. `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` in the environment name an HTTP proxy in front of it (`docs/OPERATIONS.md`).",
    ),
    key(
        "mesh.discovery.servers",
        "list of `HOST`, `HOST:PORT` or URL",
        "",
        "Further discovery servers, in order of preference; at most 8 with the first. All are used at once: members meet on \
         any that answers. A file that names a server wins at each start over a list changed by `meshd servers`.",
    ),
    key(
        "mesh.discovery.heartbeat_interval",
        "duration, 1s to 10m",
        "30s",
        "How often this node shows the discovery server that it is there.",
    ),
    key(
        "mesh.discovery.lan",
        "`true` or `false`",
        "true",
        "Whether members on the same LAN find each other by multicast DNS, also while no server answers. Others on the LAN see \
         that a meshd runs here, and nothing of whose it is.",
    ),
    key(
        "mesh.stun.servers",
        "list of `stun:HOST:PORT`, `stun:HOST` or `HOST:PORT`",
        "",
        "Servers to ask for this node's public address, beside the discovery server's own.",
    ),
    key(
        "mesh.turn.servers[].url",
        "`turn:HOST:PORT`, maybe with `?transport=udp` or `?transport=tcp`, or `turns:HOST:PORT`",
        "",
        "A TURN relay for when no direct path is found, beside those of the discovery servers. Required for each server. Without a \
         transport it is reached over UDP, and over TCP where that does not pass; `turns:` is TLS on TCP. Ports: 3478, 5349 for TLS.",
    ),
    key(
        "mesh.turn.servers[].username",
        "text",
        "",
        "The user name at that relay.",
    ),
    key(
        "mesh.turn.servers[].password",
        "text",
        "",
        "The password at that relay. Never shown; best written as `${VAR}`.",
    ),
    key(
        "mesh.connection.direct_connect",
        "`true` or `false`",
        "true",
        "Whether direct paths between peers are looked for.",
    ),
    key(
        "mesh.connection.prefer_direct",
        "`true` or `false`",
        "",
        "Whether a direct path wins even where a relayed one is faster.",
    ),
    key(
        "mesh.connection.relay_enabled",
        "`true` or `false`",
        "true",
        "Whether TURN servers relay for this node until a direct path is found, and where there is none. A peer's relay serves both.",
    ),
    key(
        "mesh.connection.relay_via_peers",
        "`true` or `false`",
        "false",
        "Whether other members carry what goes to those whom this node has no path to, and this node carries theirs: over as many as it takes, up to `routing.max_hops` links. They see who talks to whom and how much, and not what. Where it is on, this node keeps paths to up to eight members. Members with `false` take no part. Needs `device.threads: 1`.",
    ),
    key(
        "mesh.connection.birthday_probing",
        "`true` or `false`",
        "true",
        "Whether a relayed peer is looked for on many ports when the NAT of one side gives each destination another port and that of \
         the other filters by port. The one side opens 256 sockets for some 4 seconds, both together send 2,048 datagrams at most, and \
         at most once in 10 minutes for each peer. Both sides must allow it. Does nothing on Windows.",
    ),
    key(
        "mesh.connection.connect_timeout",
        "duration, 1s to 10m",
        "30s",
        "How long a direct path is looked for before the attempt counts as failed.",
    ),
    key(
        "mesh.connection.keepalive_interval",
        "duration, 1s to 2m",
        "25s",
        "How often a silent path is kept open in the routers on its way.",
    ),
    key(
        "mesh.connection.cipher",
        "`chacha20-poly1305` or `auto`",
        "chacha20-poly1305",
        "What packets are sealed with. `auto`: AES-256-GCM with members that also have `auto`, where both machines have \
         AES in hardware; nearly twice as fast there.",
    ),
    key(
        "mesh.connection.port_mapping",
        "`true` or `false`",
        "true",
        "Whether the router is asked to let peers in at this node's UDP port, by PCP, NAT-PMP or UPnP, where it understands \
         one of them. The port is given back at the end, and ends by itself 10 minutes after a crash.",
    ),
    key(
        "mesh.routing.max_hops",
        "number, 1 to 8",
        "8",
        "How many links a way over other members may have, with `relay_via_peers`.",
    ),
    key(
        "mesh.routing.route_timeout",
        "duration, 1s to 24h",
        "5m",
        "How long a way over other members is held that nobody confirms; they do each 30 s.",
    ),
    key(
        "mesh.routing.split_horizon",
        "`true` or `false`",
        "true",
        "Whether a way is kept from the members that it leads over. No circle forms without it either; it saves messages.",
    ),
    key(
        "shares[].name",
        "1 to 63 bytes, none of `/ \\ : * ? \" < >` or a bar, no dot in front",
        "",
        "The share's name and the first part of its URL path. Required.",
    ),
    key(
        "shares[].path",
        "absolute path",
        "",
        "The directory. Required.",
    ),
    key(
        "shares[].to",
        "list of names, node ids, virtual addresses, or `all`",
        "",
        "Who may read it; nobody where empty.",
    ),
    key(
        "shares[].rw",
        "`true` or `false`",
        "false",
        "Whether those may also write.",
    ),
    key(
        "api.listen",
        "loopback address and port",
        "127.0.0.1:7082",
        "Where the local API and web page listen; port `0` takes any free one.",
    ),
    key(
        "api.allow_remote_control",
        "`true` or `false`",
        "false",
        "Whether the API may be used from other machines.",
    ),
    key(
        "dns.enabled",
        "`true` or `false`",
        "false",
        "Whether members are found by name, as `<host>.<network>.mesh.internal`.",
    ),
    key(
        "log.level",
        "`error`, `warn`, `info`, `debug` or `trace`",
        "info",
        "The least important messages to write.",
    ),
    key(
        "log.format",
        "`text` or `json`",
        "text",
        "Lines for people, or one JSON object per line.",
    ),
];

/// The default of a key of the table.
pub(super) fn default_of(path: &str) -> &'static str {
    let found = KEYS.iter().find(|key| key.path == path);
    found.expect("only keys of the table are read").default
}

/// The sections in which a key called `name` is known, for one that stands at the wrong level: `mesh.device` for
/// `mtu`; the empty text is the top level.
pub(super) fn homes_of(name: &str) -> Vec<String> {
    let mut homes = Vec::new();
    for key in KEYS {
        let segments: Vec<&str> = key.path.split('.').collect();
        for (depth, segment) in segments.iter().enumerate() {
            let home = segments.iter().take(depth).copied().collect::<Vec<_>>();
            let home = home.join(".");
            if segment.trim_end_matches("[]") == name && !homes.contains(&home) {
                homes.push(home);
            }
        }
    }
    homes
}

const fn key(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        kind,
        default,
        meaning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_the_sections_it_stands_in() {
        assert_eq!(homes_of("mtu"), ["mesh.device"]);
        assert_eq!(homes_of("name"), ["mesh", "mesh.device", "shares[]"]);
        let homes = ["mesh.discovery", "mesh.stun", "mesh.turn"];
        assert_eq!(homes_of("servers"), homes);
        assert_eq!(homes_of("mesh"), [""]);
        assert!(homes_of("nothing").is_empty());
    }

    #[test]
    fn no_key_stands_in_the_table_twice() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.path != key.path));
        }
    }
}
