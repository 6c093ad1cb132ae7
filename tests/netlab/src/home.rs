//! What is behind a home router, and how is it wired?

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::{Cable, Host, Place};
use crate::internet::Internet;
use crate::lab::LabCore;
use crate::link::LinkShape;
use crate::nat::Nat;
use crate::wait_until;

/// A new port of a switch carries packets within this time.
const CARRIES: Duration = Duration::from_secs(5);

/// How a home is built. A plain [`Nat`] is a plan too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HomePlan {
    pub nat: Nat,
    /// The shape of the cable to the internet; changed later through
    /// `home.outermost().link()`.
    pub wan: Option<LinkShape>,
    /// The network (/24) of the LAN instead of one of its own, 192.168.1.0, 192.168.2.0, ...:
    /// real homes often have the same. Not for [`Nat::Open`].
    pub lan: Option<Ipv4Addr>,
}

impl From<Nat> for HomePlan {
    fn from(nat: Nat) -> Self {
        Self {
            nat,
            wan: None,
            lan: None,
        }
    }
}

/// A LAN behind a router. Clones are handles of the same home.
#[derive(Debug, Clone)]
pub struct Home(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    router: Router,
    carrier: Option<Router>,
}

impl Home {
    pub(crate) fn new(internet: &Internet, name: &str, plan: HomePlan) -> Result<Self> {
        let number = internet.next_home();
        let core = internet.router().core();
        let carrier = match plan.nat.carrier() {
            Some(nat) => {
                let lan = Lan::new(Ipv4Addr::new(100, 64, number, 0), 24);
                let carrier = Router::new(core, &format!("{name}-carrier"), lan)?;
                internet.plug(&carrier.host, "wan", plan.wan)?;
                carrier
                    .host
                    .namespace()
                    .nft(&nat.script(carrier.lan.address(2)))?;
                Some(carrier)
            }
            None => None,
        };
        let router = Router::new(core, &format!("{name}-router"), home_lan(&plan, number)?)?;
        match &carrier {
            Some(carrier) => carrier.plug(&router.host, "wan")?,
            None => internet.plug(&router.host, "wan", plan.wan)?,
        };
        router
            .host
            .namespace()
            .nft(&plan.nat.script(router.lan.address(2)))?;
        if plan.nat == Nat::Open {
            internet.router().namespace().ip(&format!(
                "route add {} via {}",
                router.lan.cidr(),
                router.host.address()
            ))?;
        }
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            router,
            carrier,
        })))
    }

    /// Adds a host on the LAN, named `HOME-NAME`, with its device `eth0`.
    pub fn host(&self, name: &str) -> Result<Host> {
        let core = self.0.router.host.core();
        let host = Host::new(core, &format!("{}-{name}", self.0.name))?;
        self.connect(&host)?;
        Ok(host)
    }

    /// Moves a host here from where it is plugged in now; it gets a new address of this LAN.
    pub fn connect(&self, host: &Host) -> Result<Ipv4Addr> {
        self.0.router.plug(host, "eth0")
    }

    /// Plugs one more cable of a host in here, beside those that it has: `device` gets an address of this LAN, and a default
    /// route with that metric.
    pub fn connect_beside(&self, host: &Host, device: &str, metric: u32) -> Result<Ipv4Addr> {
        let (address, _) = self.0.router.wire(host, device, metric)?;
        Ok(address)
    }

    /// The home router: devices `wan` and `lan0`.
    pub fn router(&self) -> &Host {
        &self.0.router.host
    }

    /// The carrier's router, where the plan has one: devices `wan` and `lan0`.
    pub fn carrier(&self) -> Option<&Host> {
        self.0.carrier.as_ref().map(|carrier| &carrier.host)
    }

    /// The router with the public address and the cable to the internet.
    pub fn outermost(&self) -> &Host {
        self.carrier().unwrap_or_else(|| self.router())
    }

    /// Has the router bring back what a host sends to a public mapping of its own LAN, from the sender's public mapping
    /// (RFC 4787 section 6, REQ-9). For a full cone.
    pub fn allow_hairpin(&self) -> Result<()> {
        let public = self.router().address();
        self.router().namespace().nft(&format!(
            r#"
table ip cone {{
    chain prerouting {{
        iifname "lan0" ip daddr {public} dnat ip to udp dport map @mappings
    }}
}}
table ip nat {{
    chain postrouting {{
        oifname "lan0" ct status dnat snat to {public}
    }}
}}
"#
        ))
    }

    /// Every router of the home forgets its flows, as if it had been restarted: a symmetric NAT
    /// will give new ports, and no old flow is let in any more.
    pub fn forget_flows(&self) -> Result<()> {
        for router in [Some(self.router()), self.carrier()].into_iter().flatten() {
            router.run("conntrack", ["-F"])?;
        }
        Ok(())
    }
}

