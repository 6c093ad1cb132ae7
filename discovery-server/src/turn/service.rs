//! Who carries out what [`Machine`] decides?

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_wire::{NodeId, discovery::TurnAccess};
use platform::net::addresses;

use super::{
    Client, Moment, REALM, Transport,
    credential::Issuer,
    limits::Limits,
    machine::{Machine, Step},
    message,
    nonce::Nonces,
    outlet::Outlet,
    policy::Policy,
    quota::Quotas,
    relayed::{self, Relayed},
    requests::Grant,
};
use crate::{TurnConfig, membership::now, metrics::turn::TurnMetrics};

/// How late an allocation ends: a member that was put out has its packets relayed for no longer.
const SWEEP: Duration = Duration::from_secs(1);

/// How long an address is the host's before it is known as such.
const OWN_ADDRESSES: Duration = Duration::from_secs(10);

/// What became of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// It is none of TURN's.
    Garbage,
    /// The client does not take its answers.
    Stuck,
}

/// The relay of a running server.
#[derive(Debug)]
pub(crate) struct Turn {
    issuer: Arc<Issuer>,
    pub(crate) metrics: Arc<TurnMetrics>,
    machine: Mutex<Machine<Arc<Relayed>>>,
    /// Where the server listens; unspecified when everywhere.
    listen: SocketAddr,
    /// What clients are told instead of the host's own address.
    public_ip: Option<IpAddr>,
}

