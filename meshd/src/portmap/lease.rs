//! Which of three protocols does the gateway understand, and how is a port asked for, kept and given back in it?

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{
    GatewayAddress, InternetProtocol::Udp, MappingFailure, PortMapping, PortMappingOptions,
    PortMappingType, TimeoutConfig, VersionCode, natpmp, pcp,
};
use mesh_core::Reflexive;

use super::{LEASE, Place, belief::doubt, reflexive, upnp::Router};
use crate::status::PortMappingProtocol;

/// The gateway is one hop away. RFC 6886 section 3.1 begins with 250 ms too; both RFCs would go on for a minute and more,
/// which the pauses between our rounds take the place of.
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The gateway answers none of the protocols.
    #[error("the router answers neither PCP nor NAT-PMP nor UPnP")]
    Silent,
    /// The gateway understands, and does not.
    #[error("the router refuses by {protocol}: {why}")]
    Refused {
        /// In which protocol.
        protocol: PortMappingProtocol,
        /// Its reason.
        why: String,
    },
    /// What the gateway says cannot be of use.
    #[error("the router maps {external} by {protocol}, but {why}")]
    Distrusted {
        /// In which protocol.
        protocol: PortMappingProtocol,
        /// What it claims.
        external: SocketAddr,
        /// What is wrong with it.
        why: &'static str,
    },
    /// This host could not ask.
    #[error("ask the router: {0}")]
    System(String),
}

/// A refusal in that protocol.
pub(super) fn refusal(protocol: PortMappingProtocol, why: &dyn fmt::Display) -> Failure {
    let why = why.to_string();
    Failure::Refused { protocol, why }
}

/// A port that the gateway maps to one of ours, for a while.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    held: Held,
    local: SocketAddrV4,
    external: (Ipv4Addr, NonZeroU16),
    mapping: Reflexive,
}

#[derive(Debug, Clone)]
enum Held {
    /// PCP or NAT-PMP, as it says itself.
    Port(Box<PortMapping>),
    Upnp(Box<Router>),
}

impl Lease {
    /// Asks for a mapping of `port`: by PCP, by NAT-PMP if the gateway says so or says nothing, else by UPnP.
    pub(super) async fn obtain(
        place: &Place,
        nonce: pcp::Nonce,
        port: NonZeroU16,
    ) -> Result<Self, Failure> {
        // Most routers that speak UPnP speak nothing else, and take a while to say so.
        let search = {
            let place = place.clone();
            tokio::spawn(async move { Router::find(&place).await })
        };
        let failure = match obtain_port(place, nonce, port).await {
            Ok(held) => {
                search.abort();
                return Self::of_port(held, place, port).await;
            }
            Err(failure) => failure,
        };
        match search.await {
            Ok(Some(router)) => Self::of_router(router, place, port, port).await,
            Ok(None) | Err(_) => Err(failure),
        }
    }

    /// Asks again for the same, which the gateway has or has forgotten.
    pub(super) async fn renew(&self, place: &Place) -> Result<Self, Failure> {
        let port = NonZeroU16::new(self.local.port()).unwrap_or(self.external.1);
        match &self.held {
            Held::Port(held) => {
                let mut renewed = held.clone();
                renewed.renew().await.map_err(|error| failure_of(&error))?;
                if has_restarted(held, &renewed) {
                    tracing::info!("the router was restarted; our port is mapped again");
                }
                Self::of_port(*renewed, place, port).await
            }
            Held::Upnp(router) => {
                Self::of_router((**router).clone(), place, port, self.external.1).await
            }
        }
    }

    /// Gives the port back.
    pub(super) async fn release(self) -> Result<(), Failure> {
        match self.held {
            Held::Port(held) => {
                let dropped = held.try_drop().await;
                dropped.map_err(|(error, _)| failure_of(&error))
            }
            Held::Upnp(router) => router.unmap(self.external.1).await,
        }
    }

    /// Where it leads from, and to.
    pub(super) fn mapping(&self) -> Reflexive {
        self.mapping
    }

    /// How long it holds without being renewed.
    pub(super) fn lifetime(&self) -> Duration {
        match &self.held {
            Held::Port(held) => Duration::from_secs(held.lifetime().into()),
            Held::Upnp(_) => LEASE,
        }
    }

    /// The protocol that it was got by.
    pub(super) fn protocol(&self) -> PortMappingProtocol {
        match &self.held {
            Held::Port(held) => protocol_of(held),
            Held::Upnp(_) => PortMappingProtocol::Upnp,
        }
    }

