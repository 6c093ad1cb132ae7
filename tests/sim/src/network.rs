//! Which way does a datagram take between hosts, through the NATs on both sides?

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use mesh_wire::frame::{Frame, classify};
use rand::{Rng, RngExt as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    nat::{Behaviour, Nat},
    sockets::Sockets,
};

/// A host's place in the list of all hosts.
pub type HostId = usize;
/// A NAT's place in the list of all NATs.
pub type NatId = usize;
/// A network segment: the inside of a NAT, or the Internet.
pub type Segment = Option<NatId>;

/// Who has an address on some segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A simulated host.
    Host(HostId),
    /// The server, which is on the Internet.
    Server,
}

/// A datagram that has come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// Whom it reaches.
    pub owner: Owner,
    /// The source that the receiver sees.
    pub source: SocketAddr,
    /// The destination as the receiver knows its own address.
    pub destination: SocketAddr,
}

/// What becomes of datagrams from one host to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Between {
    /// They pass.
    Open,
    /// None passes.
    Blocked,
    /// This share vanishes, 0 to 1.
    Lossy(f64),
    /// Those of one host vanish.
    Deaf(HostId),
    /// What is not STUN vanishes.
    ChecksOnly,
    /// STUN vanishes.
    NoChecks,
}

impl Between {
    /// Whether a datagram of this host vanishes.
    pub fn swallows(self, from: HostId, bytes: &[u8], rng: &mut impl Rng) -> bool {
        let is_stun = classify(bytes) == Frame::Stun;
        match self {
            Self::Open => false,
            Self::Blocked => true,
            Self::Lossy(share) => rng.random_bool(share),
            Self::Deaf(host) => host == from,
            Self::ChecksOnly => !is_stun,
            Self::NoChecks => is_stun,
        }
    }
}

/// Routers between two customers of the Internet, unless a scenario says otherwise. The customers' own NATs are
/// routers too.
const INTERNET_HOPS: u8 = 3;
/// The hop limit that systems give to packets.
pub const HOP_LIMIT: u8 = 64;

#[derive(Debug)]
struct Gateway {
    nat: Nat,
    outside: Segment,
}

/// All NATs, and who is where.
#[derive(Debug)]
pub struct Network {
    nats: Vec<Gateway>,
    addresses: Vec<(Segment, SocketAddr, Owner)>,
    /// Routers between two customers of the Internet.
    pub internet_hops: u8,
    /// Pairs of hosts, the lesser first, between which nothing passes.
    pub apart: BTreeSet<(HostId, HostId)>,
    /// The server's address, where it has more than one port.
    server: Option<IpAddr>,
    /// Those that hosts have beside the mesh's own.
    pub(crate) sockets: Sockets,
}

