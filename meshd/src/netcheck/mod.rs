//! What can this host do on the network that it is in? Asks STUN and TURN servers from sockets of its own, beside a
//! running daemon or without one, and says in RFC 4787's words what stands between it and the internet.

mod behavior;
mod nat64;
mod problems;
pub mod report;
mod stream;
mod talk;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use platform::net::{addresses, gateway};
use tokio::{net::lookup_host, time::timeout};

use self::{
    report::{Family, Nat, PeerMtu, Report, ServerReport},
    talk::Talk,
};
use crate::{config::StunServer, status::PortMappingStatus};

pub use behavior::mapping;

/// How long names of servers may take to look up.
const LOOKUP: Duration = Duration::from_secs(3);
/// The most addresses that are asked; a round with a dead one takes seconds.
const MAX_SERVERS: usize = 8;

/// What is known beforehand.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whether a running daemon said it.
    pub from_daemon: bool,
    /// Servers by name.
    pub servers: Vec<StunServer>,
    /// The mesh's own interface.
    pub interface: String,
    /// What the router says to the mesh's port; asked anew if absent.
    pub port_mapping: Option<PortMappingStatus>,
    /// The MTU of the path to each peer that is reached.
    pub path_mtu: Vec<PeerMtu>,
}

/// Checks everything, which takes up to some ten seconds where packets are dropped.
pub async fn check(known: Known) -> Report {
    let targets = resolve(&known.servers).await;
    let mapping = async {
        match known.port_mapping {
            Some(status) => status,
            None => probe_mapping(&known.interface).await,
        }
    };
    let servers = join_all(targets.into_iter().map(server));
    let (mut servers, port_mapping, nat64_prefix, gateways) = tokio::join!(
        servers,
        mapping,
        nat64::prefix(),
        gateway::default_gateways(&known.interface)
    );
    let nat = nat(&servers).await;
    if !servers.iter().any(ServerReport::answers) {
        let tried = servers.iter_mut().map(|server| async {
            let over_tcp = stream::ask(server.address).await;
            server.tcp = Some(over_tcp.connects);
            server.turn_tcp_rtt_ms = over_tcp.relay.map(milliseconds);
        });
        join_all(tried).await;
    }
    let mut report = Report {
        from_daemon: known.from_daemon,
        udp: servers.iter().any(ServerReport::answers),
        ipv4: family(&servers, IpAddr::is_ipv4),
        ipv6: family(&servers, IpAddr::is_ipv6),
        nat,
        port_mapping,
        nat64_prefix,
        gateways: gateways
            .unwrap_or_default()
            .into_iter()
            .map(Into::into)
            .collect(),
        servers,
        path_mtu: known.path_mtu,
        problems: Vec::new(),
    };
    report.problems = problems::of(&report);
    report
}

async fn probe_mapping(interface: &str) -> PortMappingStatus {
    // Any port of ours will do, and this one is nobody else's until the probe is over.
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0));
    let port = socket
        .as_ref()
        .ok()
        .and_then(|socket| socket.local_addr().ok());
    crate::portmap::probe(interface, port.map_or(0, |address| address.port())).await
}

/// The addresses of the servers, each with its name.
async fn resolve(servers: &[StunServer]) -> Vec<(String, SocketAddr)> {
    let mut found: Vec<(String, SocketAddr)> = Vec::new();
    for server in servers {
        let name = format!("{}:{}", server.host, server.port);
        let looked_up = timeout(LOOKUP, lookup_host((server.host.as_str(), server.port))).await;
        let Ok(Ok(addresses)) = looked_up else {
            tracing::debug!(%name, "a server's name does not resolve");
            continue;
        };
        for address in addresses {
            if found.len() < MAX_SERVERS && found.iter().all(|(_, known)| *known != address) {
                found.push((name.clone(), address));
            }
        }
    }
    found
}

/// What one server answers.
async fn server((name, address): (String, SocketAddr)) -> ServerReport {
    let mut report = ServerReport {
        name,
        address,
        reflexive: None,
        stun_rtt_ms: None,
        turn_rtt_ms: None,
        turn_tcp_rtt_ms: None,
        tcp: None,
    };
    let Ok(talk) = Talk::open(address).await else {
        return report;
    };
    if let Some(answer) = talk.ask(address).await {
        report.reflexive = Some(answer.mapped);
        report.stun_rtt_ms = Some(milliseconds(answer.rtt));
        report.turn_rtt_ms = talk.ask_for_relay(address).await.map(milliseconds);
    }
    report
}

fn milliseconds(rtt: Duration) -> f64 {
    rtt.as_secs_f64() * 1000.0
}

/// How the NAT behaves, towards the servers that answer.
async fn nat(servers: &[ServerReport]) -> Nat {
    let answering = servers.iter().filter(|server| server.answers());
    let addresses: Vec<SocketAddr> = answering.map(|server| server.address).collect();
    let v4 = addresses.iter().copied().filter(SocketAddr::is_ipv4);
    let v4: Vec<SocketAddr> = v4.collect();
    // Without IPv4 there seldom is a NAT, but there is a filter.
    behavior::judge(if v4.is_empty() { &addresses } else { &v4 }).await
}

fn family(servers: &[ServerReport], is_of: impl Fn(&IpAddr) -> bool) -> Family {
    let mut of = servers.iter().filter(|server| is_of(&server.address.ip()));
    let answered = of.clone().find(|server| server.answers());
    let server = answered.or_else(|| of.next());
    let local = server.and_then(|server| addresses::source_towards(server.address.ip()).ok());
    Family {
        local,
        reflexive: answered.and_then(|server| server.reflexive),
    }
}
