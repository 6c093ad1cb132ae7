//! What does the program use? Every value judged once, here; nothing in [`Settings`] means "default".

mod routing;
mod shares;
mod turn;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::Ipv4Net;
use mesh_core::RoutingConfig;
use mesh_wire::NetworkId;
use sharing::ShareName;
use tracing::Level;
use url::Url;

use super::{
    keys,
    overrides::name_from_host,
    place::{Finding, Place, Text},
    raw::{RawConfig, RawDevice, RawDiscovery},
    unbuilt,
    values::{self, StunServer},
};
pub use turn::TurnSettings;

use crate::{
    problem::{self, Problem},
    server_list,
};

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether the mesh shall run at all; see [`Settings::require_enabled`].
    pub enabled: bool,
    /// The network to create, or the one that was joined.
    pub network: NetworkSettings,
    /// This node's wish for its host name: a DNS label.
    pub name: String,
    /// The discovery servers in order of preference; none means the embedded one.
    pub servers: Vec<Url>,
    /// UDP port of the mesh; 0 for any free one.
    pub listen_port: u16,
    /// The interface.
    pub device: DeviceSettings,
    /// How others are reached.
    pub connection: ConnectionSettings,
    /// STUN servers beside the discovery server's own.
    pub stun_servers: Vec<StunServer>,
    /// TURN servers beside the discovery servers' own.
    pub turn_servers: Vec<TurnSettings>,
    /// Directories to share, beside those that were added by command.
    pub shares: Vec<ShareSettings>,
    /// Where the local API listens: a loopback address.
    pub api_listen: SocketAddr,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// The network to create, or the one that was joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Its name on its discovery server.
    pub id: NetworkId,
    /// Where virtual addresses come from when it is created.
    pub cidr: Ipv4Net,
    /// What makes its members when it is created.
    pub trust: Trust,
}

/// The interface to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Its name: 1 to 15 bytes.
    pub name: String,
    /// Bytes of the greatest IP packet that applications send through it.
    pub mtu: u16,
    /// Whether super-packets cross it, where the system has them.
    pub offload: bool,
    /// Threads that move packets.
    pub threads: usize,
    /// Whether they run before ordinary processes while they are busy, where the system lets them.
    pub realtime: bool,
}

/// How the discovery server and other members are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// How often presence is shown to the discovery server.
    pub heartbeat_interval: Duration,
    /// How long a direct path is looked for before the attempt counts as failed.
    pub connect_timeout: Duration,
    /// How often a silent path is kept open.
    pub keepalive_interval: Duration,
    /// What packets are sealed with.
    pub cipher: Cipher,
    /// Whether TURN servers relay where there is no direct path.
    pub relay_enabled: bool,
    /// Whether many ports are tried where one side's are unknown and the other filters by port.
    pub birthday_probing: bool,
    /// Whether members on the same LAN find each other by multicast DNS.
    pub lan: bool,
    /// Whether the router is asked to map our UDP port.
    pub port_mapping: bool,
    /// How members are reached over others; absent if they are not.
    pub routing: Option<RoutingConfig>,
}

/// What makes the members of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Certificates under a key of the network.
    Certificates,
    /// The network's secret alone.
    Psk,
}

/// What packets are sealed with, once a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// WireGuard's own.
    ChaCha20Poly1305,
    /// AES-256-GCM with those who also want it, where both have it in hardware.
    Auto,
}

/// A directory to share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSettings {
    /// Unique by its [`ShareName::key`]; the first segment of its URL path.
    pub name: ShareName,
    /// Absolute path of the directory.
    pub path: PathBuf,
    /// Who may read it: `all`, or members by name, node id or virtual address. Empty: nobody.
    pub to: Vec<String>,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least important level that is written.
    pub level: Level,
    /// For people or for machines.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object.
    Json,
}

const SECOND: Duration = Duration::from_secs(1);

/// Presence that is shown less often than every 10 minutes says nothing about now.
const MAX_HEARTBEAT: Duration = Duration::from_secs(600);

/// Hole punching has succeeded or failed long before 10 minutes.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(600);

/// A NAT may forget a UDP mapping after 2 minutes of silence (RFC 4787 REQ-5).
const MAX_KEEPALIVE: Duration = Duration::from_secs(120);

impl Settings {
    /// Judges every value of `raw`. The problem lists all that is wrong, or all that this version cannot do.
    ///
    /// `host` is the system's host name: the node's name where nothing else gives one.
    pub fn parse(raw: &RawConfig, host: &str) -> Result<Self, Problem> {
        let mut reader = Reader::default();
        let settings = reader.settings(raw, host);
        if !reader.findings.is_empty() {
            reader.findings.sort_by_key(Finding::place);
            return Err(problem::config_invalid(&raw.file, &reader.findings));
        }
        let not_built = unbuilt::not_built_keys(raw);
        if !not_built.is_empty() {
            return Err(problem::config_feature_not_built(&raw.file, &not_built));
        }
        Ok(settings)
    }

    /// The problem that `meshd up` shows when the file disables the mesh.
    pub fn require_enabled(&self, raw: &RawConfig) -> Result<(), Problem> {
        if self.enabled {
            Ok(())
        } else {
            Err(problem::mesh_disabled(&raw.file))
        }
    }
}

/// Collects findings while reading, so that one run shows them all. After a finding the default stands in, and
/// the settings are thrown away in the end.
#[derive(Default)]
struct Reader {
    findings: Vec<Finding>,
}

