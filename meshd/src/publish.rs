//! What does the daemon look like right now? Puts together what the data plane, the discovery client and the directory
//! know into the one snapshot that `status`, the API and the metrics show.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    DropReason, NodeStatus as CoreStatus, PeerStatus as CorePeer, Transport, Trouble, TurnStatus,
};
use mesh_wire::{
    NetworkId, NodeId,
    discovery::Network,
    peer_info::{Directory, PeerInfo},
};
use tokio::{
    sync::watch,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    discovery::exposure,
    netcheck,
    problem::{self, NETWORK_DELETED, NETWORK_EXISTS, NETWORK_KEY_DIFFERS, PUT_OUT, Problem},
    routes::{Names, RouteStatus},
    status::{
        self, NatStatus, NodeStatus, PathKind, PeerStatus, PortMappingStatus, RelayTransport,
        Relays, ServerStatus, Status, Traffic, Trust,
    },
};

/// Ages of handshakes and the uptime go on even when nothing happens.
const INTERVAL: Duration = Duration::from_secs(1);
/// A session that was silent for longer no longer shows that its peer is there: three keepalives.
const ALIVE: Duration = Duration::from_secs(75);

/// Everything that a status is made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Who we are, and when we began.
    pub identity: OwnIdentity,
    /// The interface, once it stands.
    pub link: watch::Receiver<Option<Link>>,
    /// Ourselves, as the discovery server registered us.
    pub own: watch::Receiver<Option<PeerInfo>>,
    /// The members.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The network.
    pub network: watch::Receiver<Arc<Network>>,
    /// The discovery servers.
    pub servers: watch::Receiver<Vec<ServerStatus>>,
    /// What else is wrong.
    pub health: watch::Receiver<Vec<Problem>>,
}

/// What never changes while the daemon runs.
#[derive(Debug, Clone)]
pub struct OwnIdentity {
    /// Our identity.
    pub node_id: NodeId,
    /// The name that we wish for.
    pub hostname: String,
    /// When the daemon started.
    pub started: Instant,
    /// What makes the members of the network.
    pub trust: Trust,
    /// The discovery server inside this daemon.
    pub embedded: Option<Url>,
}

/// The interface and what moves its packets.
#[derive(Debug, Clone)]
pub struct Link {
    /// The interface's name.
    pub interface: String,
    /// The UDP port.
    pub port: u16,
    /// Our addresses on the virtual LAN.
    pub virtual_ips: Vec<IpAddr>,
    /// The node.
    pub node: watch::Receiver<Arc<CoreStatus>>,
    /// What the router says to our port.
    pub port_mapping: watch::Receiver<PortMappingStatus>,
}

