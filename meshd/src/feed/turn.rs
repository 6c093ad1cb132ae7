//! Which TURN servers may the data plane use, and with which credentials? Those of the configuration, and those of the
//! discovery servers, which hand out new credentials before the old ones expire.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::future::join_all;
use mesh_core::{Command, Transport, TurnServer};
use mesh_wire::discovery::TurnPassword;
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::{LOOKUP_INTERVAL, LOOKUP_TIMEOUT, host_of};
use crate::{
    config::{TurnSettings, TurnTransport},
    dataplane::{Commands, Ended},
    discovery::servers::{Described, Relays},
    lobby::Meeting,
    prepare::Prepared,
};

/// Where to be relayed.
pub struct TurnFeed {
    /// Of the configuration.
    pub configured: Vec<TurnSettings>,
    /// Our own embedded discovery server: whoever reaches its TURN reaches us as well.
    pub embedded: Option<Url>,
    /// How the discovery servers describe the network, and so where they are.
    pub described: watch::Receiver<Described>,
    /// What they hand us.
    pub relays: watch::Receiver<Relays>,
    /// To the data plane.
    pub commands: Commands,
}

/// Where names and ports were when a resolver last said so.
type LastAddresses = BTreeMap<(String, u16), Vec<SocketAddr>>;

/// A server by its name.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
    transport: Transport,
    username: String,
    password: TurnPassword,
}

