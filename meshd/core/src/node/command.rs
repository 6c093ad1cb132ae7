//! What can the node be told?

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use mesh_wire::{NodeId, WireGuardKey, carrier::Carrier, signal::Signal};

use super::{Node, event::DropReason};
use crate::{
    path::{gather::Reflexive, mtu::PathMtu, place::is_never_a_peer, turn::TurnServer},
    peer::{Peer, session::Session, state::State, table::PeerIdx},
    queue::transmit::{Route, TransmitQueue},
};

/// Intent from outside, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The other members are exactly these. Those who are missing are forgotten with their sessions.
    SetPeers(Vec<PeerEntry>),
    /// A member is new, or something of it changed.
    SetPeer(PeerEntry),
    /// This one is no member any more.
    RemovePeer(NodeId),
    /// The addresses of the local interfaces, with the port of our UDP socket.
    SetHosts(Vec<SocketAddr>),
    /// What we send to the internet leaves by another way than before, whether or not our addresses are the same.
    LeaveOtherwise,
    /// The STUN servers to ask for our reflexive addresses.
    SetStunServers(Vec<SocketAddr>),
    /// The UDP ports that gateways map for us now.
    SetPortMappings(Vec<Reflexive>),
    /// The TURN servers that may relay for us, over UDP.
    SetTurnServers(Vec<TurnServer>),
    /// A peer's ICE credentials and candidates, through the discovery server.
    Signal {
        /// The sender.
        from: NodeId,
        /// What it says.
        signal: Signal,
    },
    /// The discovery server could not deliver our signal.
    Undeliverable {
        /// The peer that is away.
        to: NodeId,
    },
    /// Ping a peer inside its session, connecting first if need be. Answered by [`super::event::Event::Pong`].
    Ping {
        /// The peer.
        node: NodeId,
        /// Comes back in the answer. Less than 2^63.
        id: u64,
    },
    /// No member has this address of the virtual LAN, for which there was [`super::event::Event::Sought`].
    NobodyHas {
        /// The address.
        address: IpAddr,
    },
    /// Try a handshake with a peer where it was before, without signals: nobody can carry them. Does nothing while a
    /// session stands, unless the address that we reached the peer from is ours no more.
    Knock {
        /// The peer.
        node: NodeId,
        /// Where it was.
        at: SocketAddr,
    },
    /// Tell a peer, or all with whom a session stands, what the network should know. Nobody is connected for that.
    Gossip {
        /// The peer; all if absent.
        to: Option<NodeId>,
        /// At most [`mesh_wire::carrier::MAX_GOSSIP`] bytes.
        message: Box<[u8]>,
    },
}

/// What the network says of one other member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEntry {
    /// Its identity.
    pub node_id: NodeId,
    /// The key of its sessions.
    pub wireguard_key: WireGuardKey,
    /// Its addresses on the virtual LAN.
    pub virtual_ips: Vec<IpAddr>,
    /// Changes when its daemon was started anew.
    pub instance: u64,
    /// Whether it can be signalled to right now.
    pub online: bool,
    /// This pair's preshared key.
    pub psk: [u8; 32],
}

impl Node {
    /// Carries out a command.
    pub fn handle_command(&mut self, command: Command, now: Instant, transmit: &mut TransmitQueue) {
        self.notice_sleep(now, transmit);
        match command {
            Command::SetPeers(entries) => {
                self.set_peers(entries, now);
                self.route_members(now);
            }
            Command::SetPeer(entry) => {
                self.set_peer(entry, now);
                self.route_members(now);
            }
            Command::RemovePeer(node) => {
                if let Some(index) = self.peers.by_node(&node) {
                    self.forget(index, now);
                    self.route_members(now);
                }
            }
            Command::SetHosts(hosts) => {
                if self.gatherer.set_hosts(hosts, now) {
                    let hosts = self.gatherer.hosts().to_vec();
                    self.gatherer.turn.set_hosts(&hosts, now, &mut self.rng);
                    self.keep_relayed(now, transmit);
                    self.mesh.topology.begin_anew();
                    self.leave_lost_addresses(now, transmit);
                    self.offer_new_candidates(now, transmit);
                }
            }
            Command::LeaveOtherwise => self.leave_otherwise(now, transmit),
            Command::SetStunServers(servers) => self.gatherer.set_servers(&servers, now),
            Command::SetPortMappings(mappings) => {
                if self.gatherer.set_port_mappings(mappings) {
                    self.offer_new_candidates(now, transmit);
                }
            }
            Command::SetTurnServers(servers) => self.set_turn_servers(&servers, now, transmit),
            Command::Signal { from, signal } => match self.peers.by_node(&from) {
                Some(index) => self.on_signal(index, &signal, now, transmit),
                None => self.counters.count(DropReason::UnknownPeer, 1),
            },
            Command::Undeliverable { to } => self.on_undeliverable(&to, now),
            Command::NobodyHas { address } => self.lan.strangers.disown(address, now),
            Command::Ping { node, id } => self.ping(&node, id, now, transmit),
            Command::Knock { node, at } => self.knock(&node, at, now, transmit),
            Command::Gossip { to, message } => self.gossip(to, message, now, transmit),
        }
    }