impl Sources {
    /// The snapshot.
    pub fn status(&self) -> Status {
        let link = self.link.borrow().clone();
        let core = link.as_ref().map(|link| Arc::clone(&link.node.borrow()));
        let own = self.own.borrow().clone();
        let directory = Arc::clone(&self.directory.borrow());
        let name = own
            .as_ref()
            .map_or_else(|| self.identity.hostname.clone(), |own| own.name.clone());
        let servers = self.servers.borrow().clone();
        // Not within the expression below: a guard in it would be held until its end, and a second one waits for whoever
        // waits for the first to end.
        let network = self.network.borrow().id.clone();
        let names = Names::new(&directory);
        Status {
            node: NodeStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                node_id: self.identity.node_id,
                name,
                network: network.clone(),
                interface: link
                    .as_ref()
                    .map(|link| link.interface.clone())
                    .unwrap_or_default(),
                virtual_ips: link
                    .as_ref()
                    .map(|link| link.virtual_ips.clone())
                    .unwrap_or_default(),
                trust: self.identity.trust,
                listen_port: link.as_ref().map_or(0, |link| link.port),
                uptime_s: self.identity.started.elapsed().as_secs(),
            },
            nat: link.as_ref().map(nat).unwrap_or_default(),
            peers: self.peers((&directory, &names), core.as_deref()),
            routes: core.as_deref().map_or_else(Vec::new, |core| {
                let ways = core.routes.iter();
                ways.map(|way| RouteStatus::of(way, &names)).collect()
            }),
            health: self.problems(&network, &servers),
            notes: notes(&servers, self.identity.embedded.as_ref()),
            counters: core.as_deref().map(counters).unwrap_or_default(),
            server: status::best(&servers).cloned().unwrap_or_default(),
            servers,
        }
    }

    /// Publishes a snapshot each second and whenever a source changes, until `shutdown`.
    pub async fn run(mut self, status: watch::Sender<Arc<Status>>, shutdown: CancellationToken) {
        let mut tick = interval(INTERVAL);
        loop {
            let node = self.link.borrow().as_ref().map(|link| link.node.clone());
            tokio::select! {
                _ = tick.tick() => {}
                Ok(()) = self.link.changed() => {}
                Ok(()) = self.own.changed() => {}
                Ok(()) = self.directory.changed() => {}
                Ok(()) = self.servers.changed() => {}
                Ok(()) = self.health.changed() => {}
                () = changed(node) => {}
                () = shutdown.cancelled() => return,
            }
            status.send_replace(Arc::new(self.status()));
        }
    }

    fn peers(
        &self,
        (directory, names): (&Directory, &Names<'_>),
        core: Option<&CoreStatus>,
    ) -> Vec<PeerStatus> {
        let states: HashMap<NodeId, &CorePeer> = core
            .iter()
            .flat_map(|core| &core.peers)
            .map(|peer| (peer.node_id, peer))
            .collect();
        let others = directory
            .peers
            .iter()
            .filter(|peer| peer.record.node_id != self.identity.node_id);
        others
            .map(|info| {
                let state = states.get(&info.record.node_id).copied();
                peer(info, state, |member| names.of(member))
            })
            .collect()
    }

    fn problems(&self, network: &NetworkId, servers: &[ServerStatus]) -> Vec<Problem> {
        let mut problems = self.health.borrow().clone();
        if let (Some(link), Some(own)) = (&*self.link.borrow(), &*self.own.borrow())
            && link.virtual_ips != own.virtual_ips
        {
            problems.push(problem::address_changed(
                &link.virtual_ips,
                &own.virtual_ips,
            ));
        }
        if let Some(link) = &*self.link.borrow() {
            let node = link.node.borrow();
            problems.extend(no_relays(&node.turn));
            problems.extend(no_stun(&node));
        }
        let any_connected = servers.iter().any(|server| server.connected);
        // What we know ourselves a server need not say as well.
        let is_out = problems.iter().any(|problem| problem.code == PUT_OUT);
        let connections = servers.iter();
        let connections =
            connections.filter_map(|server| no_connection(network, server, any_connected));
        problems.extend(connections.filter(|problem| !is_out || problem.code != PUT_OUT));
        problems
    }
}

/// What should be known of the servers.
fn notes(servers: &[ServerStatus], embedded: Option<&Url>) -> Vec<Problem> {
    let urls = servers
        .iter()
        .filter_map(|server| Url::parse(&server.url).ok());
    urls.flat_map(|url| exposure::notes(&url, embedded))
        .collect()
}

/// What is wrong with TURN servers. One that relays over TCP because UDP does not pass is as good as it can be, and where
/// one relays in a WebSocket it is the network that lets nothing else through.
fn no_relays(servers: &[TurnStatus]) -> Vec<Problem> {
    let relay = servers.iter().find(|turn| turn.relayed.is_some());
    let is_of_network = |turn: &TurnStatus, trouble| {
        let away = matches!(
            trouble,
            Trouble::Silent | Trouble::Unreachable | Trouble::Closed
        );
        relay.is_some_and(|relay| {
            let same = relay.server.ip() == turn.server.ip() && trouble == Trouble::Silent;
            let websocket = [&relay.transport, &turn.transport]
                .iter()
                .any(|transport| matches!(transport, Transport::WebSocket(_)));
            same || (websocket && away)
        })
    };
    let troubles = servers
        .iter()
        .filter_map(|turn| Some((turn, turn.trouble?)));
    troubles
        .filter(|(turn, trouble)| !is_of_network(turn, *trouble))
        .map(|(turn, trouble)| problem::no_relay(turn.server, &turn.transport, trouble))
        .collect()
}

