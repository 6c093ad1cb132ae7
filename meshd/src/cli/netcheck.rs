//! `meshd netcheck`: what does this network let through?
//!
//! A running daemon says which servers there are and what the router says to its port; without one, the configuration and
//! the state directory do. The questions are asked from here in both cases.

use std::path::{Path, PathBuf};

use clap::Args;
use mesh_wire::problem::Problem;
use url::Url;

use super::{
    Failure,
    client::Client,
    output::{Output, milliseconds, table},
    up::DEFAULT_CONFIG,
};
use crate::{
    config::{self, Settings, StunServer},
    netcheck::{
        self, Known,
        report::{Family, PeerMtu, Report, ServerReport},
    },
    state::StateDir,
    status::{PathKind, PortMappingState, Status},
};

/// Where a discovery server answers STUN, unless a daemon has heard of another port.
const STUN_PORT: u16 = 3478;

#[derive(Debug, Args)]
pub(super) struct NetcheckArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Without a running daemon: the configuration that names the servers
    /// [default: /etc/meshd/meshd.yaml, if it exists]
    #[arg(long, value_name = "FILE", env = "MESHD_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) async fn run(
    client: &Client,
    output: &mut Output,
    arguments: &NetcheckArguments,
) -> Result<(), Failure> {
    let known = match client.get::<Status>("/api/v1/status").await {
        Ok(status) => of_daemon(&status),
        Err(problem) if problem.code == "daemon-not-running" => {
            of_configuration(arguments.config.as_deref(), client.state_dir())?
        }
        Err(problem) => return Err(problem.into()),
    };
    let report = netcheck::check(known).await;
    if arguments.json {
        output.json(&report)?;
    } else {
        output.line(describe(&report))?;
    }
    match report.problems.into_iter().next() {
        Some(worst) if !report.udp => Err(worst.into()),
        Some(_) | None => Ok(()),
    }
}

fn of_daemon(status: &Status) -> Known {
    let nat = &status.nat;
    let servers = nat.stun_servers.iter().chain(&nat.turn_servers);
    let reached = status.peers.iter().filter(|peer| match peer.path {
        PathKind::Direct | PathKind::Turn | PathKind::Relay => true,
        PathKind::None => false,
    });
    Known {
        from_daemon: true,
        servers: servers
            .map(|server| named(server.ip().to_string(), server.port()))
            .collect(),
        interface: status.node.interface.clone(),
        port_mapping: Some(status.nat.port_mapping.clone()),
        path_mtu: reached
            .filter_map(|peer| {
                let (peer, mtu) = (peer.name.clone(), peer.mtu?);
                Some(PeerMtu { peer, mtu })
            })
            .collect(),
    }
}

fn of_configuration(file: Option<&Path>, state_dir: &Path) -> Result<Known, Problem> {
    let raw = match file {
        Some(file) => config::load(file)?,
        None => config::load_if_present(Path::new(DEFAULT_CONFIG))?,
    };
    // The host's name only fills in for a missing one, which is of no account here.
    let settings = Settings::parse(&raw, "host")?;
    let mut discovery = settings.servers.clone();
    if discovery.is_empty() && state_dir.join("network.json").exists() {
        let joined = StateDir::open(state_dir)?.network()?;
        // Our own embedded server sees us as we see ourselves.
        let joined = joined.filter(|network| !network.embedded_server);
        discovery = joined.map(|network| network.servers()).unwrap_or_default();
    }
    let mut servers = settings.stun_servers.clone();
    servers.extend(discovery.iter().filter_map(beside));
    let turn = settings.turn_servers.into_iter();
    servers.extend(turn.map(|turn| turn.server));
    Ok(Known {
        servers,
        interface: settings.device.name,
        ..Known::default()
    })
}

/// The STUN server beside a discovery server.
fn beside(server: &Url) -> Option<StunServer> {
    let host = server.host_str()?.trim_matches(['[', ']']);
    Some(named(host.to_owned(), STUN_PORT))
}

fn named(host: String, port: u16) -> StunServer {
    StunServer { host, port }
}

