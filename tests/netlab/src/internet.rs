//! What lies between the homes, and who has a public address?
//!
//! The internet is one router with a cable to each customer and nothing on link: no broadcast
//! and no IPv6 link-local address crosses it, as none crosses the real one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::home::{Home, HomePlan};
use crate::host::{Cable, Host, Place};
use crate::lab::LabCore;
use crate::link::{Link, LinkShape};

/// TEST-NET-2 and TEST-NET-3 of RFC 5737 serve as public addresses.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A packet that would not survive four more routers dies here: between customers of different providers there are
/// never fewer.
const MORE_HOPS: &str = r#"
table ip hops {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip ttl < 5 drop
    }
}
"#;

/// The internet of a lab. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Internet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Host,
    /// Customers so far; the next public address.
    customers: AtomicU8,
    /// Homes so far; the next LAN.
    homes: AtomicU8,
}

impl Internet {
    pub(crate) fn new(core: &Arc<LabCore>) -> Result<Self> {
        let router = Host::new(core, "internet")?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.namespace().nft(MORE_HOPS)?;
        Ok(Self(Arc::new(Inner {
            router,
            customers: AtomicU8::new(1),
            homes: AtomicU8::new(0),
        })))
    }

    /// The machine that routes between the customers: a place for tcpdump or for nft rules that
    /// cut them apart.
    pub fn router(&self) -> &Host {
        &self.0.router
    }

    /// A host with a public address in 198.51.100.0/24 on its device `eth0`.
    pub fn public_host(&self, name: &str) -> Result<Host> {
        let host = Host::new(self.0.router.core(), name)?;
        self.connect(&host)?;
        Ok(host)
    }

    /// A public host whose cable has a shape, to be changed through [`Host::link`].
    pub fn public_host_shaped(&self, name: &str, shape: LinkShape) -> Result<Host> {
        let host = Host::new(self.0.router.core(), name)?;
        self.plug(&host, "eth0", Some(shape))?;
        Ok(host)
    }

    /// Gives a public host one more public address.
    pub fn add_address(&self, host: &Host) -> Result<Ipv4Addr> {
        let address = self.next_address()?;
        host.namespace()
            .ip(&format!("addr add {address}/32 dev eth0"))?;
        self.0
            .router
            .namespace()
            .ip(&format!("route add {address}/32 via {}", host.address()))?;
        Ok(address)
    }

    /// A router with a LAN behind it. `plan` is a [`crate::Nat`] or a [`HomePlan`]; hosts are
    /// added with [`Home::host`].
    pub fn home(&self, name: &str, plan: impl Into<HomePlan>) -> Result<Home> {
        Home::new(self, name, plan.into()).with_context(|| format!("cannot build home {name:?}"))
    }

    /// Moves a host here from where it is plugged in now; it gets a new public address.
    pub fn connect(&self, host: &Host) -> Result<Ipv4Addr> {
        self.plug(host, "eth0", None)
    }

    /// Connects `device` of `host` and returns its new public address.
    pub(crate) fn plug(
        &self,
        host: &Host,
        device: &'static str,
        shape: Option<LinkShape>,
    ) -> Result<Ipv4Addr> {
        host.unplug()?;
        let address = self.next_address()?;
        let port = format!("p{}", address.octets()[3]);
        let (here, there) = (self.0.router.namespace(), host.namespace());
        let cable = match shape {
            Some(shape) => Cable::Shaped(Link::lay((there, device), (here, &port), shape)?),
            None => {
                here.ip(&format!(
                    "link add {port} type veth peer name {device} netns {}",
                    there.path().display()
                ))?;
                Cable::plain(here, &port)
            }
        };
        here.ip(&format!(
            "addr add {GATEWAY}/32 dev {port}\nlink set {port} up\n\
             route add {address}/32 dev {port}"
        ))?;
        there.ip(&format!(
            "addr add {address}/32 dev {device}\nlink set {device} up\n\
             route add default via {GATEWAY} dev {device} onlink src {address}"
        ))?;
        host.settle(Place {
            address,
            device,
            cable,
        });
        Ok(address)
    }

    pub(crate) fn next_home(&self) -> u8 {
        self.0.homes.fetch_add(1, Ordering::Relaxed)
    }

    fn next_address(&self) -> Result<Ipv4Addr> {
        let number = self
            .0
            .customers
            .fetch_add(1, Ordering::Relaxed)
            .checked_add(1);
        let number = number
            .filter(|number| *number < 255)
            .context("198.51.100.0/24 is full")?;
        Ok(Ipv4Addr::new(198, 51, 100, number))
    }
}
