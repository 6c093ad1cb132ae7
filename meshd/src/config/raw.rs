//! What does the file say? Every key optional, every value still text, nothing judged yet.
//!
//! A key that is not a field here is an error while reading. [`RawConfig::each_text`] must visit every field.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::place::{At, SecretText, Text};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// The file it was read from, for messages; empty when there is none.
    #[serde(skip)]
    pub file: PathBuf,
    #[serde(deserialize_with = "section")]
    pub mesh: RawMesh,
    #[serde(deserialize_with = "section")]
    pub shares: Vec<At<RawShare>>,
    #[serde(deserialize_with = "section")]
    pub api: RawApi,
    #[serde(deserialize_with = "section")]
    pub dns: RawDns,
    #[serde(deserialize_with = "section")]
    pub log: RawLog,
}

/// `mesh`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawMesh {
    pub enabled: Option<Text>,
    pub network_id: Option<Text>,
    pub network_cidr: Option<Text>,
    pub trust: Option<Text>,
    pub name: Option<Text>,
    pub listen_port: Option<Text>,
    #[serde(deserialize_with = "section")]
    pub device: RawDevice,
    #[serde(deserialize_with = "section")]
    pub discovery: RawDiscovery,
    #[serde(deserialize_with = "section")]
    pub stun: RawStun,
    #[serde(deserialize_with = "section")]
    pub turn: RawTurn,
    #[serde(deserialize_with = "section")]
    pub connection: RawConnection,
    #[serde(deserialize_with = "section")]
    pub routing: RawRouting,
}

/// `mesh.device`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDevice {
    #[serde(rename = "type")]
    pub kind: Option<Text>,
    pub name: Option<Text>,
    pub mtu: Option<Text>,
    pub offload: Option<Text>,
    pub threads: Option<Text>,
    pub realtime: Option<Text>,
    pub mac_address: Option<Text>,
}

/// `mesh.discovery`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDiscovery {
    pub server: Option<Text>,
    #[serde(deserialize_with = "section")]
    pub servers: Vec<Text>,
    pub heartbeat_interval: Option<Text>,
    pub lan: Option<Text>,
}

/// `mesh.stun`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawStun {
    #[serde(deserialize_with = "section")]
    pub servers: Vec<Text>,
}

/// `mesh.turn`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTurn {
    #[serde(deserialize_with = "section")]
    pub servers: Vec<At<RawTurnServer>>,
}

/// `mesh.turn.servers[]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTurnServer {
    pub url: Option<Text>,
    pub username: Option<Text>,
    pub password: Option<SecretText>,
}

/// `mesh.connection`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConnection {
    pub direct_connect: Option<Text>,
    pub prefer_direct: Option<Text>,
    pub relay_enabled: Option<Text>,
    pub relay_via_peers: Option<Text>,
    pub birthday_probing: Option<Text>,
    pub connect_timeout: Option<Text>,
    pub keepalive_interval: Option<Text>,
    pub cipher: Option<Text>,
    pub port_mapping: Option<Text>,
}

/// `mesh.routing`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRouting {
    pub max_hops: Option<Text>,
    pub route_timeout: Option<Text>,
    pub split_horizon: Option<Text>,
}

/// `shares[]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawShare {
    pub name: Option<Text>,
    pub path: Option<Text>,
    #[serde(deserialize_with = "section")]
    pub to: Vec<Text>,
    pub rw: Option<Text>,
}

/// `api`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawApi {
    pub listen: Option<Text>,
    pub allow_remote_control: Option<Text>,
}

/// `dns`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawDns {
    pub enabled: Option<Text>,
}

/// `log`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    pub level: Option<Text>,
    pub format: Option<Text>,
}

impl RawConfig {
    /// Whether it names a discovery server.
    pub fn names_servers(&self) -> bool {
        let discovery = &self.mesh.discovery;
        discovery.server.is_some() || !discovery.servers.is_empty()
    }

    /// Shows every scalar of the file to `visit`, which may change it.
    pub fn each_text(&mut self, visit: &mut dyn FnMut(&mut Text)) {
        let Self {
            file: _,
            mesh,
            shares,
            api,
            dns,
            log,
        } = self;
        mesh.each_text(visit);
        for share in shares {
            let RawShare { name, path, to, rw } = &mut share.value;
            let single = [name, path, rw].into_iter().flatten();
            single.chain(to).for_each(&mut *visit);
        }
        let RawApi {
            listen,
            allow_remote_control,
        } = api;
        let RawDns { enabled } = dns;
        let RawLog { level, format } = log;
        let rest = [listen, allow_remote_control, enabled, level, format];
        rest.into_iter().flatten().for_each(visit);
    }
}

impl RawMesh {
    fn each_text(&mut self, visit: &mut dyn FnMut(&mut Text)) {
        let Self {
            enabled,
            network_id,
            network_cidr,
            trust,
            name,
            listen_port,
            device,
            discovery,
            stun,
            turn,
            connection,
            routing,
        } = self;
        [enabled, network_id, network_cidr, name, listen_port]
            .into_iter()
            .chain([trust])
            .chain([&mut device.threads, &mut device.kind, &mut device.name])
            .chain([&mut device.mtu, &mut device.offload])
            .chain([&mut device.realtime, &mut device.mac_address])
            .chain([&mut discovery.server, &mut discovery.heartbeat_interval])
            .chain([&mut discovery.lan])
            .chain([&mut connection.direct_connect])
            .chain([&mut connection.prefer_direct])
            .chain([&mut connection.relay_enabled])
            .chain([
                &mut connection.relay_via_peers,
                &mut connection.birthday_probing,
            ])
            .chain([&mut connection.connect_timeout])
            .chain([&mut connection.keepalive_interval])
            .chain([&mut connection.cipher, &mut connection.port_mapping])
            .chain([&mut routing.max_hops, &mut routing.route_timeout])
            .chain([&mut routing.split_horizon])
            .flatten()
            .chain(&mut discovery.servers)
            .chain(&mut stun.servers)
            .for_each(&mut *visit);
        for server in &mut turn.servers {
            let RawTurnServer {
                url,
                username,
                password,
            } = &mut server.value;
            [url, username].into_iter().flatten().for_each(&mut *visit);
            if let Some(password) = password {
                visit(&mut password.0);
            }
        }
    }
}

/// A section that is present but empty (`turn:` with nothing behind it) says nothing, as if it were absent.
fn section<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
