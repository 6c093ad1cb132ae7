//! Which TURN servers may the data plane use, and with which credentials? Those of the configuration, and those of the
//! discovery servers, which hand out new credentials before the old ones expire.

use std::{net::SocketAddr, sync::Arc};

use mesh_core::{Command, TurnServer};
use mesh_wire::discovery::TurnPassword;
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{LOOKUP_INTERVAL, LOOKUP_TIMEOUT, host_of};
use crate::{
    config::TurnSettings,
    dataplane::Commands,
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

/// A server by its name.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
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
        let mut told = Vec::new();
        loop {
            let described = Arc::clone(&self.described.borrow_and_update());
            let relays = Arc::clone(&self.relays.borrow_and_update());
            let looked_up = timeout(LOOKUP_TIMEOUT, look_up(self.names(&described, &relays))).await;
            // A resolver that is silent for a while takes no server away.
            if let Ok(servers) = looked_up
                && servers != told
            {
                told.clone_from(&servers);
                let command = Command::SetTurnServers(servers);
                if self.commands.send(command).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sleep(LOOKUP_INTERVAL) => {}
                changed = self.described.changed() => if changed.is_err() { return },
                changed = self.relays.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn names(&self, described: &Described, relays: &Relays) -> Vec<Named> {
        let configured = self.configured.iter().map(|known| Named {
            host: known.server.host.clone(),
            port: known.server.port,
            username: known.username.clone(),
            password: known.password.clone(),
        });
        let others = relays
            .iter()
            .filter(|(server, _)| self.embedded.as_ref() != Some(server));
        let handed_out = others.filter_map(|(server, access)| {
            let network = described.get(server)?;
            Some(Named {
                host: host_of(server, network)?,
                port: access.udp_port?,
                username: access.username.clone(),
                password: access.password.clone(),
            })
        });
        configured.chain(handed_out).collect()
    }
}

async fn look_up(names: Vec<Named>) -> Vec<TurnServer> {
    let mut found: Vec<TurnServer> = Vec::new();
    for Named {
        host,
        port,
        username,
        password,
    } in names
    {
        let addresses: Vec<SocketAddr> = match lookup_host((host.as_str(), port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::debug!(host, %error, "a TURN server's name does not resolve");
                continue;
            }
        };
        found.extend(addresses.into_iter().map(|address| TurnServer {
            address,
            username: username.clone(),
            password: password.clone(),
        }));
    }
    found
}
