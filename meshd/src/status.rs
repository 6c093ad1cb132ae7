//! What does the daemon say about itself?
//!
//! The snapshot behind `meshd status`, `GET /api/v1/status` and `/metrics`. Its JSON is an interface that scripts
//! rely on: fields may be added, never renamed or removed. What is not known is `null`, never left out.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mesh_core::Transport;
use mesh_wire::{NetworkId, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use url::Url;

use crate::{
    discovery::ServerError, netcheck::report::Behavior, problem::Problem, routes::RouteStatus,
};

/// Everything at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// This node; its fields stand at the top level of the JSON.
    #[serde(flatten)]
    pub node: NodeStatus,
    /// The first discovery server that this node reaches; without any, the first.
    pub server: ServerStatus,
    /// All discovery servers, in order of preference.
    #[serde(default)]
    pub servers: Vec<ServerStatus>,
    /// What is known of the network between this node and the internet.
    pub nat: NatStatus,
    /// All other members, in order of name.
    pub peers: Vec<PeerStatus>,
    /// How messages find members over others: shown by `GET /api/v1/routes`.
    #[serde(skip)]
    pub routes: Vec<RouteStatus>,
    /// What is wrong at the moment, worst first; empty when all is well.
    pub health: Vec<Problem>,
    /// What works and should be known all the same.
    #[serde(default)]
    pub notes: Vec<Problem>,
    /// How many packets were dropped since the start, by reason.
    pub counters: BTreeMap<String, u64>,
}

/// This node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The version of the running daemon.
    pub version: String,
    /// Its identity.
    pub node_id: NodeId,
    /// Its name in the network.
    pub name: String,
    /// The network it is in.
    pub network: NetworkId,
    /// The name of its mesh interface.
    pub interface: String,
    /// Its addresses on the virtual LAN, IPv4 first.
    pub virtual_ips: Vec<IpAddr>,
    /// Who vouches for the members.
    pub trust: Trust,
    /// The UDP port of the mesh, after "any" has become one.
    pub listen_port: u16,
    /// Whole seconds since the daemon started.
    pub uptime_s: u64,
}

/// What makes somebody a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// A certificate that rests on the network's key: the discovery server is not trusted, and one member can be revoked.
    Certificates,
    /// The network's shared secret: whoever has it can let others in, and nobody can be put out.
    Psk,
}

/// A discovery server, as this node reaches it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its URL.
    pub url: String,
    /// Whether the event connection is up.
    pub connected: bool,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The problem's code, where the server refused.
    #[serde(default)]
    pub code: Option<String>,
    /// Whether it failed because the server's certificate does not prove its name.
    #[serde(default)]
    pub untrusted: bool,
    /// Seconds until the next attempt.
    pub retry_in_s: Option<u64>,
}

impl ServerStatus {
    /// Of a server that was not asked yet.
    pub fn unasked(server: &Url) -> Self {
        Self {
            url: server.to_string(),
            connected: false,
            error: None,
            code: None,
            untrusted: false,
            retry_in_s: None,
        }
    }

    /// It is asked again after the pause.
    pub fn failed(&mut self, error: &ServerError, pause: Duration) {
        self.connected = false;
        self.untrusted = matches!(error, ServerError::Untrusted(_));
        self.error = Some(error.to_string());
        self.code = error.code().map(str::to_owned);
        // Rounded up: "in 0 s" would be now.
        self.retry_in_s = u64::try_from(pause.as_millis().div_ceil(1000)).ok();
    }

    /// It is connected.
    pub fn connected(&mut self) {
        self.connected = true;
        self.error = None;
        self.code = None;
        self.untrusted = false;
        self.retry_in_s = None;
    }
}

/// The server that stands for all: the first that is connected, or the first.
pub fn best(servers: &[ServerStatus]) -> Option<&ServerStatus> {
    let connected = servers.iter().find(|server| server.connected);
    connected.or_else(|| servers.first())
}

/// Notes something of one server, if it is still in the list.
pub fn note(
    servers: &watch::Sender<Vec<ServerStatus>>,
    server: &Url,
    change: impl FnOnce(&mut ServerStatus),
) {
    servers.send_if_modified(|servers| {
        let mut statuses = servers.iter_mut();
        let Some(status) = statuses.find(|status| status.url == server.as_str()) else {
            return false;
        };
        change(status);
        true
    });
}

/// Makes the list that of these servers; what is known of them stays.
pub fn relist(servers: &watch::Sender<Vec<ServerStatus>>, wanted: &[Url]) {
    servers.send_modify(|servers| *servers = relisted(servers, wanted));
}

/// The list of the wanted servers, with what is known of them.
pub fn relisted(known: &[ServerStatus], wanted: &[Url]) -> Vec<ServerStatus> {
    let known = |url: &Url| known.iter().find(|status| status.url == url.as_str());
    let status = |url| known(url).cloned();
    let wanted = wanted.iter();
    wanted
        .map(|url| status(url).unwrap_or_else(|| ServerStatus::unasked(url)))
        .collect()
}

