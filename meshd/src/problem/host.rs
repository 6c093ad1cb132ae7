//! What does the machine itself refuse?

use std::{fmt, net::SocketAddr, path::Path};

use ipnet::Ipv4Net;

use super::Problem;

/// Ranges offered instead of one that overlaps: apart from each other, so that one of them is free.
const SPARE_RANGES: [&str; 4] = [
    "10.100.0.0/16",
    "10.213.0.0/16",
    "172.29.0.0/16",
    "100.99.0.0/16",
];

/// `sun_path` of the systems that we know has 104 or 108 bytes.
const MAX_SOCKET_PATH: usize = 100;

/// Which of the daemon's own ports is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The mesh's UDP socket.
    Mesh,
    /// The local API and web UI.
    Api,
    /// The embedded discovery server's HTTP port.
    Discovery,
    /// The embedded discovery server's STUN port.
    Stun,
    /// The HTTP port of the shares, on the virtual IP.
    Shares,
}

/// `meshd up` lacks the right to make a network interface.
pub fn not_root() -> Problem {
    Problem::new(0, "not-root", "meshd up must run as root")
        .detail("making a network interface needs root (or the capability CAP_NET_ADMIN)")
        .fix("sudo meshd up")
}

/// There is no TUN device file; `error` is what opening it said.
pub fn no_tun_device(error: &dyn fmt::Display) -> Problem {
    Problem::new(0, "no-tun-device", "this system offers no TUN device")
        .detail(format!("/dev/net/tun: {error}"))
        .fix(
            "modprobe tun; inside a container that lacks the file: \
             mkdir -p /dev/net && mknod /dev/net/tun c 10 200 (and grant the container the device)",
        )
}

/// The interface name belongs to something else.
pub fn interface_name_taken(name: &str) -> Problem {
    Problem::new(
        0,
        "interface-name-taken",
        format!("there is already a network interface named {name}"),
    )
    .detail("it was made by another program, or by another meshd that still runs")
    .fix("choose another name: --interface NAME, or mesh.device.name in the configuration")
}

/// The virtual range overlaps a route that this machine already has through `interface`.
pub fn cidr_overlap(cidr: Ipv4Net, route: Ipv4Net, interface: &str) -> Problem {
    let spare = SPARE_RANGES
        .iter()
        .filter_map(|range| range.parse::<Ipv4Net>().ok())
        .find(|range| {
            [cidr, route]
                .iter()
                .all(|taken| !range.contains(&taken.network()) && !taken.contains(&range.network()))
        });
    let suggestion = spare.map_or_else(|| "CIDR".to_owned(), |range| range.to_string());
    Problem::new(
        0,
        "cidr-overlap",
        format!("the virtual network {cidr} overlaps the local route {route}"),
    )
    .detail(format!(
        "this machine reaches {route} through {interface}; one address cannot lead to both"
    ))
    .fix(format!(
        "create the network with another range (meshd up --cidr {suggestion}); who joins takes the creator's range, and can \
         only remove the local route, if nothing needs it: ip route delete {route}"
    ))
}

/// Another program has the port.
pub fn port_in_use(listener: Listener, address: SocketAddr) -> Problem {
    let (transport, what, change) = match listener {
        Listener::Mesh => (
            "udp",
            "mesh traffic",
            "choose another port (--listen-port PORT or mesh.listen_port; 0 takes any free one)",
        ),
        Listener::Api => (
            "tcp",
            "the local API",
            "choose another port (--api 127.0.0.1:PORT, or api.listen in the configuration; port 0 takes any free one)",
        ),
        Listener::Discovery => (
            "tcp",
            "the embedded discovery server",
            "name the discovery server that already runs (--server HOST:PORT), or stop it",
        ),
        Listener::Stun => (
            "udp",
            "the embedded STUN server",
            "name the discovery server that already runs (--server HOST:PORT), or stop it",
        ),
        Listener::Shares => (
            "tcp",
            "the shares",
            "stop the program that listens on every address, or bind it to the addresses it needs",
        ),
    };
    let port = address.port();
    Problem::new(
        0,
        "port-in-use",
        format!("{transport} port {port} is in use, but {what} needs it ({address})"),
    )
    .detail(format!(
        "another program has it: ss -Hlnp --{transport} 'sport = :{port}' shows which"
    ))
    .fix(change)
}

/// The path of the Unix socket does not fit into an address.
pub fn socket_path_too_long(socket: &Path) -> Problem {
    let length = socket.as_os_str().len();
    operation_failed(
        format!("listen on {}", socket.display()),
        &format_args!(
            "the path has {length} bytes, and a Unix socket's may have about {MAX_SOCKET_PATH}"
        ),
    )
    .fix("choose a shorter state directory: --state-dir DIR")
}

/// Anything else that the system refused: `what` was tried, `error` is the answer.
pub fn operation_failed(what: impl fmt::Display, error: &dyn fmt::Display) -> Problem {
    Problem::new(500, "operation-failed", format!("cannot {what}"))
        .detail(error.to_string())
        .fix("the log (log.level: debug in the configuration) has the steps before it")
}