impl TurnFeed {
    /// That of a daemon, unless it shall not be relayed.
    pub fn of(prepared: &Prepared, meeting: &Meeting, commands: &Commands) -> Option<Self> {
        let network = prepared.membership.network();
        let feed = Self {
            configured: prepared.settings.turn_servers.clone(),
            embedded: network.embedded_server.then_some(network.server),
            described: meeting.described.subscribe(),
            relays: meeting.relays.subscribe(),
            commands: commands.clone(),
        };
        prepared.settings.connection.relay_enabled.then_some(feed)
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (mut told, mut last) = (Vec::new(), LastAddresses::new());
        loop {
            let described = Arc::clone(&self.described.borrow_and_update());
            let relays = Arc::clone(&self.relays.borrow_and_update());
            let names = self.names(&described, &relays);
            // Whoever is named by its address need not wait for a resolver.
            let known = names.iter().filter_map(Named::known).collect();
            if told.is_empty() && self.tell(known, &mut told).await.is_err() {
                return;
            }
            let found = join_all(names.iter().map(Named::look_up)).await;
            let found = addresses(&names, found, &mut last);
            if self.tell(found, &mut told).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(LOOKUP_INTERVAL) => {}
                changed = self.described.changed() => if changed.is_err() { return },
                changed = self.relays.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn tell(
        &self,
        servers: Vec<TurnServer>,
        told: &mut Vec<TurnServer>,
    ) -> Result<(), Ended> {
        if servers.is_empty() || servers == *told {
            return Ok(());
        }
        told.clone_from(&servers);
        let command = Command::SetTurnServers(servers);
        self.commands.send(command).await
    }

    fn names(&self, described: &Described, relays: &Relays) -> Vec<Named> {
        let configured = self.configured.iter().flat_map(|known| {
            let named = |transport| Named {
                host: known.server.host.clone(),
                port: known.server.port,
                transport,
                username: known.username.clone(),
                password: known.password.clone(),
            };
            transports(known).into_iter().map(named)
        });
        let others = relays
            .iter()
            .filter(|(server, _)| self.embedded.as_ref() != Some(server));
        let handed_out = others.flat_map(|(server, access)| {
            let host = described
                .get(server)
                .and_then(|network| host_of(server, network));
            let at = |port| Some((host.clone()?, port?));
            let websocket = Transport::WebSocket(server.as_str().into());
            let ways = [
                (at(access.udp_port), Transport::Udp),
                (at(access.tcp_port), Transport::Tcp),
                (access.websocket.then(|| place_of(server)), websocket),
            ];
            ways.into_iter().filter_map(|(place, transport)| {
                let (host, port) = place?;
                Some(Named {
                    host,
                    port,
                    transport,
                    username: access.username.clone(),
                    password: access.password.clone(),
                })
            })
        });
        configured.chain(handed_out).collect()
    }
}

/// What stands for the place of a server that is reached by its URL: its name is looked up with each connection, and
/// maybe by a proxy only.
fn place_of(server: &Url) -> (String, u16) {
    let literal = match server.host() {
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        Some(Host::Domain(_)) | None => Ipv4Addr::UNSPECIFIED.to_string(),
    };
    (literal, server.port_or_known_default().unwrap_or(80))
}

/// How a server of the configuration is reached.
fn transports(known: &TurnSettings) -> Vec<Transport> {
    match known.transport {
        TurnTransport::Any => vec![Transport::Udp, Transport::Tcp],
        TurnTransport::Udp => vec![Transport::Udp],
        TurnTransport::Tcp => vec![Transport::Tcp],
        TurnTransport::Tls => vec![Transport::Tls(known.server.host.as_str().into())],
    }
}

impl Named {
    fn at(&self, address: SocketAddr) -> TurnServer {
        TurnServer {
            address,
            transport: self.transport.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
        }
    }

    /// The server, if it is named by its address.
    fn known(&self) -> Option<TurnServer> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(self.at(SocketAddr::new(ip, self.port)))
    }

    /// Its addresses, if the resolver says.
    async fn look_up(&self) -> Option<Vec<SocketAddr>> {
        let host = self.host.as_str();
        match timeout(LOOKUP_TIMEOUT, lookup_host((host, self.port))).await {
            Ok(Ok(addresses)) => Some(addresses.collect()),
            Ok(Err(error)) => {
                tracing::debug!(host, %error, "a TURN server's name does not resolve");
                None
            }
            Err(_) => {
                tracing::debug!(host, "a TURN server's name is looked up for too long");
                None
            }
        }
    }
}

/// The servers at each of their addresses. Where the resolver says nothing they are where they were: a relay that stands is
/// not given up because a name was not answered.
fn addresses(
    names: &[Named],
    found: Vec<Option<Vec<SocketAddr>>>,
    last: &mut LastAddresses,
) -> Vec<TurnServer> {
    let place = |named: &Named| (named.host.clone(), named.port);
    for (named, addresses) in names.iter().zip(found) {
        if let Some(addresses) = addresses {
            last.insert(place(named), addresses);
        }
    }
    last.retain(|known, _| names.iter().any(|named| place(named) == *known));
    let at = |named| {
        let addresses = last.get(&place(named)).into_iter().flatten();
        addresses.map(|address| named.at(*address))
    };
    names.iter().flat_map(at).collect()
}

#[cfg(test)]
mod tests {
    use mesh_wire::discovery::{Network, TurnAccess};

    use super::*;
    use crate::config::StunServer;

    const SERVER: &str = "http://198.51.100.2:7080/";

    fn feed(embedded: Option<&str>) -> TurnFeed {
        TurnFeed {
            configured: vec![TurnSettings {
                server: StunServer {
                    host: "turn.example.com".to_owned(),
                    port: 3479,
                },
                transport: TurnTransport::Any,
                username: "ann".to_owned(),
                password: TurnPassword::new("x".to_owned()),
            }],
            embedded: embedded.map(|url| url.parse().unwrap()),
            described: watch::channel(Described::default()).1,
            relays: watch::channel(Relays::default()).1,
            commands: Commands::unheard(),
        }
    }

    /// Where the servers of a feed are, given what a discovery server hands out.
    fn names(feed: &TurnFeed, udp_port: Option<u16>) -> Vec<(String, u16, Transport)> {
        let network = Network {
            id: "my-network".parse().unwrap(),
            cidr: "10.100.0.0/16".parse().unwrap(),
            network_key: None,
            created_at: 0,
            peer_count: 0,
            stun_port: Some(3478),
            public_ip: None,
        };
        let access = TurnAccess {
            username: "1800000000:node".to_owned(),
            password: TurnPassword::new("y".to_owned()),
            realm: "mesh".to_owned(),
            expires_at: 1_800_000_000,
            udp_port,
            tcp_port: Some(443),
            websocket: true,
        };
        let url: Url = SERVER.parse().unwrap();
        let described: Described = Arc::new([(url.clone(), network)].into());
        let relays: Relays = Arc::new([(url, access)].into());
        let names = feed.names(&described, &relays).into_iter();
        names
            .map(|named| (named.host, named.port, named.transport))
            .collect()
    }

