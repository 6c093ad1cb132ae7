//! What does each kind of home router do to packets, in RFC 4787's words and nftables' words?
//!
//! Mapping: does a host's port keep its public port towards every destination (endpoint-
//! independent, EIM) or not (address-and-port-dependent, APDM)? Filtering: may anybody answer
//! (EIF), only addresses written to (ADF), only addresses and ports written to (APDF)?

use std::net::Ipv4Addr;

use sim::oracle::Place;

/// A kind of router between a home and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Routed, no NAT and no firewall: the hosts have public addresses.
    Open,
    /// EIM, EIF: the public address belongs to the first host alone, as with a cloud's
    /// elastic address or a "DMZ host".
    OneToOne,
    /// EIM, EIF: "full cone".
    FullCone,
    /// EIM, ADF: "address-restricted cone".
    AddressRestricted,
    /// EIM, APDF: "port-restricted cone", the most usual home router.
    PortRestricted,
    /// EIM, APDF, but a bare masquerade: a packet that nobody inside asked for is remembered, and what is then sent to
    /// its sender leaves from another port.
    Leaky,
    /// APDM, APDF: "symmetric", a new random port for each destination.
    Symmetric,
    /// EIM, APDF twice: a port-restricted home router behind a port-restricted carrier.
    Cgnat,
    /// APDM, APDF: a port-restricted home router behind a symmetric carrier.
    CgnatSymmetric,
    /// No UDP at all; TCP goes out through a NAT.
    UdpBlocked,
}

impl Nat {
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::OneToOne,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Leaky,
        Self::Symmetric,
        Self::Cgnat,
        Self::CgnatSymmetric,
        Self::UdpBlocked,
    ];

    /// The same kind in the simulator, whose oracle says which pairs must meet.
    pub fn place(self) -> Place {
        match self {
            Self::Open => Place::Open,
            Self::OneToOne => Place::OneToOne,
            Self::FullCone => Place::FullCone,
            Self::AddressRestricted => Place::AddressRestricted,
            Self::PortRestricted => Place::PortRestricted,
            Self::Leaky => Place::Leaky,
            Self::Symmetric => Place::Symmetric,
            Self::Cgnat => Place::Cgnat,
            Self::CgnatSymmetric => Place::CgnatSymmetric,
            Self::UdpBlocked => Place::UdpBlocked,
        }
    }

    /// What the carrier's router does, where there is one.
    pub(crate) fn carrier(self) -> Option<Self> {
        match self {
            Self::Cgnat => Some(Self::PortRestricted),
            Self::CgnatSymmetric => Some(Self::Symmetric),
            Self::Open
            | Self::OneToOne
            | Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::Leaky
            | Self::Symmetric
            | Self::UdpBlocked => None,
        }
    }

    /// The nft script of the home router, whose devices are `wan` and `lan0`. `first` is the
    /// address of the home's first host.
    pub(crate) fn script(self, first: Ipv4Addr) -> String {
        match self {
            Self::Open => String::new(),
            Self::OneToOne => format!("{GUARD}{MASQUERADE}{}", one_to_one(first)),
            Self::FullCone => format!("{GUARD}{MASQUERADE}{FULL_CONE}"),
            Self::AddressRestricted => {
                format!("{GUARD}{MASQUERADE}{FULL_CONE}{ADDRESS_FILTER}")
            }
            Self::PortRestricted | Self::Cgnat | Self::CgnatSymmetric => {
                format!("{GUARD}{MASQUERADE}")
            }
            Self::Leaky => MASQUERADE.to_owned(),
            Self::Symmetric => format!("{GUARD}{RANDOM_PORTS}"),
            Self::UdpBlocked => format!("{GUARD}{MASQUERADE}{NO_UDP}"),
        }
    }
}

/// Home routers drop what nobody inside asked for. Without the `input` rule the kernel would
/// accept a peer's first packet for itself and keep its ports in conntrack; our own packet to
/// that peer would then leave from another port: a port-restricted NAT would turn symmetric for
/// whoever is punched first.
const GUARD: &str = r#"
table ip guard {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "wan" ct state new drop
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct status dnat accept
        iifname "wan" ct state new drop
    }
}
"#;

/// EIM, APDF. Linux keeps the source port where it is free, and else reuses the mapping that
/// the same source has already, so it does not depend on the destination; conntrack lets in
/// only the address and port that were written to.
const MASQUERADE: &str = r#"
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" masquerade
    }
}
"#;

/// APDM, APDF. Each flow draws a port.
const RANDOM_PORTS: &str = r#"
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" meta l4proto { tcp, udp } masquerade fully-random
        oifname "wan" masquerade
    }
}
"#;

/// EIF on top of a masquerade. `learn` runs behind the masquerade and so sees the public port;
/// conntrack still knows who the packet came from.
const FULL_CONE: &str = r#"
table ip cone {
    map mappings {
        type inet_service : ipv4_addr . inet_service
        flags dynamic, timeout
        timeout 5m
        size 65535
    }
    chain learn {
        type filter hook postrouting priority 200; policy accept;
        oifname "wan" update @mappings { udp sport : ct original ip saddr . ct original proto-src }
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "wan" dnat ip to udp dport map @mappings
    }
}
"#;

/// ADF on top of a full cone: who sends something new must have an address that this public
/// port has written to.
const ADDRESS_FILTER: &str = r#"
table ip permissions {
    set permitted {
        type ipv4_addr . inet_service
        flags dynamic, timeout
        timeout 2m
        size 65535
    }
    chain learn {
        type filter hook postrouting priority 200; policy accept;
        oifname "wan" update @permitted { ip daddr . udp sport }
    }
    chain prerouting {
        type filter hook prerouting priority -150; policy accept;
        iifname "wan" meta l4proto udp ct state new ip saddr . udp dport != @permitted drop
    }
}
"#;

/// A corporate firewall's rule.
const NO_UDP: &str = r#"
table ip firewall {
    chain forward {
        type filter hook forward priority filter; policy accept;
        meta l4proto udp drop
    }
}
"#;

/// EIF: all that comes is for one host.
fn one_to_one(first: Ipv4Addr) -> String {
    format!(
        r#"
table ip one_to_one {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname "wan" dnat to {first}
    }}
}}
"#
    )
}
