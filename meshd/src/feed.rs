//! What is the data plane told, and when? The members when the directory changes, our addresses when the host's change,
//! the STUN servers when the discovery server names itself one.

mod hosts;
mod turn;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{Command, PeerEntry};
use mesh_wire::{
    NetworkId, NodeId, WireGuardKey,
    discovery::{Network, ServerMessage},
    peer_info::{Directory, PeerInfo},
    psk::NetworkPsk,
};
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    config::StunServer, dataplane::Commands, discovery::servers::Described, state::StateDir,
};

pub use hosts::HostFeed;
pub use turn::TurnFeed;

/// How often names of STUN servers are looked up again; home routers' resolvers come up late.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(60);
/// How long all look-ups of one round may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is a peer of ours, and with which keys.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Ourselves: never our own peer.
    pub node_id: NodeId,
    /// Our session key.
    pub wireguard_key: WireGuardKey,
    /// What each pair's preshared key is derived from.
    pub psk: NetworkPsk,
}

impl Roster {
    /// The command that tells the node of all members.
    pub fn command(&self, directory: &Directory) -> Command {
        let others = directory
            .peers
            .iter()
            .filter(|peer| peer.record.node_id != self.node_id);
        Command::SetPeers(others.map(|peer| self.entry(peer)).collect())
    }

    /// The commands that follow a server's message, given what is believed after it.
    pub fn changes(&self, message: &ServerMessage, directory: &Directory) -> Option<Command> {
        match message {
            ServerMessage::Snapshot { .. } | ServerMessage::Revoked { .. } => {
                Some(self.command(directory))
            }
            ServerMessage::PeerJoined { peer, .. } | ServerMessage::PeerUpdated { peer, .. } => {
                let node = peer.record.node_id;
                let believed = directory.by_node(&node).filter(|_| node != self.node_id)?;
                Some(Command::SetPeer(self.entry(believed)))
            }
            ServerMessage::PeerLeft { node_id, .. } => match directory.by_node(node_id) {
                // Another server lists it.
                Some(peer) if *node_id != self.node_id => Some(Command::SetPeer(self.entry(peer))),
                Some(_) | None => Some(Command::RemovePeer(*node_id)),
            },
            ServerMessage::Challenge { .. }
            | ServerMessage::Signal { .. }
            | ServerMessage::Turn(_)
            | ServerMessage::Undeliverable { .. }
            | ServerMessage::Error { .. } => None,
        }
    }

    fn entry(&self, peer: &PeerInfo) -> PeerEntry {
        PeerEntry {
            node_id: peer.record.node_id,
            wireguard_key: peer.record.wireguard_key,
            virtual_ips: peer.virtual_ips.clone(),
            instance: peer.record.instance,
            online: peer.online,
            psk: self
                .psk
                .session_psk(&self.wireguard_key, &peer.record.wireguard_key),
        }
    }
}

/// Keeps the list of members on disk in step with the directory, for the next start.
pub async fn cache(
    state: Arc<StateDir>,
    network: NetworkId,
    mut directory: watch::Receiver<Arc<Directory>>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = directory.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let current = Arc::clone(&directory.borrow_and_update());
        if let Err(problem) = state.save_directory(&network, &current) {
            tracing::warn!(%problem, "the list of members could not be cached");
        }
    }
}

/// Where to ask for our reflexive addresses.
pub struct StunFeed {
    /// Of the configuration.
    pub configured: Vec<StunServer>,
    /// Our own embedded discovery server: it sees us as we see ourselves.
    pub embedded: Option<Url>,
    /// How the discovery servers describe the network: their hosts serve STUN too, at the port that they name.
    pub described: watch::Receiver<Described>,
    /// To the data plane.
    pub commands: Commands,
}

impl StunFeed {
    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let described = Arc::clone(&self.described.borrow_and_update());
            let servers = timeout(LOOKUP_TIMEOUT, self.look_up(&described))
                .await
                .unwrap_or_default();
            if !servers.is_empty()
                && self
                    .commands
                    .send(Command::SetStunServers(servers))
                    .await
                    .is_err()
            {
                return;
            }
            tokio::select! {
                () = sleep(LOOKUP_INTERVAL) => {}
                changed = self.described.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look_up(&self, described: &Described) -> Vec<SocketAddr> {
        let mut found = BTreeSet::new();
        for (host, port) in self.names(described) {
            match lookup_host((host.as_str(), port)).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => {
                    tracing::debug!(host, %error, "a STUN server's name does not resolve")
                }
            }
        }
        found.into_iter().collect()
    }

    fn names(&self, described: &Described) -> Vec<(String, u16)> {
        let mut names: Vec<_> = self
            .configured
            .iter()
            .map(|server| (server.host.clone(), server.port))
            .collect();
        for (server, network) in described.iter() {
            let Some(port) = network
                .stun_port
                .filter(|_| self.embedded.as_ref() != Some(server))
            else {
                continue;
            };
            names.extend(host_of(server, network).map(|host| (host, port)));
        }
        names
    }
}

/// Where a discovery server serves STUN and TURN.
fn host_of(server: &Url, network: &Network) -> Option<String> {
    network.public_ip.map(|ip| ip.to_string()).or_else(|| {
        let host = server.host_str()?;
        Some(host.trim_matches(['[', ']']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://[2001:db8::1]:7080/";

    fn feed(embedded: Option<&str>) -> StunFeed {
        StunFeed {
            configured: Vec::new(),
            embedded: embedded.map(|url| Url::parse(url).unwrap()),
            described: watch::channel(Described::default()).1,
            commands: Commands::unheard(),
        }
    }

    fn described(public_ip: Option<&str>) -> Described {
        let network = Network {
            id: "my-network".parse().unwrap(),
            cidr: "10.100.0.0/16".parse().unwrap(),
            network_key: None,
            created_at: 0,
            peer_count: 0,
            stun_port: Some(3478),
            public_ip: public_ip.map(|ip| ip.parse().unwrap()),
        };
        Arc::new([(Url::parse(SERVER).unwrap(), network)].into())
    }

    #[test]
    fn the_discovery_servers_host_serves_stun_unless_it_names_another_address() {
        let feed = feed(None);
        assert_eq!(
            feed.names(&described(None)),
            [("2001:db8::1".to_owned(), 3478)]
        );
        assert_eq!(
            feed.names(&described(Some("198.51.100.9"))),
            [("198.51.100.9".to_owned(), 3478)]
        );
    }

    #[test]
    fn our_own_embedded_server_is_not_asked() {
        assert!(feed(Some(SERVER)).names(&described(None)).is_empty());
    }
}
