//! Does the router let peers in at our UDP port? Asks the default gateway for a mapping by PCP, NAT-PMP or UPnP, keeps
//! it, tells the data plane where it leads to us, and gives it back at the end.

mod announcements;
mod belief;
mod lease;
mod upnp;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::pcp::Nonce;
use mesh_core::{Command, Reflexive};
use platform::net::{addresses, gateway};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{announcements::Announcements, lease::Lease};
use crate::{
    dataplane::{Commands, DataPlane},
    prepare::Prepared,
    status::{PortMappingState, PortMappingStatus},
};

pub use lease::Failure;

/// For how long a mapping is asked. It outlives a crash by this much at most; RFC 6886's two hours would fill the tables
/// of small routers with ports of programs that are gone.
pub const LEASE: Duration = Duration::from_secs(600);
/// A router that was restarted has forgotten the mapping, and few say so: it is asked this often, and at half of the time
/// that it grants.
const RENEW: Duration = Duration::from_secs(60);
/// RFC 6887 section 11.2.1: no more often than that, whatever lifetime the router grants.
const LEAST_RENEW: Duration = Duration::from_secs(4);
/// The pause after a router said nothing or no; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest of these pauses. A change of the host's network asks at once.
const LAST_PAUSE: Duration = Duration::from_secs(1800);
/// How long giving back may take: the daemon is on its way out.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Asks for our ports, and keeps them.
pub struct PortMapper {
    ports: Vec<u16>,
    /// The mesh's own: no way to a router.
    interface: String,
    nonce: Nonce,
    moved: watch::Receiver<u64>,
    commands: Commands,
    status: watch::Sender<PortMappingStatus>,
}

/// Whom to ask, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The default gateway: the only host that is ever asked.
    pub gateway: Ipv4Addr,
    /// The interface that leads there.
    pub interface: String,
    /// Our address there.
    pub client: Ipv4Addr,
}

impl Place {
    /// Where we are now; `None` without an IPv4 gateway. `ignore` is the mesh's own interface.
    pub async fn here(ignore: &str) -> Option<Self> {
        let gateways = gateway::default_gateways(ignore).await;
        let gateways = gateways.inspect_err(|error| tracing::debug!(%error, "no default gateway"));
        gateways.ok()?.into_iter().find_map(|gateway| {
            let IpAddr::V4(address) = gateway.address else {
                return None;
            };
            match addresses::source_towards(gateway.address) {
                Ok(IpAddr::V4(client)) => Some(Self {
                    gateway: address,
                    interface: gateway.interface,
                    client,
                }),
                Ok(IpAddr::V6(_)) | Err(_) => None,
            }
        })
    }
}

/// Why the loop goes on.
enum Wake {
    Due,
    Moved,
    Shutdown,
}

impl PortMapper {
    /// Starts it, unless the configuration says no; returns what becomes of it. `moved` rises when the host's addresses
    /// change.
    pub fn start(
        prepared: &Prepared,
        plane: &DataPlane,
        moved: watch::Receiver<u64>,
        (tasks, shutdown): (&TaskTracker, &CancellationToken),
    ) -> watch::Receiver<PortMappingStatus> {
        let status = watch::Sender::<PortMappingStatus>::default();
        let told = status.subscribe();
        if !prepared.settings.connection.port_mapping {
            status.send_modify(|status| status.state = PortMappingState::Off);
            return told;
        }
        let mapper = Self {
            ports: plane.commands.ports(),
            interface: plane.interface.clone(),
            nonce: nonce(prepared.identity.wireguard_secret()),
            moved,
            commands: plane.commands.clone(),
            status,
        };
        tasks.spawn(mapper.run(shutdown.clone()));
        told
    }

