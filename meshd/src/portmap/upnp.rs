//! How is a port mapped by UPnP's Internet Gateway Device? The library bounds what it reads (1 MiB, 64 levels of XML),
//! follows no redirect, and refuses descriptions and control URLs that are not at the address of whoever answered.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
    time::Duration,
};

use igd_next::{
    AddPortError, GatewayIpVersion,
    PortMappingProtocol::UDP,
    SearchOptions,
    aio::{
        self,
        tokio::{Tokio, search_gateway},
    },
};

use super::{
    LEASE, Place,
    lease::{Failure, refusal},
};
use crate::status::PortMappingProtocol;

/// How long a router may take to say that it is one, and to describe itself.
const SEARCH: Duration = Duration::from_secs(3);
/// The port of SSDP.
const SSDP: u16 = 1900;
/// What the router's list of mappings shows.
const DESCRIPTION: &str = "meshd";

/// A router that speaks UPnP, at the default gateway's address.
#[derive(Debug, Clone)]
pub(super) struct Router(aio::Gateway<Tokio>);

impl Router {
    /// Asks the default gateway alone, by unicast (UPnP Device Architecture 1.1, section 1.3.2): nobody else on the LAN
    /// shall tell us where to send requests.
    pub(super) async fn find(place: &Place) -> Option<Self> {
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddr::from((place.client, 0));
        options.broadcast_address = SocketAddr::from((place.gateway, SSDP));
        options.timeout = Some(SEARCH);
        options.gateway_ip_version = GatewayIpVersion::V4;
        match search_gateway(options).await {
            Ok(found) if found.addr.ip() == IpAddr::V4(place.gateway) => Some(Self(found)),
            Ok(found) => {
                tracing::debug!(addr = %found.addr, "a UPnP answer that is not the gateway's");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "no UPnP router");
                None
            }
        }
    }

    /// Maps a port, if possible to the same one, else to any. Asking again for what is mapped renews it.
    ///
    /// # Errors
    /// Also if the router only maps for ever: nobody would take the port back after a crash.
    pub(super) async fn map(
        &self,
        local: SocketAddrV4,
        wish: NonZeroU16,
    ) -> Result<(Ipv4Addr, NonZeroU16), Failure> {
        let no = |error: &dyn std::fmt::Display| refusal(PortMappingProtocol::Upnp, error);
        let address = self.0.get_external_ip().await.map_err(|error| no(&error))?;
        let IpAddr::V4(address) = address else {
            return Err(no(&"it names an IPv6 address"));
        };
        let lease = u32::try_from(LEASE.as_secs()).unwrap_or(u32::MAX);
        let same = self
            .0
            .add_port(UDP, wish.get(), local.into(), lease, DESCRIPTION);
        match same.await {
            Ok(()) => return Ok((address, wish)),
            Err(AddPortError::PortInUse) => {}
            Err(error) => return Err(no(&error)),
        }
        let any = self.0.add_any_port(UDP, local.into(), lease, DESCRIPTION);
        let port = any.await.map_err(|error| no(&error))?;
        let port = NonZeroU16::new(port).ok_or_else(|| no(&"it maps port 0"))?;
        Ok((address, port))
    }

    /// Gives a port back.
    pub(super) async fn unmap(&self, external: NonZeroU16) -> Result<(), Failure> {
        let removed = self.0.remove_port(UDP, external.get()).await;
        removed.map_err(|error| refusal(PortMappingProtocol::Upnp, &error))
    }
}
