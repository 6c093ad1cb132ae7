//! What stands above the file, and what below it?
//!
//! Command line, then environment (both through the argument parser), then file, then state directory, then default.

use mesh_wire::id::check_dns_label;

use super::{
    place::{Place, Text},
    raw::RawConfig,
};
use crate::state::StartOptions;

/// Values of the command line, or of the environment where a flag has a variable. They are judged together with
/// those of the file, by [`super::Settings::parse`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--network NAME`
    pub network: Option<String>,
    /// `--cidr CIDR`
    pub cidr: Option<String>,
    /// `--server URL`, which may be said several times: the whole list
    pub servers: Vec<String>,
    /// `--name HOST`
    pub name: Option<String>,
    /// `--listen-port PORT`
    pub listen_port: Option<String>,
    /// `--interface NAME`
    pub interface: Option<String>,
    /// `--api ADDR:PORT`
    pub api_listen: Option<String>,
}

/// What the state directory remembers of an earlier start, for what neither command line nor file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The joined network's name.
    pub network: Option<String>,
    /// The joined network's range.
    pub cidr: Option<String>,
    /// The discovery servers; none where the embedded one is used.
    pub servers: Vec<String>,
    /// This node's host name.
    pub name: Option<String>,
    /// What earlier command lines said.
    pub options: StartOptions,
}

impl Overrides {
    /// What a later start need not be told again, beside what belongs to the network.
    pub fn start_options(&self) -> StartOptions {
        StartOptions {
            listen_port: self.listen_port.clone(),
            interface: self.interface.clone(),
            api_listen: self.api_listen.clone(),
        }
    }
}

impl RawConfig {
    /// Lets the command line win over the file.
    pub fn overlay(&mut self, overrides: Overrides) {
        let Overrides {
            network,
            cidr,
            servers,
            name,
            listen_port,
            interface,
            api_listen,
        } = overrides;
        self.name_servers(Place::Flag("--server"), servers);
        let mesh = &mut self.mesh;
        for (value, flag, target) in [
            (network, "--network", &mut mesh.network_id),
            (cidr, "--cidr", &mut mesh.network_cidr),
            (name, "--name", &mut mesh.name),
            (listen_port, "--listen-port", &mut mesh.listen_port),
            (interface, "--interface", &mut mesh.device.name),
            (api_listen, "--api", &mut self.api.listen),
        ] {
            if let Some(value) = value {
                *target = Some(Text::new(Place::Flag(flag), value));
            }
        }
    }

    /// Replaces the whole list, if there is another.
    fn name_servers(&mut self, place: Place, servers: Vec<String>) {
        if servers.is_empty() {
            return;
        }
        let mut servers = servers.into_iter().map(|text| Text::new(place, text));
        self.mesh.discovery.server = servers.next();
        self.mesh.discovery.servers = servers.collect();
    }

    /// Fills what is still open from the state directory.
    pub fn remember(&mut self, remembered: Remembered) {
        let Remembered {
            network,
            cidr,
            servers,
            name,
            options,
        } = remembered;
        if !self.names_servers() {
            self.name_servers(Place::State, servers);
        }
        let mesh = &mut self.mesh;
        for (value, target) in [
            (network, &mut mesh.network_id),
            (cidr, &mut mesh.network_cidr),
            (name, &mut mesh.name),
            (options.listen_port, &mut mesh.listen_port),
            (options.interface, &mut mesh.device.name),
            (options.api_listen, &mut self.api.listen),
        ] {
            if target.is_none() {
                *target = value.map(|value| Text::new(Place::State, value));
            }
        }
    }
}