impl Turn {
    /// Without allocations. Fails if there are no random numbers or the host's own addresses cannot be read.
    pub(crate) async fn new(
        issuer: Arc<Issuer>,
        config: TurnConfig,
        listen: SocketAddr,
        public_ip: Option<IpAddr>,
        limits: Limits,
    ) -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let metrics = Arc::new(TurnMetrics::default());
        let machine = Machine::new(
            Arc::clone(&issuer),
            Nonces::new(key),
            Policy::new(config.allow_private_peers),
            Quotas::new(limits.allocations, config.bytes_per_second),
            Arc::clone(&metrics),
        );
        let turn = Self {
            issuer,
            metrics,
            machine: Mutex::new(machine),
            listen: message::canonical(listen),
            public_ip,
        };
        turn.learn_own_addresses().await?;
        Ok(turn)
    }

    /// When a member that was told how to use it is told again.
    pub(crate) fn renewal(&self) -> Duration {
        self.issuer.renewal()
    }

    /// What a member is handed.
    pub(crate) fn access(&self, node: NodeId) -> TurnAccess {
        let credential = self.issuer.mint(node, now());
        TurnAccess {
            username: credential.username,
            password: credential.password,
            realm: REALM.to_owned(),
            expires_at: credential.expires_at,
            udp_port: Some(self.listen.port()),
            tcp_port: Some(self.listen.port()),
            websocket: true,
        }
    }

    /// Takes a message of a client, and answers it or relays what is in it.
    pub(crate) fn receive(
        self: &Arc<Self>,
        bytes: &[u8],
        client: Client,
        outlet: &Outlet,
    ) -> Taken {
        let moment = moment();
        let mut machine = self.machine();
        let step = match machine.receive(bytes, client, moment) {
            Step::Bind(grant) => {
                let allocation = (client, machine.next_id());
                let bound = self.bind(&machine, &grant);
                let bound = bound.map(|(socket, told)| {
                    let outlet = outlet.clone();
                    (relayed::open(self, allocation, socket, outlet), told)
                });
                machine.bound(*grant, bound, moment)
            }
            step @ (Step::Nothing
            | Step::Garbage
            | Step::Reply(_)
            | Step::Relay { .. }
            | Step::Within { .. }) => step,
        };
        drop(machine);
        match step {
            // A socket that was just handed over asks for no second one.
            Step::Nothing | Step::Bind(_) => {}
            Step::Garbage => return Taken::Garbage,
            Step::Reply(answer) if !outlet.answer(&answer) => return Taken::Stuck,
            Step::Reply(_) => {}
            Step::Relay { socket, peer, data } => {
                if let Err(reason) = socket.send(&bytes[data], peer) {
                    self.metrics.dropped(reason);
                }
            }
            Step::Within { to, from, data } => self.deliver(to, from, &[&bytes[data]]),
        }
        Taken::Yes
    }

    /// Ends what is over, for ever.
    pub(crate) async fn sweep(&self) {
        let mut learned = Instant::now();
        loop {
            tokio::time::sleep(SWEEP).await;
            self.machine().sweep(moment());
            if learned.elapsed() >= OWN_ADDRESSES {
                learned = Instant::now();
                if let Err(error) = self.learn_own_addresses().await {
                    tracing::warn!(%error, "TURN goes on with the addresses this host had before");
                }
            }
        }
    }

    /// Ends the allocation of a client, if it has one.
    pub(crate) fn end(&self, client: Client) {
        self.machine().end(client);
    }

    /// Ends all allocations.
    pub(crate) fn end_all(&self) {
        self.machine().end_all();
    }

    /// Whether a client has an allocation.
    pub(crate) fn has(&self, client: Client) -> bool {
        self.machine().has(client)
    }

    /// How many allocations there are.
    pub(crate) fn allocations(&self) -> usize {
        self.machine().len()
    }

    /// A socket for a client, and the address that the client is told; or the code that it is refused with.
    fn bind(
        &self,
        machine: &Machine<Arc<Relayed>>,
        grant: &Grant,
    ) -> Result<(tokio::net::UdpSocket, SocketAddr), u16> {
        let ip = self.relayed_ip(grant.ipv6, grant.client).ok_or(440_u16)?;
        let told = self
            .public_ip
            .filter(|public| public.is_ipv6() == grant.ipv6)
            .unwrap_or(ip);
        let is_free = |port| {
            let fits = !grant.even || port % 2 == 0;
            fits && machine.other(SocketAddr::new(told, port)).is_none()
        };
        let socket = relayed::bind(ip, is_free).map_err(|error| {
            tracing::warn!(%error, %ip, "no relayed address could be bound");
            508_u16
        })?;
        let port = socket.local_addr().map_err(|_| 508_u16)?.port();
        Ok((socket, SocketAddr::new(told, port)))
    }

    /// The address of ours to relay from: where we listen, or the one that the client itself, else the Internet, is
    /// reached from. A client in a WebSocket may be known by its proxy on this very host, so there the Internet comes first.
    fn relayed_ip(&self, ipv6: bool, client: Client) -> Option<IpAddr> {
        let listen = self.listen.ip();
        if !listen.is_unspecified() {
            return (listen.is_ipv6() == ipv6).then_some(listen);
        }
        // Addresses of documentation: any route that leads out leads there too. Nothing is sent.
        let out: IpAddr = match ipv6 {
            true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            false => Ipv4Addr::new(192, 0, 2, 1).into(),
        };
        let ip = client.address.ip().to_canonical();
        let client_first = match client.transport {
            Transport::Udp | Transport::Tcp => true,
            Transport::WebSocket(_) => false,
        };
        let mut towards = vec![out];
        if ip.is_ipv6() == ipv6 {
            towards.insert(usize::from(!client_first), ip);
        }
        let mut sources = towards.into_iter().map(addresses::source_towards);
        sources.find_map(Result::ok)
    }

    async fn learn_own_addresses(&self) -> io::Result<()> {
        let own = addresses::own_addresses().await.map_err(io::Error::other)?;
        let ours = [self.listen.ip()]
            .into_iter()
            .chain(self.public_ip)
            .chain([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        self.machine().set_own(own.into_iter().chain(ours));
        Ok(())
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine<Arc<Relayed>>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn moment() -> Moment {
    Moment {
        instant: Instant::now(),
        unix: now(),
    }
}