    /// Runs until `shutdown`, and gives back what it has then.
    async fn run(mut self, shutdown: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        let mut held: Option<(Place, Vec<Lease>)> = None;
        let mut announcements = None;
        loop {
            self.moved.mark_unchanged();
            let here = Place::here(&self.interface).await;
            if held.as_ref().map(|(place, _)| place) != here.as_ref() {
                // A router that we have left cannot be told; what it maps ends by itself.
                held = None;
                announcements = match &here {
                    Some(place) => Announcements::listen(place).await,
                    None => None,
                };
            }
            let wait = match here {
                None => {
                    self.tell(&[], nobody(None, "there is no IPv4 default gateway"))
                        .await;
                    // A route may come after its address, and to look for it costs nothing.
                    FIRST_PAUSE
                }
                Some(place) => {
                    let leases = held.take().map(|(_, leases)| leases).unwrap_or_default();
                    let Some(asked) = self.ask(&place, leases, &shutdown).await else {
                        return;
                    };
                    let wait = self.note(&place, &asked, &mut pause).await;
                    held = asked.ok().map(|leases| (place, leases));
                    wait
                }
            };
            match self.wake(wait, announcements.as_ref(), &shutdown).await {
                Wake::Due => {}
                Wake::Moved => pause = FIRST_PAUSE,
                Wake::Shutdown => break,
            }
        }
        if let Some((_, leases)) = held {
            release(leases).await;
        }
    }

    /// Asks for all ports; `None` at the end, with everything given back.
    async fn ask(
        &self,
        place: &Place,
        held: Vec<Lease>,
        shutdown: &CancellationToken,
    ) -> Option<Result<Vec<Lease>, Failure>> {
        let asking = ask(place, self.nonce, &self.ports, held);
        tokio::pin!(asking);
        tokio::select! {
            asked = &mut asking => Some(asked),
            () = shutdown.cancelled() => {
                give_up(asking).await;
                None
            }
        }
    }

    /// Tells of what came of asking; returns when to ask again.
    async fn note(
        &self,
        place: &Place,
        asked: &Result<Vec<Lease>, Failure>,
        pause: &mut Duration,
    ) -> Duration {
        match asked {
            Ok(leases) => {
                *pause = FIRST_PAUSE;
                self.tell(leases, mapped(place, leases)).await;
                let granted = leases.iter().map(Lease::lifetime).min().unwrap_or(LEASE);
                (granted / 2).clamp(LEAST_RENEW, RENEW)
            }
            Err(failure) => {
                let status = refused(place, failure);
                if *self.status.borrow() != status {
                    tracing::debug!(gateway = %place.gateway, %failure, "no port mapping");
                }
                self.tell(&[], status).await;
                let wait = *pause;
                *pause = (*pause * 2).min(LAST_PAUSE);
                wait
            }
        }
    }