impl Reader {
    fn settings(&mut self, raw: &RawConfig, host: &str) -> Settings {
        let mesh = &raw.mesh;
        self.judge_only(raw);
        Settings {
            enabled: self.value("mesh.enabled", &mesh.enabled, values::boolean),
            network: NetworkSettings {
                id: self.value("mesh.network_id", &mesh.network_id, values::decoded),
                cidr: self.value("mesh.network_cidr", &mesh.network_cidr, values::cidr),
                trust: self.value("mesh.trust", &mesh.trust, values::trust),
            },
            name: self
                .optional("mesh.name", &mesh.name, values::host_name)
                .unwrap_or_else(|| name_from_host(host)),
            servers: self.servers(&mesh.discovery),
            listen_port: self.value("mesh.listen_port", &mesh.listen_port, values::port),
            device: self.device(&mesh.device),
            connection: self.connection(raw),
            stun_servers: self.list("mesh.stun.servers", &mesh.stun.servers, values::stun_server),
            turn_servers: self.turn_servers(&mesh.turn.servers),
            shares: self.shares(&raw.shares),
            api_listen: self.value("api.listen", &raw.api.listen, values::loopback),
            log: LogSettings {
                level: self.value("log.level", &raw.log.level, values::log_level),
                format: self.value("log.format", &raw.log.format, values::log_format),
            },
        }
    }

    fn servers(&mut self, discovery: &RawDiscovery) -> Vec<Url> {
        let first = discovery.server.iter();
        let first = first.map(|text| ("mesh.discovery.server".to_owned(), text));
        let others = discovery.servers.iter().enumerate();
        let others = others.map(|(at, text)| (format!("mesh.discovery.servers[{at}]"), text));
        let mut servers = Vec::new();
        for (key, text) in first.chain(others) {
            if let Some(server) = self.parsed(&key, text, values::server)
                && let Err(rule) = server_list::add(&mut servers, server)
            {
                self.find(text.place, &key, &rule);
            }
        }
        servers
    }

    fn device(&mut self, device: &RawDevice) -> DeviceSettings {
        DeviceSettings {
            name: self.value("mesh.device.name", &device.name, values::interface_name),
            mtu: self.value("mesh.device.mtu", &device.mtu, values::mtu),
            offload: self.value("mesh.device.offload", &device.offload, values::boolean),
            threads: self.value("mesh.device.threads", &device.threads, values::threads),
            realtime: self.value("mesh.device.realtime", &device.realtime, values::boolean),
        }
    }

    fn connection(&mut self, raw: &RawConfig) -> ConnectionSettings {
        let (connection, discovery) = (&raw.mesh.connection, &raw.mesh.discovery);
        let relay = &connection.relay_enabled;
        let up_to = |limit| move |text: &str| values::duration(text, &(SECOND..=limit));
        ConnectionSettings {
            heartbeat_interval: self.value(
                "mesh.discovery.heartbeat_interval",
                &discovery.heartbeat_interval,
                up_to(MAX_HEARTBEAT),
            ),
            connect_timeout: self.value(
                "mesh.connection.connect_timeout",
                &connection.connect_timeout,
                up_to(MAX_CONNECT_TIMEOUT),
            ),
            keepalive_interval: self.value(
                "mesh.connection.keepalive_interval",
                &connection.keepalive_interval,
                up_to(MAX_KEEPALIVE),
            ),
            cipher: self.value("mesh.connection.cipher", &connection.cipher, values::cipher),
            relay_enabled: self.value("mesh.connection.relay_enabled", relay, values::boolean),
            birthday_probing: self.value(
                "mesh.connection.birthday_probing",
                &connection.birthday_probing,
                values::boolean,
            ),
            lan: self.value("mesh.discovery.lan", &discovery.lan, values::boolean),
            port_mapping: self.value(
                "mesh.connection.port_mapping",
                &connection.port_mapping,
                values::boolean,
            ),
            routing: self.routing(&raw.mesh),
        }
    }

    /// Values that nothing uses yet are judged all the same: a wrong one is wrong before it is not built.
    fn judge_only(&mut self, raw: &RawConfig) {
        let mesh = &raw.mesh;
        let connection = &mesh.connection;
        for (key, text) in [
            ("mesh.connection.direct_connect", &connection.direct_connect),
            ("mesh.connection.prefer_direct", &connection.prefer_direct),
            ("api.allow_remote_control", &raw.api.allow_remote_control),
            ("dns.enabled", &raw.dns.enabled),
        ] {
            self.optional(key, text, values::boolean);
        }
        self.optional("mesh.device.type", &mesh.device.kind, values::device_type);
        let mac = &mesh.device.mac_address;
        self.optional("mesh.device.mac_address", mac, values::mac_address);
    }

    /// The value, or the default of the key table.
    fn value<T>(
        &mut self,
        key: &'static str,
        text: &Option<Text>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.optional(key, text, &parse).unwrap_or_else(|| {
            parse(keys::default_of(key)).expect("the defaults of the key table are good values")
        })
    }

    fn optional<T>(
        &mut self,
        key: &str,
        text: &Option<Text>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = text.as_ref()?;
        self.parsed(key, text, parse)
    }

    fn required<T>(
        &mut self,
        place: Place,
        key: &str,
        text: &Option<Text>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if text.is_none() {
            self.find(place, key, "is missing");
        }
        self.optional(key, text, parse)
    }

    fn list<T>(
        &mut self,
        key: &str,
        texts: &[Text],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = texts.iter().enumerate();
        items
            .filter_map(|(index, text)| self.parsed(&format!("{key}[{index}]"), text, &parse))
            .collect()
    }

    fn parsed<T>(
        &mut self,
        key: &str,
        text: &Text,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.find(text.place, key, &rule);
                None
            }
        }
    }

    fn find(&mut self, place: Place, key: &str, rule: &str) {
        self.findings.push(Finding::new(place, key, rule));
    }
}

#[cfg(test)]
mod tests;