/// A machine that forwards between `wan` and the bridge `lan0`.
#[derive(Debug)]
struct Router {
    host: Host,
    lan: Lan,
}

impl Router {
    fn new(core: &Arc<LabCore>, name: &str, lan: Lan) -> Result<Self> {
        let host = Host::new(core, name)?;
        host.sysctl("net.ipv4.ip_forward", "1")?;
        for family in ["iptables", "ip6tables"] {
            // What the LAN's switch carries passes no rule of the router. Not every kernel has the choice.
            let key = format!("net.bridge.bridge-nf-call-{family}");
            if Path::new("/proc/sys").join(key.replace('.', "/")).exists() {
                host.sysctl(&key, "0")?;
            }
        }
        host.namespace().ip(&format!(
            "link add lan0 type bridge\naddr add {}/{} dev lan0\nlink set lan0 up",
            lan.address(1),
            lan.prefix
        ))?;
        Ok(Self { host, lan })
    }

    /// Connects `device` of `host` to the LAN and returns its new address.
    fn plug(&self, host: &Host, device: &'static str) -> Result<Ipv4Addr> {
        host.unplug()?;
        let (address, port) = self.wire(host, device, 0)?;
        let cable = Cable::plain(self.host.namespace(), &port);
        host.settle(Place {
            address,
            device,
            cable,
        });
        Ok(address)
    }

    /// A cable from `device` of `host` to a port of the LAN, which is returned with the device's address. That is given once the
    /// port carries packets, as by DHCP: the kernel may take up to a second for that, and an ARP request that is lost meanwhile is
    /// repeated after another one.
    fn wire(&self, host: &Host, device: &str, metric: u32) -> Result<(Ipv4Addr, String)> {
        let (number, address) = self.lan.next()?;
        let port = format!("l{number}");
        let (here, there) = (self.host.namespace(), host.namespace());
        here.ip(&format!(
            "link add {port} type veth peer name {device} netns {}\n\
             link set {port} master lan0 up",
            there.path().display()
        ))?;
        there.ip(&format!("link set {device} up"))?;
        wait_until(&format!("{port} carries packets"), CARRIES, || {
            let told = self.host.run("bridge", ["link", "show", "dev", &port])?;
            Ok(told.stdout.contains("state forwarding"))
        })?;
        there.ip(&format!(
            "addr add {address}/{} dev {device}\n\
             route add default via {} dev {device} metric {metric}",
            self.lan.prefix,
            self.lan.address(1)
        ))?;
        Ok((address, port))
    }
}

/// The addresses of a LAN: the router has the first, hosts the rest.
#[derive(Debug)]
struct Lan {
    network: Ipv4Addr,
    prefix: u8,
    hosts: AtomicU8,
}

impl Lan {
    fn new(network: Ipv4Addr, prefix: u8) -> Self {
        Self {
            network,
            prefix,
            hosts: AtomicU8::new(1),
        }
    }

    fn cidr(&self) -> String {
        format!("{}/{}", self.network, self.prefix)
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + u32::from(number))
    }

    fn next(&self) -> Result<(u8, Ipv4Addr)> {
        let broadcast = u8::MAX >> (self.prefix - 24);
        let number = self.hosts.fetch_add(1, Ordering::Relaxed).checked_add(1);
        let number = number
            .filter(|number| *number < broadcast)
            .with_context(|| format!("the LAN {} is full", self.cidr()))?;
        Ok((number, self.address(number)))
    }
}

/// An open home's hosts need public addresses: a /28 of 203.0.113.0/24.
fn home_lan(plan: &HomePlan, number: u8) -> Result<Lan> {
    if plan.nat == Nat::Open {
        ensure!(
            plan.lan.is_none(),
            "an open home's LAN is public, it cannot be chosen"
        );
        ensure!(
            number < 16,
            "203.0.113.0/24 has room for sixteen open homes"
        );
        return Ok(Lan::new(Ipv4Addr::new(203, 0, 113, number * 16), 28));
    }
    let own = Ipv4Addr::new(192, 168, number.wrapping_add(1), 0);
    Ok(Lan::new(plan.lan.unwrap_or(own), 24))
}
