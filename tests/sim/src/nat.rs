//! What does a NAT do to a datagram? Mapping, filtering and expiry in the words of RFC 4787.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

/// Of the remote end, what a mapping or a filter looks at (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// Nothing: EIM or EIF.
    EndpointIndependent,
    /// Its address: ADM or ADF.
    AddressDependent,
    /// Its address and port: APDM or APDF.
    AddressAndPortDependent,
}

impl Dependence {
    /// Two remote ends with the same key are treated alike.
    fn key(self, remote: SocketAddr) -> Option<(IpAddr, u16)> {
        match self {
            Self::EndpointIndependent => None,
            Self::AddressDependent => Some((remote.ip(), 0)),
            Self::AddressAndPortDependent => Some((remote.ip(), remote.port())),
        }
    }
}

/// What a NAT is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// When two destinations share an external port.
    pub mapping: Dependence,
    /// Which remote ends may send to it.
    pub filtering: Dependence,
    /// How long a mapping lives after the last datagram from inside.
    pub expiry: Duration,
    /// Whether it takes the port of the inside while that is free (section 4.2.1); else ports are random.
    pub preserves_port: bool,
    /// Whether it remembers packets that nobody inside asked for, as Linux does with those that it does not refuse: to
    /// their sender the inside's port is then taken, and what the inside sends there leaves from another one.
    pub leaky: bool,
}

impl Behaviour {
    /// A NAT of this mapping and filtering with ordinary timers: 120 s (REQ-5 asks for no less).
    pub const fn new(mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            mapping,
            filtering,
            expiry: Duration::from_secs(120),
            preserves_port: matches!(mapping, Dependence::EndpointIndependent),
            leaky: false,
        }
    }

    /// As it is, but leaky.
    pub const fn leaky(self) -> Self {
        Self {
            leaky: true,
            ..self
        }
    }
}

/// How long an unasked packet is remembered: `nf_conntrack_udp_timeout`.
const UNASKED: Duration = Duration::from_secs(30);

type MappingKey = (SocketAddr, Option<(IpAddr, u16)>);

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    last_outbound: Instant,
    /// Whom the inside has sent to, by the filter's key, and when.
    permitted: BTreeMap<Option<(IpAddr, u16)>, Instant>,
}

/// A NAT with its tables. It does not hairpin: what comes from inside for its own external address is dropped.
#[derive(Debug)]
pub struct Nat {
    behaviour: Behaviour,
    external: IpAddr,
    ports: BTreeMap<MappingKey, u16>,
    mappings: BTreeMap<u16, Mapping>,
    /// Who sent what nobody asked for to which port, and when, if the NAT is leaky.
    unasked: BTreeMap<(SocketAddr, u16), Instant>,
    /// The host inside that gets what no mapping is for.
    exposed: Option<IpAddr>,
    /// Added to the port that would be preserved, so that a rebinding shows.
    shift: u16,
}

impl Nat {
    /// An empty NAT with this external address.
    pub fn new(behaviour: Behaviour, external: IpAddr) -> Self {
        Self {
            behaviour,
            external,
            ports: BTreeMap::new(),
            mappings: BTreeMap::new(),
            unasked: BTreeMap::new(),
            exposed: None,
            shift: 0,
        }
    }

    /// Gives the external address to one host, as a cloud does with an elastic address.
    pub fn expose(&mut self, inside: IpAddr) {
        self.exposed = Some(inside);
    }

    /// Its address on the outside.
    pub fn external(&self) -> IpAddr {
        self.external
    }

    /// Translates the source of a datagram from inside.
    pub fn outbound(
        &mut self,
        now: Instant,
        inside: SocketAddr,
        remote: SocketAddr,
        rng: &mut impl Rng,
    ) -> SocketAddr {
        self.forget_expired(now);
        let key = self.key(inside, remote);
        let port = match self.ports.get(&key) {
            Some(port) => *port,
            None => self.allocate(key, rng),
        };
        let filter = self.behaviour.filtering.key(remote);
        let mapping = self.mappings.entry(port).or_insert_with(|| Mapping {
            inside,
            last_outbound: now,
            permitted: BTreeMap::new(),
        });
        mapping.last_outbound = now;
        mapping.permitted.insert(filter, now);
        SocketAddr::new(self.external, port)
    }

    /// Where a datagram from outside to one of our ports goes, if anywhere.
    pub fn inbound(&mut self, now: Instant, remote: SocketAddr, port: u16) -> Option<SocketAddr> {
        self.forget_expired(now);
        let filter = self.behaviour.filtering.key(remote);
        let mapping = self.mappings.get(&port);
        if let Some(mapping) = mapping.filter(|it| it.permitted.contains_key(&filter)) {
            return Some(mapping.inside);
        }
        if self.behaviour.leaky {
            self.unasked.insert((remote, port), now);
        }
        self.exposed.map(|inside| SocketAddr::new(inside, port))
    }

    /// A restart: all mappings are gone and new ones have other ports, and another address if one is given.
    pub fn rebind(&mut self, external: Option<IpAddr>) {
        self.ports.clear();
        self.mappings.clear();
        self.unasked.clear();
        self.shift = self.shift.wrapping_add(1000);
        self.external = external.unwrap_or(self.external);
    }

