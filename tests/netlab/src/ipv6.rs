//! How does a machine of the lab come by IPv6 as well? Each customer has a prefix of 2001:db8::/32 (RFC 3849), nobody
//! translates, and home routers let in only what answers (RFC 6092).

use std::net::Ipv6Addr;

use anyhow::{Context, Result};

use crate::{Home, Host, Internet};

/// RFC 6092 section 3.2, REC-33 and what follows: what nobody inside asked for is dropped.
const FIREWALL: &str = r#"
table ip6 firewall {
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname "wan" ct state new drop
    }
}
"#;

impl Internet {
    /// Gives a public host an IPv6 address.
    pub fn give_ipv6(&self, host: &Host) -> Result<Ipv6Addr> {
        self.link_ipv6(host, "eth0")
    }

    /// Routes an IPv6 prefix to a home without a carrier's router, and gives its hosts an address each, in their order.
    pub fn give_ipv6_to(&self, home: &Home, hosts: &[&Host]) -> Result<Vec<Ipv6Addr>> {
        let router = home.router();
        let wan = self.link_ipv6(router, "wan")?;
        let customer = customer(router);
        let inside = |number: u16| Ipv6Addr::new(0x2001, 0xdb8, customer, 1, 0, 0, 0, number);
        self.router()
            .namespace()
            .ip(&format!("route add {}/64 via {wan}", inside(0)))?;
        router
            .namespace()
            .ip(&format!("addr add {}/64 dev lan0", inside(1)))?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        router.namespace().nft(FIREWALL)?;
        let mut addresses = Vec::new();
        for (number, host) in (2..).zip(hosts) {
            let address = inside(number);
            let lines = format!(
                "addr add {address}/64 dev eth0\nroute add default via {} dev eth0",
                inside(1)
            );
            host.namespace().ip(&lines)?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// Numbers the cable of a customer, whose own end is `device`, and returns that end's address.
    fn link_ipv6(&self, host: &Host, device: &str) -> Result<Ipv6Addr> {
        let customer = customer(host);
        let end = |number: u16| Ipv6Addr::new(0x2001, 0xdb8, customer, 0, 0, 0, 0, number);
        let port = format!("p{}", host.address().octets()[3]);
        self.router().sysctl("net.ipv6.conf.all.forwarding", "1")?;
        self.router()
            .namespace()
            .ip(&format!("addr add {}/64 dev {port}", end(1)))?;
        let lines = format!(
            "addr add {}/64 dev {device}\nroute add default via {} dev {device}",
            end(2),
            end(1)
        );
        host.namespace()
            .ip(&lines)
            .with_context(|| format!("cannot give {} IPv6", host.name()))?;
        Ok(end(2))
    }
}

/// The last number of the public IPv4 address is the customer's.
fn customer(host: &Host) -> u16 {
    u16::from(host.address().octets()[3])
}
