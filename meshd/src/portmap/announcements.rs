//! When does the router say that it was restarted? It multicasts so (RFC 6886 section 3.2.1, RFC 6887 section 14.1.3),
//! which is a reason to ask for our mapping at once. What the datagram says is not read.

use std::{net::IpAddr, time::Duration};

use platform::net::{addresses, multicast};
use tokio::{net::UdpSocket, time::sleep};

use super::Place;

/// Where routers say it: all hosts of the link, at the port of PCP clients.
const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 1));
const PORT: u16 = 5350;
/// All hosts of a link hear it at once, so each waits for a random time: 255 times this at most.
const SPREAD: Duration = Duration::from_millis(10);
/// A router repeats its announcement, and anybody on the link can forge one: it is followed no more often than this.
const PAUSE: Duration = Duration::from_secs(2);

/// Hears one router's announcements.
#[derive(Debug)]
pub(super) struct Announcements {
    socket: UdpSocket,
    gateway: IpAddr,
}

impl Announcements {
    /// Listens on the link of `place`; `None` where that cannot be, and then only renewals notice a restart.
    pub(super) async fn listen(place: &Place) -> Option<Self> {
        let links = addresses::local_addresses("").await.ok()?;
        let link = links.iter().find(|link| {
            link.interface == place.interface && link.address == IpAddr::V4(place.client)
        })?;
        let socket = multicast::join(link, GROUP, PORT).and_then(UdpSocket::from_std);
        let socket = socket
            .inspect_err(|error| tracing::debug!(%error, "a restarted router is noticed late"));
        Some(Self {
            socket: socket.ok()?,
            gateway: place.gateway.into(),
        })
    }

    /// Waits for the next announcement.
    pub(super) async fn heard(&self) {
        let mut datagram = [0; 64];
        loop {
            match self.socket.recv_from(&mut datagram).await {
                Ok((_, from)) if from.ip() == self.gateway => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "listening for the router's restart");
                    sleep(PAUSE).await;
                }
            }
        }
        let mut random = [0];
        // Without random numbers all hosts of this link ask at once, which a router survives.
        let _fixed = getrandom::fill(&mut random);
        sleep(PAUSE + SPREAD * u32::from(random[0])).await;
    }
}