/// What is wrong with STUN servers, if none answers. Where UDP does not pass at all they are not to blame: a TURN server that
/// relays over UDP shows that it does.
fn no_stun(node: &CoreStatus) -> Option<Problem> {
    let over_udp = |turn: &TurnStatus| turn.relayed.is_some() && turn.transport == Transport::Udp;
    let silent = node.stun_silent && node.turn.iter().any(over_udp);
    let servers = node.stun_servers.iter().map(|(server, _)| *server);
    silent.then(|| problem::no_stun(&servers.collect::<Vec<_>>()))
}

/// What is wrong with a server, if there is no connection to it.
fn no_connection(
    network: &NetworkId,
    server: &ServerStatus,
    any_connected: bool,
) -> Option<Problem> {
    let error = server.error.as_ref().filter(|_| !server.connected)?;
    match server.code.as_deref() {
        Some(NETWORK_DELETED) => return Some(problem::network_deleted(network, &server.url)),
        Some(NETWORK_EXISTS | NETWORK_KEY_DIFFERS) => {
            return Some(problem::network_replaced(network, &server.url));
        }
        Some("revoked") => return Some(problem::put_out_says(&server.url)),
        Some(_) | None => {}
    }
    let retry = server
        .retry_in_s
        .map_or_else(String::new, |s| format!(", next attempt within {s} s"));
    if server.untrusted {
        let why = format!("{error}{retry}");
        return Some(problem::server_untrusted(&server.url, &why));
    }
    let what = match server.code {
        Some(_) => format!("the discovery server {} answers and refuses", server.url),
        None => format!("no connection to the discovery server {}", server.url),
    };
    let fix = match any_connected {
        _ if server.code.is_some() => {
            "as it says; sessions that stand go on without it. A server that is not the right one: meshd servers rm URL"
        }
        true => {
            "check that it runs, that this host reaches it and that the network is there; or take it out of the list (meshd servers rm URL). The other servers are in use"
        }
        false => {
            "check that it runs and that this host reaches it; sessions that stand go on without it"
        }
    };
    let problem = Problem::new(0, "server-unreachable", what);
    Some(problem.detail(format!("{error}{retry}")).fix(fix))
}