/// What is known of the network between this node and the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatStatus {
    /// This node's address and port as STUN servers see them (RFC 8489's mapped addresses).
    pub mapped_addresses: Vec<SocketAddr>,
    /// Whether none of them is an address of this host; `null` before the first STUN answer.
    pub behind_nat: Option<bool>,
    /// What the mapping depends on (RFC 4787 section 4.1), as far as the mesh's own port shows it; `meshd netcheck` asks for
    /// more.
    #[serde(default)]
    pub mapping: Behavior,
    /// The STUN servers that are asked.
    #[serde(default)]
    pub stun_servers: Vec<SocketAddr>,
    /// The TURN servers that may relay.
    #[serde(default)]
    pub turn_servers: Vec<SocketAddr>,
    /// Whether the router maps our port.
    #[serde(default)]
    pub port_mapping: PortMappingStatus,
}

/// What came of asking the default gateway for a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMappingStatus {
    /// How it stands.
    pub state: PortMappingState,
    /// The protocol that the gateway speaks.
    pub protocol: Option<PortMappingProtocol>,
    /// The default gateway.
    pub gateway: Option<IpAddr>,
    /// Where the gateway takes packets for us, or says so.
    pub external: Option<SocketAddr>,
    /// How many seconds it holds without being renewed.
    pub lease_s: Option<u64>,
    /// Why there is no mapping.
    pub error: Option<String>,
}

/// How a port mapping stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortMappingState {
    /// The configuration says no.
    Off,
    /// The gateway was not heard yet.
    #[default]
    Asking,
    /// No gateway, or none that maps a port.
    None,
    /// The gateway maps our port.
    Mapped,
    /// The gateway names an address that cannot be true, or that nobody can reach.
    Distrusted,
}

/// How a gateway is asked for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMappingProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP's Internet Gateway Device.
    Upnp,
}

impl fmt::Display for PortMappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// Another member and how it is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name in the network.
    pub name: String,
    /// Its identity.
    pub node_id: NodeId,
    /// Its addresses on the virtual LAN, IPv4 first.
    pub virtual_ips: Vec<IpAddr>,
    /// Whether the discovery server hears from it, or a session with it is alive.
    pub online: bool,
    /// How its packets travel.
    pub path: PathKind,
    /// What is on the way.
    #[serde(flatten)]
    pub relays: Relays,
    /// Where packets for it are sent: its own address, or that of the relay.
    pub endpoint: Option<SocketAddr>,
    /// Smoothed round trip time, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// What was exchanged with it.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The longest IP packet, in bytes, that the path to it carries: the interface's MTU until a path is known to be
    /// narrower.
    pub mtu: Option<u16>,
}

/// What was exchanged with a peer, and when last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of the IP packets sent to it in this session's life, without what encryption adds.
    pub tx_bytes: u64,
    /// Bytes of the IP packets received from it in this session's life, without what encryption adds.
    pub rx_bytes: u64,
    /// Seconds since the last WireGuard handshake.
    pub last_handshake_s: Option<u64>,
    /// Seconds since anything came from it that its session's keys had sealed.
    #[serde(default)]
    pub last_heard_s: Option<u64>,
}

/// What relays on the way to a peer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Relays {
    /// How this node reaches the TURN server of the path; `null` on any other path.
    #[serde(default)]
    pub transport: Option<RelayTransport>,
    /// The members that relay, nearest first; empty on a direct path.
    pub via: Vec<String>,
    /// Whether there is a direct path that is not taken because it loses too much; it is tried again from time to time.
    #[serde(default)]
    pub direct_avoided: bool,
}

/// How packets travel to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Straight to the peer's own address.
    Direct,
    /// Through a TURN server.
    Turn,
    /// Through other members.
    Relay,
    /// Not at all, at the moment.
    None,
}

/// How this node reaches a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayTransport {
    /// By datagrams.
    Udp,
    /// Over a TCP connection, for want of UDP.
    Tcp,
    /// The same under TLS.
    Tls,
    /// In a WebSocket at the discovery server, because nothing but HTTP passes.
    #[serde(rename = "websocket")]
    WebSocket,
}

impl From<&Transport> for RelayTransport {
    fn from(transport: &Transport) -> Self {
        match transport {
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
            Transport::Tls(_) => Self::Tls,
            Transport::WebSocket(_) => Self::WebSocket,
        }
    }
}

/// The words for a path: `turn over tcp` tells that UDP does not pass here.
pub fn path_in_words(path: PathKind, transport: Option<RelayTransport>) -> String {
    match transport {
        Some(RelayTransport::Tcp) => format!("{path} over tcp"),
        Some(RelayTransport::Tls) => format!("{path} over tls"),
        Some(RelayTransport::WebSocket) => format!("{path} over websocket"),
        Some(RelayTransport::Udp) | None => path.to_string(),
    }
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Turn => "turn",
            Self::Relay => "relay",
            Self::None => "none",
        })
    }
}