    #[test]
    fn the_configured_servers_come_first_and_then_those_of_the_discovery_servers() {
        use Transport::{Tcp, Udp};
        let configured =
            [Udp, Tcp].map(|transport| ("turn.example.com".to_owned(), 3479, transport));
        let websocket = Transport::WebSocket(SERVER.into());
        let handed_out = [(3478, Udp), (443, Tcp), (7080, websocket)]
            .map(|(port, transport)| ("198.51.100.2".to_owned(), port, transport));
        let plain = feed(None);
        let all = [&configured[..], &handed_out].concat();
        assert_eq!(names(&plain, Some(3478)), all);
        assert_eq!(names(&plain, None), [&all[..2], &all[3..]].concat());
        let ours = feed(Some(SERVER));
        assert_eq!(names(&ours, Some(3478)), configured);
    }

    #[test]
    fn a_server_that_is_reached_by_its_url_need_not_be_looked_up() {
        for (url, expected) in [
            ("https://mesh.example/", ("0.0.0.0", 443)),
            ("http://mesh.example:7080/", ("0.0.0.0", 7080)),
            ("https://[2001:db8::1]:8443/", ("2001:db8::1", 8443)),
        ] {
            let (host, port) = place_of(&url.parse().unwrap());
            assert_eq!((host.as_str(), port), expected);
        }
    }

    #[test]
    fn a_server_under_tls_must_have_the_name_by_which_it_was_configured() {
        let mut feed = feed(None);
        for (transport, expected) in [
            (TurnTransport::Udp, Transport::Udp),
            (TurnTransport::Tcp, Transport::Tcp),
            (
                TurnTransport::Tls,
                Transport::Tls("turn.example.com".into()),
            ),
        ] {
            feed.configured[0].transport = transport;
            assert_eq!(names(&feed, None)[0].2, expected);
        }
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let named = Named {
            host: "2001:db8::1".to_owned(),
            port: 3478,
            transport: Transport::Tcp,
            username: "ann".to_owned(),
            password: TurnPassword::new("x".to_owned()),
        };
        let known = named.known().unwrap();
        assert_eq!(known.address, "[2001:db8::1]:3478".parse().unwrap());
        assert_eq!(named.look_up().await, Some(vec![known.address]));
    }

    #[test]
    fn a_server_whose_name_is_not_answered_stays_where_it_was() {
        let named = |host: &str, transport| Named {
            host: host.to_owned(),
            port: 3478,
            transport,
            username: "ann".to_owned(),
            password: TurnPassword::new("x".to_owned()),
        };
        let websocket = Transport::WebSocket("https://turn.example.com/".into());
        let names = [
            named("turn.example.com", Transport::Udp),
            named("0.0.0.0", websocket),
        ];
        let [there, anywhere] = [[192, 0, 2, 7], [0; 4]].map(|ip| SocketAddr::from((ip, 3478)));
        let mut last = LastAddresses::new();
        let found = vec![Some(vec![there]), Some(vec![anywhere])];
        let told = addresses(&names, found, &mut last);
        assert_eq!(told.len(), 2);
        let again = addresses(&names, vec![None, Some(vec![anywhere])], &mut last);
        assert_eq!(again, told);
        let moved = vec![Some(Vec::new()), Some(vec![anywhere])];
        assert_eq!(addresses(&names, moved, &mut last).len(), 1);
        assert_eq!(addresses(&names[1..], vec![None], &mut last).len(), 1);
        assert_eq!(last.len(), 1, "others are forgotten");
    }
}
