//! Which discovery server does a newcomer's first daemon bring along, and from where can it be reached?

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use discovery_server::{
    AdminTokenSource, DEFAULT_HTTP_PORT, DEFAULT_SNAPSHOT_INTERVAL, DEFAULT_STUN_PORT, Database,
    Running, ServeConfig, ServeError, TurnConfig,
};
use platform::net::addresses;
use url::Url;

use crate::problem::{self, Listener, Problem};

/// Binds the embedded server with its data in `dir`. It is the same server that `discovery-server serve` runs.
pub async fn start(dir: &Path) -> Result<Running, Problem> {
    let config = ServeConfig {
        listen: discovery_server::any_address(DEFAULT_HTTP_PORT),
        database: Database::Sqlite(dir.join("discovery.db")),
        snapshot_interval: Some(DEFAULT_SNAPSHOT_INTERVAL),
        stun_listen: Some(discovery_server::any_address(DEFAULT_STUN_PORT)),
        // Not into private networks: this host is in one, and who joins the mesh shall not get into it by that.
        turn: Some(TurnConfig {
            allow_private_peers: false,
            ..TurnConfig::default()
        }),
        public_ip: None,
        trusted_proxies: Vec::new(),
        admin_token: AdminTokenSource::MadeIn(dir.to_owned()),
    };
    discovery_server::start(config)
        .await
        .map_err(|error| match &error {
            ServeError::Listen {
                service,
                address,
                source,
            } if source.kind() == std::io::ErrorKind::AddrInUse => {
                let listener = if *service == "STUN" {
                    Listener::Stun
                } else {
                    Listener::Discovery
                };
                problem::port_in_use(listener, *address)
            }
            ServeError::Listen { .. }
            | ServeError::Database { .. }
            | ServeError::Damaged { .. }
            | ServeError::AdminToken(_)
            | ServeError::Turn(_) => {
                problem::operation_failed("start the embedded discovery server", &error)
                    .fix(error.fix())
            }
        })
}

/// Where our own daemon reaches it.
pub fn local_url(server: &Running) -> Result<Url, Problem> {
    let address = SocketAddr::from(([127, 0, 0, 1], server.http_addr.port()));
    url(address)
}

/// Where others reach it, as far as this host can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// What goes into the join link.
    pub url: Url,
    /// Plain words for the person who started it.
    pub notice: String,
}

/// Looks at our own addresses, those of `own_interface` (the mesh's) left out.
pub async fn reach(server: &Running, own_interface: &str) -> Result<Reach, Problem> {
    reach_from(outer_address(own_interface).await, server.http_addr.port())
}

/// Where others reach the server on `port` now: a machine that has moved has other addresses than at its start.
pub async fn current_url(port: u16, own_interface: &str) -> Result<Url, Problem> {
    Ok(reach_from(outer_address(own_interface).await, port)?.url)
}

/// The address towards the internet; without a way there, one in a local network.
async fn outer_address(own_interface: &str) -> Option<IpAddr> {
    // Addresses of documentation: any route that leads out leads there too. Nothing is sent.
    let outside: [IpAddr; 2] = [
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ];
    let source = outside
        .into_iter()
        .find_map(|ip| addresses::source_towards(ip).ok());
    if source.is_some() {
        return source;
    }
    match addresses::local_addresses(own_interface).await {
        // Sorted: IPv4 first.
        Ok(local) => local.first().map(|local| local.address),
        Err(error) => {
            tracing::warn!(%error, "the addresses of this host cannot be read");
            None
        }
    }
}

fn reach_from(address: Option<IpAddr>, port: u16) -> Result<Reach, Problem> {
    let Some(ip) = address else {
        return Ok(Reach {
            url: url(SocketAddr::from(([127, 0, 0, 1], port)))?,
            notice: format!(
                "This host has no network: its discovery server can be reached from this host alone.\n{WAY_OUT}"
            ),
        });
    };
    let at = SocketAddr::new(ip, port);
    let notice = if addresses::is_private(ip) {
        format!(
            "The discovery server runs inside this daemon, at {at}. That is a private address: machines on the same \
             local network reach it, machines elsewhere do not.\n{WAY_OUT}"
        )
    } else {
        format!(
            "The discovery server runs inside this daemon, at {at}. Any machine reaches it there, if no firewall is in \
             the way (ports {port}/tcp and {DEFAULT_STUN_PORT}/udp)."
        )
    };
    Ok(Reach {
        url: url(at)?,
        notice,
    })
}

const WAY_OUT: &str = "To link machines behind different routers, run `discovery-server serve` on any public host, and here \
     `meshd up --server http://THAT-HOST:7080` with a fresh --state-dir.";

fn url(address: SocketAddr) -> Result<Url, Problem> {
    Url::parse(&format!("http://{address}/"))
        .map_err(|error| problem::operation_failed("name the embedded discovery server", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_names_the_way_out() {
        let reach = reach_from(Some([192, 168, 1, 10].into()), 7080).unwrap();
        assert_eq!(reach.url.as_str(), "http://192.168.1.10:7080/");
        assert!(
            reach.notice.contains("discovery-server serve"),
            "{}",
            reach.notice
        );
    }

    #[test]
    fn a_public_address_needs_no_way_out() {
        let reach = reach_from(Some([198, 51, 100, 7].into()), 7080).unwrap();
        assert!(!reach.notice.contains("--server"), "{}", reach.notice);
        let v6 = reach_from(Some("2001:db8::7".parse().unwrap()), 7080).unwrap();
        assert_eq!(v6.url.as_str(), "http://[2001:db8::7]:7080/");
    }

    #[test]
    fn a_host_without_network_says_so() {
        assert!(
            reach_from(None, 7080)
                .unwrap()
                .notice
                .contains("no network")
        );
    }
}