    async fn of_port(held: PortMapping, place: &Place, port: NonZeroU16) -> Result<Self, Failure> {
        let address = match held.mapping_type() {
            PortMappingType::Pcp { external_ip, .. } => match external_ip.to_canonical() {
                IpAddr::V4(address) => address,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            },
            PortMappingType::NatPmp => {
                let asked = natpmp::external_address(place.gateway.into(), Some(TIMEOUTS)).await;
                asked.map_err(|error| failure_of(&error.into()))?
            }
        };
        let external = (address, held.external_port());
        Self::believed(Held::Port(Box::new(held)), place, port, external).await
    }

    async fn of_router(
        router: Router,
        place: &Place,
        port: NonZeroU16,
        wish: NonZeroU16,
    ) -> Result<Self, Failure> {
        let local = SocketAddrV4::new(place.client, port.get());
        let external = router.map(local, wish).await?;
        Self::believed(Held::Upnp(Box::new(router)), place, port, external).await
    }

    /// A mapping that is of no use is given back at once.
    async fn believed(
        held: Held,
        place: &Place,
        port: NonZeroU16,
        external: (Ipv4Addr, NonZeroU16),
    ) -> Result<Self, Failure> {
        let lease = Self {
            held,
            local: SocketAddrV4::new(place.client, port.get()),
            external,
            mapping: reflexive((external.0, external.1.get()), place, port.get()),
        };
        let why = match doubt(external.0) {
            Some(why) => why,
            None if lease.lifetime().is_zero() => "for no time at all",
            None => return Ok(lease),
        };
        let failure = Failure::Distrusted {
            protocol: lease.protocol(),
            external: lease.mapping.mapped,
            why,
        };
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, "a useless mapping was not given back");
        }
        Err(failure)
    }
}

async fn obtain_port(
    place: &Place,
    nonce: pcp::Nonce,
    port: NonZeroU16,
) -> Result<PortMapping, Failure> {
    let gateway = GatewayAddress::from(place.gateway);
    let options = PortMappingOptions {
        // The same port outside: a NAT that keeps ports then has one mapping for both directions.
        external_port: Some(port),
        lifetime_seconds: u32::try_from(LEASE.as_secs()).ok(),
        timeout_config: Some(TIMEOUTS),
    };
    let base = pcp::BaseMapRequest::new(gateway, place.client.into(), Udp, port);
    match pcp::port_mapping(base, Some(nonce), None, options).await {
        Ok(mapping) => return Ok(mapping),
        // Old gateways may drop what they do not understand, or answer it with bytes that are no PCP.
        Err(
            pcp::Failure::UnsupportedVersion(VersionCode::NatPmp)
            | pcp::Failure::Timeout
            | pcp::Failure::InvalidResponse(_),
        ) => {}
        Err(other) => return Err(failure_of(&other.into())),
    }
    let mapping = natpmp::port_mapping(gateway, Udp, port, options).await;
    mapping.map_err(|error| failure_of(&error.into()))
}

fn failure_of(error: &MappingFailure) -> Failure {
    match error {
        MappingFailure::Pcp(pcp::Failure::Timeout)
        | MappingFailure::NatPmp(natpmp::Failure::Timeout) => Failure::Silent,
        MappingFailure::Pcp(pcp::Failure::Socket(error))
        | MappingFailure::NatPmp(natpmp::Failure::Socket(error)) => of_socket(error),
        MappingFailure::Pcp(other) => refusal(PortMappingProtocol::Pcp, other),
        MappingFailure::NatPmp(other) => refusal(PortMappingProtocol::NatPmp, other),
    }
}

/// A closed port says as much as silence.
fn of_socket(error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        return Failure::Silent;
    }
    Failure::System(error.to_string())
}

fn protocol_of(held: &PortMapping) -> PortMappingProtocol {
    match held.mapping_type() {
        PortMappingType::NatPmp => PortMappingProtocol::NatPmp,
        PortMappingType::Pcp { .. } => PortMappingProtocol::Pcp,
    }
}

/// Whether the gateway has lost its state in between: the time since its start went back (RFC 6887 section 8.5). What it
/// forgot is mapped again by then, so no margin for slow clocks is needed.
fn has_restarted(before: &PortMapping, after: &PortMapping) -> bool {
    after.gateway_epoch() < before.gateway_epoch()
}
