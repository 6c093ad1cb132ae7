//! Which peers are neighbours for routing, and what do routes mean for the others? Feeds the router with links and messages, and
//! gives peers without a path of their own the way over the mesh.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use mesh_wire::{carrier::Carrier, relay::RelayHeader, routing::PathError};

use super::{Node, event::Event, forward::address_of, neighbours::Tie, topology::Topology};
use crate::{
    peer::{Peer, member_among, state::State, table::PeerIdx},
    queue::transmit::{Route, TransmitQueue},
    routing::{NextHop, Router, RouterConfig},
};

/// How routes are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingConfig {
    /// The most links of a route, 1 to 8.
    pub max_hops: u8,
    /// How long a route holds that its neighbour does not speak of any more.
    pub route_timeout: Duration,
    /// Whether a neighbour is not told of routes that lead through it.
    pub split_horizon: bool,
    /// Whether frames are carried for others.
    pub carries: bool,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            max_hops: 8,
            route_timeout: Duration::from_secs(300),
            split_horizon: true,
            carries: true,
        }
    }
}

/// Routing, as one node takes part in it.
#[derive(Debug)]
pub(super) struct Mesh {
    config: Option<RoutingConfig>,
    me: u32,
    pub(super) router: Option<Router>,
    pub(super) ties: BTreeMap<PeerIdx, Tie>,
    /// Peers that are reached over neighbours.
    riders: BTreeSet<PeerIdx>,
    /// Peers that packets wait for, and that nobody has a way to.
    stranded: BTreeSet<PeerIdx>,
    members_changed: bool,
    pub(super) topology: Topology,
}

impl Mesh {
    /// Without `config` nothing is routed.
    pub(super) fn new(
        config: Option<RoutingConfig>,
        addresses: &[IpAddr],
        (seed, unix_time): (u64, Duration),
        now: Instant,
    ) -> Self {
        let me = member_among(addresses);
        let router = config.zip(me).map(|(config, me)| {
            let config = RouterConfig {
                me,
                relay: config.carries,
                max_hops: config.max_hops,
                route_timeout: config.route_timeout,
                split_horizon: config.split_horizon,
                seqno: seqno_at(unix_time),
                seed,
            };
            Router::new(config, now)
        });
        Self {
            config,
            me: me.unwrap_or(0),
            router,
            ties: BTreeMap::new(),
            riders: BTreeSet::new(),
            stranded: BTreeSet::new(),
            members_changed: true,
            topology: Topology::new(seed, now),
        }
    }

    /// Whether a frame has arrived with us.
    pub(super) fn is_for_us(&self, header: &RelayHeader) -> bool {
        let at_its_end = header.path.is_none_or(|path| path.members().is_empty());
        self.router.is_some() && header.destination == self.me && at_its_end
    }

    /// Whether a frame is to come to us a second time.
    pub(super) fn is_on_its_way(&self, header: &RelayHeader) -> bool {
        header.source == self.me
            || header
                .path
                .is_some_and(|path| path.members().contains(&self.me))
    }

    /// The most links of a way.
    pub(super) fn max_hops(&self) -> u8 {
        self.config.map_or(0, |config| config.max_hops)
    }

    /// Whether we carry for others.
    pub(super) fn carries(&self) -> bool {
        self.config.is_some_and(|config| config.carries)
    }

    /// Where a frame of that neighbour goes next, by our table.
    pub(super) fn carried_on(&self, from: Option<u32>, destination: u32) -> NextHop {
        let router = self.router.as_ref().zip(from);
        let router = router.filter(|(router, from)| router.carries_for(*from));
        router.map_or(NextHop::None, |(router, _)| router.next_hop(destination))
    }

    /// A frame of that source for that destination could not be sent on to `next`.
    pub(super) fn path_failed(&mut self, (source, destination, to): (u32, u32, u32), now: Instant) {
        let error = PathError {
            source,
            destination,
            from: self.me,
            to,
        };
        if let Some(router) = &mut self.router {
            router.handle_path_error(&error, now);
        }
    }