fn describe(report: &Report) -> String {
    let yes = |yes: Option<bool>| match yes {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    // Without a server nothing was tried.
    let udp = (!report.servers.is_empty()).then_some(report.udp);
    let nat = &report.nat;
    let present = match nat.present {
        Some(true) => format!("{} Mapping, {} Filtering", nat.mapping, nat.filtering),
        Some(false) => format!("none; {} Filtering", nat.filtering),
        None => "unknown".to_owned(),
    };
    let gateways = report.gateways.iter();
    let gateways: Vec<_> = gateways
        .map(|gateway| format!("{} on {}", gateway.address, gateway.interface))
        .collect();
    let nat64 = report.nat64_prefix.map(|prefix| prefix.to_string());
    let mut lines = vec![
        format!("udp           {}", yes(udp)),
        format!("ipv4          {}", family(&report.ipv4)),
        format!("ipv6          {}", family(&report.ipv6)),
        format!("nat           {present}"),
        format!("hairpin       {}", yes(nat.hairpin)),
        format!("port mapping  {}", port_mapping(report)),
        format!(
            "nat64 prefix  {}",
            nat64.unwrap_or_else(|| "none".to_owned())
        ),
        format!("gateway       {}", or_none(&gateways)),
    ];
    let paths = report.path_mtu.iter();
    let paths: Vec<_> = paths
        .map(|path| format!("{} to {}", path.mtu, path.peer))
        .collect();
    if !paths.is_empty() {
        lines.push(format!("path mtu      {}", paths.join(", ")));
    }
    if !report.servers.is_empty() {
        let rows: Vec<_> = report.servers.iter().map(row).collect();
        lines.push(format!(
            "\n{}",
            table(["SERVER", "STUN", "TURN", "SEES"], &rows)
        ));
    }
    // The worst stands on standard error if nothing works.
    let shown = report.problems.iter().skip(usize::from(!report.udp));
    lines.extend(shown.map(|problem| format!("\nproblem: {problem}")));
    lines.join("\n")
}

fn or_none(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        some => some.join(", "),
    }
}

fn family(family: &Family) -> String {
    match (family.local, family.reflexive) {
        (Some(local), Some(seen)) => format!("{local}, seen as {seen}"),
        (Some(local), None) => format!("{local}, seen by nobody"),
        (None, _) => "no server has an address of this kind, or there is no way to it".to_owned(),
    }
}

fn port_mapping(report: &Report) -> String {
    let mapping = &report.port_mapping;
    let protocol = mapping.protocol.map(|protocol| protocol.to_string());
    let protocol = protocol.unwrap_or_default();
    let external = mapping.external.map(|external| external.to_string());
    let external = external.unwrap_or_default();
    match mapping.state {
        PortMappingState::Off => "off in the configuration".to_owned(),
        PortMappingState::Asking => "the router was not heard yet".to_owned(),
        PortMappingState::None => mapping.error.clone().unwrap_or_else(|| "none".to_owned()),
        PortMappingState::Mapped => {
            let lease = mapping.lease_s.unwrap_or_default();
            format!("{external} by {protocol}, for {lease} s at a time")
        }
        PortMappingState::Distrusted => {
            format!(
                "not believed: {}",
                mapping.error.clone().unwrap_or_default()
            )
        }
    }
}

fn row(server: &ServerReport) -> [String; 4] {
    let time = |rtt: Option<f64>| rtt.map_or_else(|| "-".to_owned(), milliseconds);
    let seen = server.reflexive.map(|seen| seen.to_string());
    let stun = match (server.stun_rtt_ms, server.tcp) {
        (Some(rtt), _) => milliseconds(rtt),
        (None, Some(true)) => "no answer (TCP connects)".to_owned(),
        (None, Some(false) | None) => "no answer".to_owned(),
    };
    [
        server.address.to_string(),
        stun,
        match server.turn_tcp_rtt_ms {
            Some(rtt) => format!("{} (TCP)", milliseconds(rtt)),
            None => time(server.turn_rtt_ms),
        },
        seen.unwrap_or_else(|| "-".to_owned()),
    ]
}
