//! Where is this host? Its addresses, and the way that its packets take to the internet, for the node and for whoever holds
//! connections from here.
//!
//! The system reports changes, and it is looked at every few seconds besides: a container, a sandbox or a mobile system may
//! refuse to report any, or never do so.

use std::{net::SocketAddr, time::Duration};

use mesh_core::Command;
use platform::net::{
    NetError, addresses,
    monitor::Monitor,
    way::{self, Way},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::dataplane::{Commands, Ended};

/// How late a change is noticed that nothing reports. A look costs some 0.4 ms.
const LOOK: Duration = Duration::from_secs(3);

/// Keeps the node informed of where the host is.
pub struct HostFeed {
    /// The mesh's own interface, which leads nowhere.
    pub interface: String,
    /// Of our UDP socket.
    pub port: u16,
    /// To the data plane.
    pub commands: Commands,
    /// Rises when connections from this host are probably dead.
    pub moved: watch::Sender<u64>,
}

/// What a look at the host finds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    hosts: Vec<SocketAddr>,
    ways: [Option<Way>; 2],
}

impl Place {
    /// What the node is to be told, who knows `known`.
    fn news(&self, known: Option<&Self>) -> Vec<Command> {
        let mut news = Vec::new();
        if known.is_none_or(|known| known.hosts != self.hosts) {
            news.push(Command::SetHosts(self.hosts.clone()));
        }
        if known.is_some_and(|known| known.ways != self.ways) {
            news.push(Command::LeaveOtherwise);
        }
        news
    }
}

impl HostFeed {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = match Monitor::start().await {
            Ok(monitor) => Some(monitor),
            Err(error) => {
                tracing::warn!(%error, "the system does not report changes of addresses and routes: they are noticed within {LOOK:?}");
                None
            }
        };
        let (mut known, mut is_blind) = (None, false);
        loop {
            let place = self.look(&mut is_blind).await;
            if self.tell(place, &mut known).await.is_err() {
                return;
            }
            let changed = async {
                match changes.as_mut() {
                    Some(monitor) => monitor.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = timeout(LOOK, changed) => if let Ok(Err(error)) = told {
                    tracing::warn!(%error, "the system reports no more changes of addresses and routes: they are noticed within {LOOK:?}");
                    changes = None;
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Looks at the host. Where the system refuses to list its addresses, those remain that packets leave from.
    async fn look(&self, is_blind: &mut bool) -> Place {
        let error = match self.list().await {
            Ok(place) => {
                *is_blind = false;
                return place;
            }
            Err(error) => error,
        };
        if !std::mem::replace(is_blind, true) {
            tracing::warn!(%error, "the host's addresses cannot be listed: only those that packets leave from are known, and looked for every {LOOK:?}");
        }
        let ways = way::sources_out();
        let sources = ways.iter().flatten().filter_map(|way| way.source);
        Place {
            hosts: sources.map(|ip| SocketAddr::new(ip, self.port)).collect(),
            ways,
        }
    }

    async fn list(&self) -> Result<Place, NetError> {
        let found = addresses::local_addresses(&self.interface).await?;
        let at = |ip| SocketAddr::new(ip, self.port);
        Ok(Place {
            hosts: found.into_iter().map(|found| at(found.address)).collect(),
            ways: way::ways_out().await?,
        })
    }

    async fn tell(&self, place: Place, known: &mut Option<Place>) -> Result<(), Ended> {
        let news = place.news(known.as_ref());
        let has_moved = known.is_some() && !news.is_empty();
        *known = Some(place);
        for command in news {
            self.commands.send(command).await?;
        }
        if has_moved {
            self.moved.send_modify(|times| *times += 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(hosts: &[&str], interface: u32) -> Place {
        let hosts = hosts.iter().map(|host| host.parse().unwrap());
        let way = Way {
            interface,
            gateway: None,
            source: None,
        };
        Place {
            hosts: hosts.collect(),
            ways: [Some(way), None],
        }
    }

    #[test]
    fn a_change_of_the_way_out_is_news_though_all_addresses_stay() {
        let one = place(&["192.0.2.1:7081"], 2);
        let set = |place: &Place| Command::SetHosts(place.hosts.clone());
        assert_eq!(one.news(None), [set(&one)]);
        assert_eq!(one.news(Some(&one)), []);
        let two = place(&["192.0.2.1:7081", "192.0.2.9:7081"], 2);
        assert_eq!(two.news(Some(&one)), [set(&two)]);
        let otherwise = place(&["192.0.2.1:7081", "192.0.2.9:7081"], 3);
        assert_eq!(otherwise.news(Some(&two)), [Command::LeaveOtherwise]);
        let both = [set(&otherwise), Command::LeaveOtherwise];
        assert_eq!(otherwise.news(Some(&one)), both, "addresses first");
    }
}