/// Waits for the data plane's next snapshot.
async fn changed(node: Option<watch::Receiver<Arc<CoreStatus>>>) {
    if let Some(mut node) = node {
        node.mark_unchanged();
        if node.changed().await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}

fn peer(info: &PeerInfo, state: Option<&CorePeer>, name: impl Fn(u32) -> String) -> PeerStatus {
    let has_path = |s: &CorePeer| s.endpoint.is_some() || !s.via.is_empty();
    let alive = state.is_some_and(|s| has_path(s) && s.since_rx.is_some_and(|since| since < ALIVE));
    let endpoint = state.filter(|_| alive).and_then(|s| s.endpoint);
    PeerStatus {
        name: info.name.clone(),
        node_id: info.record.node_id,
        virtual_ips: info.virtual_ips.clone(),
        online: info.online || alive,
        path: match state.filter(|_| alive) {
            Some(s) if !s.via.is_empty() => PathKind::Relay,
            Some(s) if s.relayed => PathKind::Turn,
            Some(_) => PathKind::Direct,
            None => PathKind::None,
        },
        relays: Relays {
            transport: state
                .filter(|state| alive && state.relayed)
                .map(|state| RelayTransport::from(&state.transport)),
            via: state
                .filter(|_| alive)
                .map_or_else(Vec::new, |s| s.via.iter().map(|id| name(*id)).collect()),
            direct_avoided: state.is_some_and(|state| alive && state.avoids_direct),
        },
        endpoint,
        rtt_ms: state
            .filter(|_| alive)
            .and_then(|s| s.rtt)
            .map(|rtt| rtt.as_secs_f64() * 1000.0),
        traffic: state.map(traffic).unwrap_or_default(),
        mtu: state
            .filter(|_| alive)
            .and_then(|s| u16::try_from(s.mtu).ok()),
    }
}

fn traffic(state: &CorePeer) -> Traffic {
    Traffic {
        tx_bytes: state.tx_bytes,
        rx_bytes: state.rx_bytes,
        last_handshake_s: state.since_handshake.map(|since| since.as_secs()),
        last_heard_s: state.since_rx.map(|since| since.as_secs()),
    }
}

fn nat(link: &Link) -> NatStatus {
    let core = link.node.borrow();
    let mapped: Vec<_> = core.reflexive.iter().map(|seen| seen.mapped).collect();
    let hosts: Vec<IpAddr> = core.reflexive.iter().map(|seen| seen.base.ip()).collect();
    let answers = core.stun_servers.iter();
    let seen: Vec<_> = answers
        .filter_map(|(server, answer)| Some((*server, (*answer)?.mapped)))
        .collect();
    NatStatus {
        behind_nat: (!mapped.is_empty())
            .then(|| mapped.iter().all(|address| !hosts.contains(&address.ip()))),
        mapped_addresses: mapped,
        mapping: netcheck::mapping(&seen),
        stun_servers: core
            .stun_servers
            .iter()
            .map(|(server, _)| *server)
            .collect(),
        turn_servers: core
            .turn
            .iter()
            // One that is reached by its URL has no address of its own to be asked at.
            .filter(|turn| !matches!(turn.transport, Transport::WebSocket(_)))
            .map(|turn| turn.server)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        port_mapping: link.port_mapping.borrow().clone(),
    }
}

fn counters(core: &CoreStatus) -> BTreeMap<String, u64> {
    DropReason::ALL
        .into_iter()
        .map(|reason| (reason.name().to_owned(), core.counters.get(reason)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    /// A guard that is held while the same thing is read a second time waits for ever, if somebody writes in between.
    #[test]
    fn a_status_is_made_while_what_it_is_made_of_changes() {
        let network = Arc::new(Network {
            id: "my-network".parse().unwrap(),
            cidr: "10.100.0.0/16".parse().unwrap(),
            created_at: 0,
            peer_count: 0,
            network_key: None,
            stun_port: None,
            public_ip: None,
        });
        let (link, own) = (watch::Sender::new(None), watch::Sender::new(None));
        let directory = watch::Sender::new(Arc::new(Directory::default()));
        let networks = watch::Sender::new(Arc::clone(&network));
        let (servers, health) = (
            watch::Sender::new(Vec::new()),
            watch::Sender::new(Vec::new()),
        );
        let sources = Sources {
            identity: OwnIdentity {
                node_id: NodeId::from_bytes([1; 32]),
                hostname: "alice".to_owned(),
                started: Instant::now(),
                trust: Trust::Psk,
                embedded: None,
            },
            link: link.subscribe(),
            own: own.subscribe(),
            directory: directory.subscribe(),
            network: networks.subscribe(),
            servers: servers.subscribe(),
            health: health.subscribe(),
        };
        let is_done = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_done);
        thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                link.send_replace(None);
                own.send_replace(None);
                directory.send_replace(Arc::default());
                networks.send_replace(Arc::clone(&network));
                servers.send_replace(Vec::new());
                health.send_replace(Vec::new());
            }
        });
        let (done, made) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..20_000 {
                sources.status();
            }
            done.send(()).unwrap();
        });
        let made = made.recv_timeout(Duration::from_secs(60));
        is_done.store(true, Ordering::Relaxed);
        assert!(made.is_ok(), "it waits for itself");
    }
}