    /// Whether anything is routed.
    pub(super) fn is_on(&self) -> bool {
        self.router.is_some()
    }

    /// Whether that peer is a neighbour.
    pub(super) fn is_tied(&self, index: PeerIdx) -> bool {
        self.ties.contains_key(&index)
    }

    /// How many neighbours there are.
    pub(super) fn count(&self) -> usize {
        self.ties.len()
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let router = self.router.as_ref()?;
        let hellos = self.ties.values().map(|tie| tie.hello);
        let due = [router.poll_timeout(), self.topology.due()];
        hellos.chain(due).min()
    }

    /// Somebody is a member, or none any more, or has another number.
    pub(super) fn members_changed(&mut self) {
        self.members_changed = true;
    }

    /// A peer is gone, and another one may get its place.
    pub(super) fn forget(&mut self, index: PeerIdx) {
        self.topology.forget(index);
        self.riders.remove(&index);
        self.stranded.remove(&index);
        self.members_changed = true;
    }

    /// The peer's link is this one now.
    pub(super) fn rides(&mut self, index: PeerIdx, link: Route) {
        if link.is_over_mesh() {
            self.riders.insert(index);
        }
    }

    /// Whether neighbours other than the member itself carry what goes to it.
    pub(super) fn has_way(&self, member: u32) -> bool {
        let next = self.router.as_ref().map(|router| router.next_hop(member));
        next.is_some_and(|next| next != NextHop::None && next != NextHop::Neighbour(member))
    }
}

impl Node {
    /// The first neighbour on the way to a member, and what stands before messages that take it.
    pub(super) fn first_hop(&self, member: IpAddr) -> Option<(PeerIdx, RelayHeader)> {
        let IpAddr::V4(address) = member else {
            return None;
        };
        let (router, config) = self.mesh.router.as_ref().zip(self.mesh.config)?;
        let destination = address.to_bits();
        let (next, path) = match router.next_hop(destination) {
            NextHop::Neighbour(next) => (next, None),
            NextHop::Path(path) => {
                let (next, rest) = path.next(destination);
                (next, Some(rest))
            }
            NextHop::None => return None,
        };
        let header = RelayHeader {
            hop_limit: config.max_hops,
            source: self.mesh.me,
            destination,
            // It only has to be another one each time for as long as somebody may complain.
            frame: self.counters.moved as u32,
            path,
        };
        Some((self.lan.owner(address_of(next))?, header))
    }

    /// The number of a peer. One that names the address of another has none.
    pub(super) fn member_of(&self, index: PeerIdx) -> Option<u32> {
        let member = self.peers.get(index)?.member()?;
        (self.lan.owner(address_of(member)) == Some(index)).then_some(member)
    }

    /// Tells the router who is a member, if that has changed.
    pub(super) fn route_members(&mut self, now: Instant) {
        if !std::mem::take(&mut self.mesh.members_changed) || self.mesh.router.is_none() {
            return;
        }
        let all = self.peers.iter();
        let members = all.filter_map(|(index, _)| self.member_of(index));
        let members = members.map(|member| (member, true)).collect();
        if let Some(router) = &mut self.mesh.router {
            router.set_members(members, now);
        }
    }

    /// Does what is due for routing.
    pub(super) fn drive_mesh(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        if self.mesh.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        self.greet_neighbours(now, transmit);
        self.drive_topology(now);
        if let Some(router) = &mut self.mesh.router {
            router.handle_timeout(now);
        }
        while let Some((to, message)) = self.mesh.router.as_mut().and_then(|r| r.poll_message(now))
        {
            if let Some(index) = self.lan.owner(address_of(to)) {
                let message = message.encode().into();
                let packet = Carrier::Routing { message }.encode();
                self.send_inner(index, &packet, now, transmit);
            }
        }
        self.review_riders(now, transmit);
    }

