//! What sockets has a host beside the mesh's own? Whatever its node asks for, as the daemon would open them.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::{Node, SocketRequest};

use crate::{network::HostId, world::World};

/// Local ports from here on are theirs.
const FIRST_PORT: u16 = 33_000;

/// How often a host has tried birthday probing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts that it has taken part in.
    pub count: usize,
    /// The most sockets that it had beside the mesh's own.
    pub sockets: usize,
}

/// All additional sockets of all hosts, by their local ports.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: BTreeSet<(HostId, u16)>,
    /// Of the attempts under way.
    begun: BTreeMap<HostId, Vec<u16>>,
    attempts: BTreeMap<HostId, Attempts>,
}

impl Sockets {
    pub(crate) fn has(&self, host: HostId, port: u16) -> bool {
        self.open.contains(&(host, port))
    }

    fn count(&self, host: HostId) -> usize {
        self.open.iter().filter(|(owner, _)| *owner == host).count()
    }

    /// Does what the node of a host asks for. `None` if that has no answer.
    fn carry_out(&mut self, host: HostId, request: SocketRequest) -> Option<Vec<u16>> {
        match request {
            SocketRequest::Begin(count) => {
                let free = (FIRST_PORT..).filter(|port| !self.has(host, *port));
                let ports: Vec<u16> = free.take(count.into()).collect();
                self.open.extend(ports.iter().map(|port| (host, *port)));
                self.begun.insert(host, ports.clone());
                let now_open = self.count(host);
                let attempts = self.attempts.entry(host).or_default();
                attempts.count += 1;
                attempts.sockets = attempts.sockets.max(now_open);
                return Some(ports);
            }
            SocketRequest::End(keep) => {
                for port in self.begun.remove(&host).unwrap_or_default() {
                    if keep.is_none_or(|keep| keep.get() != port) {
                        self.open.remove(&(host, port));
                    }
                }
            }
            SocketRequest::Close(port) => {
                self.open.remove(&(host, port.get()));
            }
        }
        None
    }
}

impl World {
    /// Does what the node of a host asks for.
    pub(crate) fn open_sockets(&mut self, host: HostId) {
        let now = self.now();
        while let Some(request) = self.hosts[host].node.as_mut().and_then(Node::poll_socket) {
            let ports = self.network.sockets.carry_out(host, request);
            let at = &mut self.hosts[host];
            if let (Some(node), true) = (&mut at.node, ports.is_some()) {
                node.handle_sockets(ports, now, &mut at.transmit);
            }
        }
    }

    /// How many sockets a host has beside the mesh's own.
    pub fn sockets(&self, host: HostId) -> usize {
        self.network.sockets.count(host)
    }

    /// How often a host has tried birthday probing.
    pub fn attempts(&self, host: HostId) -> Attempts {
        let all = &self.network.sockets.attempts;
        all.get(&host).copied().unwrap_or_default()
    }
}