    fn set_peers(&mut self, entries: Vec<PeerEntry>, now: Instant) {
        let listed: BTreeSet<NodeId> = entries.iter().map(|entry| entry.node_id).collect();
        let gone: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| !listed.contains(&peer.node_id))
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            self.forget(index, now);
        }
        for entry in entries {
            self.set_peer(entry, now);
        }
    }

    fn set_peer(&mut self, entry: PeerEntry, now: Instant) {
        // A member that names our own key would have us talk with ourselves, by way of it.
        if entry.node_id == self.local.node_id || entry.wireguard_key == self.keys.public() {
            return;
        }
        let Some(index) = self.peers.by_node(&entry.node_id) else {
            return self.add_peer(entry, now);
        };
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if peer.entry == entry {
            return;
        }
        if peer.entry.wireguard_key != entry.wireguard_key || peer.entry.psk != entry.psk {
            self.forget(index, now);
            return self.add_peer(entry, now);
        }
        let restarted = peer.entry.instance != entry.instance;
        let came_back = entry.online && !peer.entry.online;
        let went_away = !entry.online && peer.entry.online;
        self.lan.assign(index, &entry.virtual_ips);
        let has_moved = peer.entry.virtual_ips != entry.virtual_ips;
        peer.traffic.left = peer.traffic.left.filter(|_| !came_back && !restarted);
        peer.entry = entry;
        if restarted || came_back {
            self.mesh.topology.forget(index);
        }
        if has_moved {
            // It has another number.
            self.untie(index, now);
            self.mesh.members_changed();
        }
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if restarted {
            self.reconnect(index, now);
        } else if came_back {
            self.try_again(index, now);
        } else if went_away {
            peer.state.farewell(now);
            peer.traffic.left = Some(now);
            if let Some(agent) = peer.agent.as_mut() {
                agent.farewell(now);
            }
            self.schedule(index);
        }
    }

    fn add_peer(&mut self, entry: PeerEntry, now: Instant) {
        let (keepalive, mtu) = (self.local.keepalive, self.local.mtu);
        let addresses = entry.virtual_ips.clone();
        let index = self
            .peers
            .insert((entry.node_id, entry.wireguard_key), |index| {
                let session = Session::new(entry.wireguard_key, index, entry.psk, keepalive);
                Peer::new(entry, session, PathMtu::new(mtu))
            });
        match index {
            Some(index) => {
                self.lan.assign(index, &addresses);
                self.mesh.members_changed();
                self.send_what_waited(index, &addresses, now);
            }
            None => self.counters.count(DropReason::UnknownPeer, 1),
        }
    }

    /// Somebody has sent to these addresses before we knew whose they are.
    fn send_what_waited(&mut self, index: PeerIdx, addresses: &[IpAddr], now: Instant) {
        let waited = self.lan.strangers.found(addresses, now);
        let Some(peer) = self.peers.get_mut(index).filter(|_| !waited.is_empty()) else {
            return;
        };
        for packet in waited {
            peer.pending.push(packet);
        }
        self.dial(index, now);
    }

    fn forget(&mut self, index: PeerIdx, now: Instant) {
        self.untie(index, now);
        self.mesh.forget(index);
        self.lan.remove(index);
        self.stun.remove_peer(index);
        self.gatherer.birthday.forget(index);
        self.gatherer.turn.disown(index);
        self.wakeups.set(index, None);
        self.letters.forget(index);
        if let Some(mut peer) = self.peers.remove(index) {
            self.counters
                .count(DropReason::UnknownPeer, peer.pending.clear());
        }
    }

    fn on_undeliverable(&mut self, to: &NodeId, now: Instant) {
        let Some(index) = self.peers.by_node(to) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if matches!(peer.state, State::Connecting { .. }) && peer.link.is_none() {
            peer.state = State::failed(now);
            let dropped = peer.pending.clear();
            self.counters.count(DropReason::Unreachable, dropped);
            self.schedule(index);
        }
    }

    fn ping(&mut self, node: &NodeId, id: u64, now: Instant, transmit: &mut TransmitQueue) {
        let Some(index) = self.peers.by_node(node) else {
            return;
        };
        let sent = self.micros(now);
        self.send_inner(index, &Carrier::Ping { id, sent }.encode(), now, transmit);
    }

    fn knock(&mut self, node: &NodeId, at: SocketAddr, now: Instant, transmit: &mut TransmitQueue) {
        if is_never_a_peer(at.ip()) || self.local.cidr.contains(&at.ip()) {
            return self.counters.count(DropReason::RefusedCandidate, 1);
        }
        let hosts = self.gatherer.hosts();
        let is_ours = |ip| hosts.iter().any(|host| host.ip() == ip);
        let peer = self
            .peers
            .by_node(node)
            .and_then(|index| self.peers.get_mut(index))
            .filter(|peer| {
                let source = peer.link.and_then(|link| link.src);
                !peer.session.is_established(now) || source.is_some_and(|ip| !is_ours(ip))
            });
        let initiation = peer.and_then(|peer| peer.session.initiate(&mut self.keys, now));
        if let Some(initiation) = initiation {
            transmit.push(Route::to(at), &initiation);
        }
    }

    fn gossip(
        &mut self,
        to: Option<NodeId>,
        message: Box<[u8]>,
        now: Instant,
        transmit: &mut TransmitQueue,
    ) {
        let packet = Carrier::Gossip { message }.encode();
        let hearers: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| to.is_none_or(|to| to == peer.node_id))
            .filter(|(_, peer)| peer.link.is_some() && peer.session.is_established(now))
            .map(|(index, _)| index)
            .collect();
        for index in hearers {
            self.send_inner(index, &packet, now, transmit);
        }
    }
}