/// A host name as a DNS label: the part before the first dot, lower-case, anything else as `-`; `node` where
/// nothing is left.
pub fn name_from_host(host: &str) -> String {
    let first = host.trim().split('.').next().unwrap_or_default();
    let label: String = first
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let label = label.trim_matches('-').to_ascii_lowercase();
    match check_dns_label("host name", &label) {
        Ok(()) => label,
        Err(_) => "node".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::At;

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_state() {
        let mut raw = RawConfig::default();
        raw.mesh.network_id = Some(At::new(Place::Line(2), "file".to_owned()));
        raw.mesh.network_cidr = Some(At::new(Place::Line(3), "file".to_owned()));
        raw.mesh.listen_port = Some(At::new(Place::Line(4), "file".to_owned()));
        raw.overlay(Overrides {
            network: Some("flag".to_owned()),
            interface: Some("flag".to_owned()),
            ..Overrides::default()
        });
        let state = || Some("state".to_owned());
        raw.remember(Remembered {
            network: state(),
            cidr: state(),
            servers: vec!["state".to_owned(), "more".to_owned()],
            name: None,
            options: StartOptions {
                listen_port: state(),
                interface: state(),
                api_listen: state(),
            },
        });
        let text = |value: &Option<Text>| value.as_ref().map(|t| t.value.clone());
        assert_eq!(text(&raw.mesh.network_id).as_deref(), Some("flag"));
        assert_eq!(text(&raw.mesh.network_cidr).as_deref(), Some("file"));
        assert_eq!(text(&raw.mesh.discovery.server).as_deref(), Some("state"));
        assert_eq!(raw.mesh.discovery.servers[0].value, "more");
        assert_eq!(text(&raw.mesh.name), None);
        assert_eq!(text(&raw.mesh.listen_port).as_deref(), Some("file"));
        assert_eq!(text(&raw.mesh.device.name).as_deref(), Some("flag"));
        assert_eq!(text(&raw.api.listen).as_deref(), Some("state"));
    }

    #[test]
    fn a_list_of_servers_wins_or_loses_as_a_whole() {
        let named = |raw: &RawConfig| -> Vec<String> {
            let discovery = &raw.mesh.discovery;
            let texts = discovery.server.iter().chain(&discovery.servers);
            texts.map(|text| text.value.clone()).collect()
        };
        let remembered = || Remembered {
            servers: vec!["state".to_owned()],
            ..Remembered::default()
        };
        let mut raw = RawConfig::default();
        raw.mesh.discovery.servers = vec![At::new(Place::Line(2), "file".to_owned())];
        assert!(raw.names_servers());
        raw.remember(remembered());
        assert_eq!(named(&raw), ["file"]);
        raw.overlay(Overrides {
            servers: vec!["flag".to_owned()],
            ..Overrides::default()
        });
        assert_eq!(named(&raw), ["flag"]);
        let mut raw = RawConfig::default();
        assert!(!raw.names_servers());
        raw.remember(remembered());
        assert_eq!(named(&raw), ["state"]);
    }

    #[test]
    fn every_override_lands_in_its_key() {
        let some = |text: &str| Some(text.to_owned());
        let mut raw = RawConfig::default();
        raw.overlay(Overrides {
            network: some("1"),
            cidr: some("2"),
            servers: vec!["3".to_owned(), "8".to_owned()],
            name: some("4"),
            listen_port: some("5"),
            interface: some("6"),
            api_listen: some("7"),
        });
        let mut seen = Vec::new();
        raw.each_text(&mut |text| seen.push(text.value.clone()));
        seen.sort();
        assert_eq!(seen, ["1", "2", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(
            raw.mesh.device.name.unwrap().place,
            Place::Flag("--interface")
        );
    }

    #[test]
    fn a_host_name_becomes_a_dns_label() {
        for (host, label) in [
            ("Laptop.home.arpa", "laptop"),
            ("Ann's_Mac", "ann-s-mac"),
            ("--", "node"),
            ("", "node"),
            ("日本", "node"),
            ("a\n", "a"),
        ] {
            assert_eq!(name_from_host(host), label);
        }
        assert_eq!(name_from_host(&"a".repeat(80)).len(), 63);
    }
}