    /// Which destinations share a port with this one.
    fn key(&self, inside: SocketAddr, remote: SocketAddr) -> MappingKey {
        let shared = (inside, self.behaviour.mapping.key(remote));
        let own = (inside, Dependence::AddressAndPortDependent.key(remote));
        let port = self.ports.get(&shared);
        let taken = port.is_some_and(|port| self.unasked.contains_key(&(remote, *port)));
        if taken || self.ports.contains_key(&own) {
            own
        } else {
            shared
        }
    }

    fn allocate(&mut self, key: MappingKey, rng: &mut impl Rng) -> u16 {
        let mut port = if self.behaviour.preserves_port {
            key.0.port().wrapping_add(self.shift).max(1024)
        } else {
            rng.random_range(1024..=u16::MAX)
        };
        while self.mappings.contains_key(&port) {
            port = port.wrapping_add(1).max(1024);
        }
        self.ports.insert(key, port);
        port
    }

    fn forget_expired(&mut self, now: Instant) {
        let expiry = self.behaviour.expiry;
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < expiry;
        self.mappings
            .retain(|_, mapping| fresh(&mapping.last_outbound));
        for mapping in self.mappings.values_mut() {
            mapping.permitted.retain(|_, at| fresh(at));
        }
        self.ports
            .retain(|_, port| self.mappings.contains_key(port));
        self.unasked
            .retain(|_, at| now.saturating_duration_since(*at) < UNASKED);
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::{
        Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent},
        *,
    };

    fn at(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, last], port))
    }

    fn inside() -> SocketAddr {
        SocketAddr::from(([192, 168, 1, 10], 7081))
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> (Nat, ChaCha8Rng) {
        let external = IpAddr::from([203, 0, 113, 1]);
        let nat = Nat::new(Behaviour::new(mapping, filtering), external);
        (nat, ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn destinations_share_a_port_as_far_as_the_mapping_allows() {
        let now = Instant::now();
        for (mapping, shared) in [
            (EndpointIndependent, [true, true]),
            (AddressDependent, [true, false]),
            (AddressAndPortDependent, [false, false]),
        ] {
            let (mut nat, mut rng) = nat(mapping, EndpointIndependent);
            let first = nat.outbound(now, inside(), at(1, 1), &mut rng);
            let same =
                [at(1, 2), at(2, 1)].map(|to| nat.outbound(now, inside(), to, &mut rng) == first);
            assert_eq!(same, shared, "{mapping:?}");
            assert_eq!(nat.outbound(now, inside(), at(1, 1), &mut rng), first);
        }
    }

    #[test]
    fn strangers_get_in_as_far_as_the_filter_allows() {
        let now = Instant::now();
        for (filtering, enters) in [
            (EndpointIndependent, [true, true, true]),
            (AddressDependent, [true, true, false]),
            (AddressAndPortDependent, [true, false, false]),
        ] {
            let (mut nat, mut rng) = nat(EndpointIndependent, filtering);
            assert_eq!(nat.inbound(now, at(1, 1), 7081), None);
            let outside = nat.outbound(now, inside(), at(1, 1), &mut rng);
            let got = [at(1, 1), at(1, 2), at(2, 1)]
                .map(|from| nat.inbound(now, from, outside.port()) == Some(inside()));
            assert_eq!(got, enters, "{filtering:?}");
        }
    }

    #[test]
    fn a_leaky_nat_maps_elsewhere_towards_whoever_came_unasked() {
        let now = Instant::now();
        for leaky in [false, true] {
            let (mut nat, mut rng) = nat(EndpointIndependent, AddressAndPortDependent);
            nat.behaviour.leaky = leaky;
            let first = nat.outbound(now, inside(), at(1, 1), &mut rng);
            assert_eq!(nat.inbound(now, at(2, 2), first.port()), None);
            let second = nat.outbound(now, inside(), at(2, 2), &mut rng);
            assert_eq!(second != first, leaky);
            assert_eq!(nat.inbound(now, at(2, 2), second.port()), Some(inside()));
            let other = nat.outbound(now, inside(), at(3, 3), &mut rng);
            assert_eq!(other, first, "others are not concerned");
        }
    }

    #[test]
    fn an_exposed_host_gets_what_no_mapping_is_for() {
        let now = Instant::now();
        let (mut nat, _) = nat(EndpointIndependent, EndpointIndependent);
        nat.expose(inside().ip());
        assert_eq!(nat.inbound(now, at(1, 1), 7081), Some(inside()));
    }

    #[test]
    fn a_mapping_dies_without_outbound_traffic_and_with_a_restart() {
        let now = Instant::now();
        let (mut nat, mut rng) = nat(EndpointIndependent, AddressAndPortDependent);
        let outside = nat.outbound(now, inside(), at(1, 1), &mut rng);
        let later = now + Duration::from_secs(119);
        assert!(nat.inbound(later, at(1, 1), outside.port()).is_some());
        let too_late = now + Duration::from_secs(120);
        assert_eq!(nat.inbound(too_late, at(1, 1), outside.port()), None);
        nat.outbound(too_late, inside(), at(1, 1), &mut rng);
        nat.rebind(None);
        assert_eq!(nat.inbound(too_late, at(1, 1), outside.port()), None);
        let moved = nat.outbound(too_late, inside(), at(1, 1), &mut rng);
        assert_ne!(moved.port(), outside.port());
    }
}
