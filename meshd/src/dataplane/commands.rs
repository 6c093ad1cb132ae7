//! How does the rest of the daemon tell the data plane what to do? By a bounded queue and a bell for each thread. A
//! thread hears of its own peers only.

use std::{net::SocketAddr, sync::Arc};

use mesh_core::{Command, PeerEntry};
use mesh_wire::NodeId;
use platform::readiness::Bell;
use tokio::sync::{mpsc, watch};

use super::shards::{Owners, thread_of};

/// Room for commands on their way.
const QUEUE: usize = 1024;

/// The side that tells.
#[derive(Debug, Clone)]
pub struct Commands {
    threads: Arc<[Inbox]>,
    owners: watch::Sender<Arc<Owners>>,
}

/// One thread, as seen from here.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: mpsc::Sender<Command>,
    bell: Bell,
    port: u16,
}

/// The data plane has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data plane has ended")]
pub struct Ended;

impl Inbox {
    /// That of a thread whose sockets have `port`, and the other end of its queue.
    pub(super) fn new(bell: Bell, port: u16) -> (Self, mpsc::Receiver<Command>) {
        let (queue, told) = mpsc::channel(QUEUE);
        (Self { queue, bell, port }, told)
    }
}

impl Commands {
    /// To these threads. `owners` is told which of them has which virtual address.
    pub(super) fn new(threads: Vec<Inbox>, owners: watch::Sender<Arc<Owners>>) -> Self {
        Self {
            threads: threads.into(),
            owners,
        }
    }

    /// Tells nobody, for tests of those who tell.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        let (_watch, bell) = platform::readiness::Watch::new().expect("a watch");
        Self::new(vec![Inbox::new(bell, 0).0], watch::Sender::default())
    }

    /// The UDP ports of the threads, in their order.
    pub fn ports(&self) -> Vec<u16> {
        self.threads.iter().map(|inbox| inbox.port).collect()
    }

    /// Hands a command over; waits while the queue is full.
    pub async fn send(&self, command: Command) -> Result<(), Ended> {
        match command {
            Command::SetPeers(entries) => self.set_peers(entries).await,
            Command::SetPeer(entry) => {
                self.own(&entry);
                self.tell(self.thread_of(&entry.node_id), Command::SetPeer(entry))
                    .await
            }
            Command::SetHosts(hosts) => {
                for (thread, inbox) in self.threads.iter().enumerate() {
                    let with_port = |host: &SocketAddr| SocketAddr::new(host.ip(), inbox.port);
                    let hosts = hosts.iter().map(with_port).collect();
                    self.tell(thread, Command::SetHosts(hosts)).await?;
                }
                Ok(())
            }
            Command::LeaveOtherwise => self.tell_all(|| Command::LeaveOtherwise).await,
            Command::SetStunServers(servers) => {
                self.tell_all(|| Command::SetStunServers(servers.clone()))
                    .await
            }
            Command::SetPortMappings(mappings) => {
                for (thread, inbox) in self.threads.iter().enumerate() {
                    let own = mappings.iter().copied();
                    let own = own.filter(|mapping| mapping.base.port() == inbox.port);
                    self.tell(thread, Command::SetPortMappings(own.collect()))
                        .await?;
                }
                Ok(())
            }
            Command::SetTurnServers(servers) => {
                self.tell_all(|| Command::SetTurnServers(servers.clone()))
                    .await
            }
            Command::Gossip { to: None, message } => {
                self.tell_all(|| Command::Gossip {
                    to: None,
                    message: message.clone(),
                })
                .await
            }
            Command::NobodyHas { address } => {
                self.tell_all(|| Command::NobodyHas { address }).await
            }
            Command::RemovePeer(node)
            | Command::Gossip { to: Some(node), .. }
            | Command::Knock { node, .. }
            | Command::Signal { from: node, .. }
            | Command::Undeliverable { to: node }
            | Command::Ping { node, .. } => self.tell(self.thread_of(&node), command).await,
        }
    }

    /// Each thread hears of its own peers, also if it has none any more.
    async fn set_peers(&self, entries: Vec<PeerEntry>) -> Result<(), Ended> {
        let mut owners = Owners::new();
        let mut shares = vec![Vec::new(); self.threads.len()];
        for entry in entries {
            let thread = self.thread_of(&entry.node_id);
            owners.extend(entry.virtual_ips.iter().map(|ip| (*ip, thread)));
            shares[thread].push(entry);
        }
        self.owners.send_replace(Arc::new(owners));
        for (thread, share) in shares.into_iter().enumerate() {
            self.tell(thread, Command::SetPeers(share)).await?;
        }
        Ok(())
    }

    fn own(&self, entry: &PeerEntry) {
        let thread = self.thread_of(&entry.node_id);
        if self.threads.len() > 1 {
            self.owners.send_modify(|owners| {
                let addresses = entry.virtual_ips.iter().map(|ip| (*ip, thread));
                Arc::make_mut(owners).extend(addresses);
            });
            self.threads.iter().for_each(|inbox| inbox.bell.ring());
        }
    }

    fn thread_of(&self, node: &NodeId) -> usize {
        thread_of(node, self.threads.len())
    }

    /// Tells each thread.
    async fn tell_all(&self, command: impl Fn() -> Command) -> Result<(), Ended> {
        for thread in 0..self.threads.len() {
            self.tell(thread, command()).await?;
        }
        Ok(())
    }

    async fn tell(&self, thread: usize, command: Command) -> Result<(), Ended> {
        let inbox = &self.threads[thread];
        inbox.queue.send(command).await.map_err(|_| Ended)?;
        inbox.bell.ring();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