    /// What routes mean for peers without a path of their own.
    fn review_riders(&mut self, now: Instant, transmit: &mut TransmitQueue) {
        for index in std::mem::take(&mut self.mesh.stranded) {
            if self.ride(index, now) {
                self.nudge(index, now, transmit);
            }
            self.flush_pending(index, now, transmit);
            let peer = self.peers.get(index);
            if peer.is_some_and(|peer| peer.is_carried() && !peer.pending.is_empty()) {
                self.mesh.stranded.insert(index);
            }
        }
        let riders: Vec<PeerIdx> = self.mesh.riders.iter().copied().collect();
        for index in riders {
            let rides = self.peers.get(index).is_some_and(Peer::is_carried);
            let member = self.member_of(index);
            if !rides {
                self.mesh.riders.remove(&index);
            } else if !member.is_some_and(|member| self.mesh.has_way(member)) {
                self.leave_mesh(index);
            }
        }
    }

    /// Nobody carries any more what goes to a peer. A search for a path goes on, and what waits is kept for whoever carries next.
    pub(super) fn leave_mesh(&mut self, index: PeerIdx) {
        self.mesh.riders.remove(&index);
        let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.is_carried()) else {
            return;
        };
        peer.link = None;
        if peer.state == State::Connected {
            peer.state = State::Idle;
        }
        if !peer.pending.is_empty() {
            self.mesh.stranded.insert(index);
        }
        let node = peer.node_id;
        self.events.push_back(Event::Disconnected { node });
    }

    /// A packet was kept although a peer is reached over neighbours: the first of them is not, just now.
    pub(super) fn is_stranded(&mut self, index: PeerIdx) {
        if self.peers.get(index).is_some_and(Peer::is_carried) {
            self.mesh.stranded.insert(index);
        }
    }

    /// The neighbour that carries what goes to a peer, if one does.
    pub(super) fn carrier_of(&self, index: PeerIdx) -> Option<PeerIdx> {
        let link = self.peers.get(index)?.link?;
        let (next, _) = self
            .first_hop(link.dst.ip())
            .filter(|_| link.is_over_mesh())?;
        (next != index).then_some(next)
    }

    /// A path carries nothing any more: takes the way over neighbours in its place, if there is one. Returns whether it does.
    pub(super) fn swerve(&mut self, index: PeerIdx, now: Instant) -> bool {
        self.untie(index, now);
        let Some(peer) = self.peers.get_mut(index) else {
            return false;
        };
        let Some(link) = peer.link.filter(|link| !link.is_over_mesh()) else {
            return false;
        };
        peer.link = None;
        let rides = self.ride(index, now);
        if let Some(peer) = self.peers.get_mut(index).filter(|_| !rides) {
            peer.link = Some(link);
        }
        rides
    }

    /// Takes the way over neighbours to a peer without a path, if there is one. Returns whether it does.
    pub(super) fn ride(&mut self, index: PeerIdx, now: Instant) -> bool {
        let member = self.member_of(index);
        let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.link.is_none()) else {
            return false;
        };
        let Some(member) = member.filter(|_| self.mesh.router.is_some()) else {
            return false;
        };
        if !self.mesh.has_way(member) {
            if !peer.pending.is_empty() {
                self.mesh.stranded.insert(index);
            }
            return false;
        }
        let way = Route::over_mesh(address_of(member));
        peer.link = Some(way);
        peer.detour.moved(way, now);
        peer.traffic.watch.begin(peer.traffic.volume());
        peer.has_link();
        self.mesh.riders.insert(index);
        if let Some(peer) = self
            .peers
            .get(index)
            .filter(|peer| peer.session.is_established(now))
        {
            let node = peer.node_id;
            let endpoint = None;
            self.events.push_back(Event::Connected {
                node,
                endpoint,
                relayed: false,
            });
        }
        self.follow_path(index, now);
        self.schedule(index);
        true
    }
}

/// A newer sequence number at each start: it moves on four times a second, faster than requests count it up.
fn seqno_at(unix_time: Duration) -> u16 {
    ((unix_time.as_millis() / 250) & 0xffff) as u16
}