impl Network {
    /// An Internet with nothing but the server.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            nats: Vec::new(),
            addresses: vec![(None, server, Owner::Server)],
            internet_hops: INTERNET_HOPS,
            apart: BTreeSet::new(),
            server: None,
            sockets: Sockets::default(),
        }
    }

    /// Whether nothing passes between two hosts.
    pub fn are_apart(&self, a: HostId, b: HostId) -> bool {
        self.apart.contains(&(a.min(b), a.max(b)))
    }

    /// All ports of this address are the server's from now on.
    pub fn serve_ports_of(&mut self, server: IpAddr) {
        self.server = Some(server);
    }

    /// Adds a NAT whose outside is on `outside`.
    pub fn add_nat(&mut self, behaviour: Behaviour, outside: Segment, external: IpAddr) -> NatId {
        self.nats.push(Gateway {
            nat: Nat::new(behaviour, external),
            outside,
        });
        self.nats.len() - 1
    }

    /// The NAT.
    pub fn nat_mut(&mut self, nat: NatId) -> &mut Nat {
        &mut self.nats[nat].nat
    }

    /// Gives an address to a host, which leaves the one that it had.
    pub fn place(&mut self, host: HostId, segment: Segment, address: SocketAddr) {
        let owner = Owner::Host(host);
        self.addresses.retain(|(_, _, other)| *other != owner);
        self.addresses.push((segment, address, owner));
    }

    /// How many hosts a segment has.
    pub fn hosts_on(&self, segment: Segment) -> usize {
        self.addresses
            .iter()
            .filter(|(on, _, owner)| *on == segment && *owner != Owner::Server)
            .count()
    }

    /// Sends a datagram from `segment` outwards until it meets the segment of its destination, then inwards. `None`
    /// if nobody is there, a NAT lets it not through or its hop limit is too low. A router that throws a packet away for
    /// that does not translate it, but one that comes from outside has been seen by then.
    pub fn route(
        &mut self,
        now: Instant,
        mut segment: Segment,
        (mut source, destination, mut hops): (SocketAddr, SocketAddr, u8),
        rng: &mut ChaCha8Rng,
    ) -> Option<Passage> {
        loop {
            if self.is_on(segment, destination.ip()) {
                if segment.is_none() {
                    hops = hops
                        .checked_sub(self.internet_hops)
                        .filter(|left| *left > 0)?;
                }
                return self.inwards(now, segment, (source, destination, hops));
            }
            hops = hops.checked_sub(1).filter(|left| *left > 0)?;
            let gateway = &mut self.nats[segment?];
            // Without hairpinning nobody inside is reached by the outside address.
            if gateway.nat.external() == destination.ip() {
                return None;
            }
            source = gateway.nat.outbound(now, source, destination, rng);
            segment = gateway.outside;
        }
    }

    fn inwards(
        &mut self,
        now: Instant,
        mut segment: Segment,
        (source, mut destination, mut hops): (SocketAddr, SocketAddr, u8),
    ) -> Option<Passage> {
        loop {
            if segment.is_none() && self.server == Some(destination.ip()) {
                return Some(Passage {
                    owner: Owner::Server,
                    source,
                    destination,
                });
            }
            let here = self.addresses.iter().find(|(on, address, owner)| {
                let has = *address == destination
                    || address.ip() == destination.ip()
                        && self.has_socket(*owner, destination.port());
                *on == segment && has
            });
            if let Some((_, _, owner)) = here {
                return Some(Passage {
                    owner: *owner,
                    source,
                    destination,
                });
            }
            let gateway = self
                .nats
                .iter()
                .position(|b| b.outside == segment && b.nat.external() == destination.ip())?;
            destination = self.nats[gateway]
                .nat
                .inbound(now, source, destination.port())?;
            hops = hops.checked_sub(1).filter(|left| *left > 0)?;
            segment = Some(gateway);
        }
    }

    fn has_socket(&self, owner: Owner, port: u16) -> bool {
        matches!(owner, Owner::Host(host) if self.sockets.has(host, port))
    }

    fn is_on(&self, segment: Segment, ip: IpAddr) -> bool {
        let host =
            |(on, address, _): &(Segment, SocketAddr, Owner)| *on == segment && address.ip() == ip;
        let gateway = |b: &Gateway| b.outside == segment && b.nat.external() == ip;
        self.addresses.iter().any(host) || self.nats.iter().any(gateway)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::oracle::Place;

    fn at(ip: [u8; 4]) -> SocketAddr {
        SocketAddr::from((ip, 7081))
    }

    #[test]
    fn a_datagram_crosses_two_nats_and_its_answer_finds_back() {
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let server = at([198, 51, 100, 2]);
        let mut network = Network::new(server);
        let [home, carrier] = Place::Cgnat.nats()[..] else {
            panic!("two NATs")
        };
        let outer = network.add_nat(carrier, None, [203, 0, 113, 1].into());
        let inner = network.add_nat(home, Some(outer), [100, 64, 0, 1].into());
        let host = at([192, 168, 1, 10]);
        network.place(0, Some(inner), host);
        let out = network
            .route(now, Some(inner), (host, server, HOP_LIMIT), &mut rng)
            .unwrap();
        assert_eq!(out.owner, Owner::Server);
        assert_eq!(out.source, at([203, 0, 113, 1]));
        let back = network
            .route(now, None, (server, out.source, HOP_LIMIT), &mut rng)
            .unwrap();
        assert_eq!(back.owner, Owner::Host(0));
        assert_eq!(back.destination, host);
    }

    #[test]
    fn a_low_hop_limit_opens_our_own_nat_and_does_not_reach_the_other_one() {
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let server = at([198, 51, 100, 2]);
        let mut network = Network::new(server);
        let nats = [1, 2].map(|last| {
            let behaviour = Place::Leaky.nats()[0];
            network.add_nat(behaviour, None, [203, 0, 113, last].into())
        });
        let hosts = [0, 1].map(|number| {
            let host = at([192, 168, 1, 10]);
            network.place(number, Some(nats[number]), host);
            host
        });
        let seen = [0, 1].map(|number| {
            let path = (hosts[number], server, HOP_LIMIT);
            let passage = network.route(now, Some(nats[number]), path, &mut rng);
            passage.unwrap().source
        });
        for hops in 1..=4 {
            let shot = (hosts[0], seen[1], hops);
            assert_eq!(network.route(now, Some(nats[0]), shot, &mut rng), None);
        }
        let check = (hosts[1], seen[0], HOP_LIMIT);
        let passage = network.route(now, Some(nats[1]), check, &mut rng).unwrap();
        assert_eq!(passage.owner, Owner::Host(0));
        assert_eq!(passage.source, seen[1]);
    }

    #[test]
    fn an_outside_address_is_not_reached_from_inside() {
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let server = at([198, 51, 100, 2]);
        let mut network = Network::new(server);
        let nat = network.add_nat(Place::FullCone.nats()[0], None, [203, 0, 113, 1].into());
        let hosts = [at([192, 168, 1, 10]), at([192, 168, 1, 11])];
        network.place(0, Some(nat), hosts[0]);
        network.place(1, Some(nat), hosts[1]);
        assert_eq!(network.hosts_on(Some(nat)), 2);
        let seen = network
            .route(now, Some(nat), (hosts[0], server, HOP_LIMIT), &mut rng)
            .unwrap()
            .source;
        assert_eq!(
            network.route(now, Some(nat), (hosts[1], seen, HOP_LIMIT), &mut rng),
            None
        );
        let beside = network
            .route(now, Some(nat), (hosts[1], hosts[0], HOP_LIMIT), &mut rng)
            .unwrap();
        assert_eq!(beside.owner, Owner::Host(0));
    }
}