    async fn tell(&self, leases: &[Lease], status: PortMappingStatus) {
        let mappings = leases.iter().map(Lease::mapping).collect();
        let command = Command::SetPortMappings(mappings);
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the data plane ended before it was told of a mapped port");
        }
        self.status.send_if_modified(|known| {
            let news = known.state != status.state || known.external != status.external;
            if news && let Some(external) = status.external {
                tracing::info!(%external, protocol = ?status.protocol, "the router maps our port");
            }
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    async fn wake(
        &mut self,
        wait: Duration,
        announcements: Option<&Announcements>,
        shutdown: &CancellationToken,
    ) -> Wake {
        let announced = async {
            match announcements {
                Some(announcements) => announcements.heard().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep(wait) => Wake::Due,
            () = announced => Wake::Due,
            Ok(()) = self.moved.changed() => Wake::Moved,
            () = shutdown.cancelled() => Wake::Shutdown,
        }
    }
}

/// Asks `place` for all ports, renewing what is held already. All of them, or none.
async fn ask(
    place: &Place,
    nonce: Nonce,
    ports: &[u16],
    held: Vec<Lease>,
) -> Result<Vec<Lease>, Failure> {
    let mut leases = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let Some(port) = NonZeroU16::new(*port) else {
            continue;
        };
        let renewed = match held.get(number) {
            Some(lease) => lease.renew(place).await,
            None => Lease::obtain(place, nonce, port).await,
        };
        // A router that was replaced may speak another protocol.
        let lease = match renewed {
            Err(_) if held.get(number).is_some() => Lease::obtain(place, nonce, port).await,
            other => other,
        };
        match lease {
            Ok(lease) => leases.push(lease),
            Err(failure) => {
                release(leases).await;
                return Err(failure);
            }
        }
    }
    Ok(leases)
}

/// At the end, what is under way may have made a mapping, which is given back like any other.
async fn give_up(asking: impl Future<Output = Result<Vec<Lease>, Failure>>) {
    // Else there is no mapping, or one that ends by itself.
    if let Ok(Ok(leases)) = timeout(RELEASE_TIMEOUT, asking).await {
        release(leases).await;
    }
}

/// Proves to a PCP server that a mapping is ours (RFC 6887 section 11.2). Always the same, or a daemon that was killed and
/// started again would be refused its own port until the lease has ended. Nobody can tell the key from it.
fn nonce(secret: &[u8; 32]) -> Nonce {
    let derived = blake3::derive_key("meshd PCP mapping nonce", secret);
    let word = |at: usize| {
        u32::from_be_bytes([
            derived[at],
            derived[at + 1],
            derived[at + 2],
            derived[at + 3],
        ])
    };
    [word(0), word(4), word(8)]
}

/// Gives the ports back. What does not come through in time ends with its lease.
async fn release(leases: Vec<Lease>) {
    let until = Instant::now() + RELEASE_TIMEOUT;
    for lease in leases {
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "a mapped port was not given back; it ends by itself")
            }
            Err(_) => tracing::warn!("a mapped port was not given back in time; it ends by itself"),
        }
    }
}

/// Whether the default gateway maps a port of ours: asks for one, gives it back, and says what came of it.
pub async fn probe(ignore_interface: &str, port: u16) -> PortMappingStatus {
    let Some(place) = Place::here(ignore_interface).await else {
        return nobody(None, "there is no IPv4 default gateway");
    };
    let mut random = [0; 32];
    if let Err(error) = getrandom::fill(&mut random) {
        return nobody(Some(place.gateway.into()), &error.to_string());
    }
    match ask(&place, nonce(&random), &[port], Vec::new()).await {
        Ok(leases) => {
            let status = mapped(&place, &leases);
            release(leases).await;
            status
        }
        Err(failure) => refused(&place, &failure),
    }
}

fn nobody(gateway: Option<IpAddr>, why: &str) -> PortMappingStatus {
    PortMappingStatus {
        state: PortMappingState::None,
        gateway,
        error: Some(why.to_owned()),
        ..PortMappingStatus::default()
    }
}

fn mapped(place: &Place, leases: &[Lease]) -> PortMappingStatus {
    let first = leases.first();
    PortMappingStatus {
        state: PortMappingState::Mapped,
        protocol: first.map(Lease::protocol),
        gateway: Some(place.gateway.into()),
        external: first.map(|lease| lease.mapping().mapped),
        lease_s: first.map(|lease| lease.lifetime().as_secs()),
        error: None,
    }
}

fn refused(place: &Place, failure: &Failure) -> PortMappingStatus {
    let gateway = Some(place.gateway.into());
    match failure {
        Failure::Distrusted {
            protocol, external, ..
        } => PortMappingStatus {
            state: PortMappingState::Distrusted,
            protocol: Some(*protocol),
            gateway,
            external: Some(*external),
            lease_s: None,
            error: Some(failure.to_string()),
        },
        Failure::Silent | Failure::Refused { .. } | Failure::System(_) => {
            nobody(gateway, &failure.to_string())
        }
    }
}

/// The candidate that a mapping makes.
fn reflexive(external: (Ipv4Addr, u16), place: &Place, port: u16) -> Reflexive {
    Reflexive {
        mapped: SocketAddr::from(external),
        base: SocketAddr::from((place.client, port)),
    }
}
