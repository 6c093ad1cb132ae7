//! What is the answer of `meshd netcheck`? Its JSON is an interface that scripts rely on: fields may be added, never
//! renamed or removed. What is not known is `null`, never left out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::Ipv6Net;
use platform::net::gateway;
use serde::{Deserialize, Serialize};

use crate::{problem::Problem, status::PortMappingStatus};

/// Everything that was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Whether a running daemon said which servers there are; else the configuration did.
    pub from_daemon: bool,
    /// Whether a server answered over UDP.
    pub udp: bool,
    /// Over IPv4.
    pub ipv4: Family,
    /// Over IPv6.
    pub ipv6: Family,
    /// How the NAT behaves.
    pub nat: Nat,
    /// Whether the router maps a port.
    pub port_mapping: PortMappingStatus,
    /// Where IPv4 hosts are reached from a network without IPv4 (RFC 7050).
    pub nat64_prefix: Option<Ipv6Net>,
    /// The default gateways, IPv4 first.
    pub gateways: Vec<Gateway>,
    /// Each server that was asked.
    pub servers: Vec<ServerReport>,
    /// The greatest packet on the path to each peer that is reached.
    pub path_mtu: Vec<PeerMtu>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
}

/// One version of IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// This host's address towards the servers.
    pub local: Option<IpAddr>,
    /// What a server saw (RFC 8489's mapped address).
    pub reflexive: Option<SocketAddr>,
}

/// How a NAT behaves (RFC 4787).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Whether there is one.
    pub present: Option<bool>,
    /// Section 4.1.
    pub mapping: Behavior,
    /// Section 5.
    pub filtering: Behavior,
    /// Section 6: whether hosts behind it reach each other's mappings; `null` also where there is no NAT.
    pub hairpin: Option<bool>,
}

/// What a mapping, or a filter, depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behavior {
    /// On nothing outside.
    EndpointIndependent,
    /// On the address outside.
    AddressDependent,
    /// On address and port outside.
    AddressAndPortDependent,
    /// On one of these two: no server could tell which.
    DestinationDependent,
    /// No server could tell.
    #[default]
    Unknown,
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "Endpoint-Independent",
            Self::AddressDependent => "Address-Dependent",
            Self::AddressAndPortDependent => "Address and Port-Dependent",
            Self::DestinationDependent => "Address-Dependent or Address and Port-Dependent",
            Self::Unknown => "unknown",
        })
    }
}

/// A default gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// The router.
    pub address: IpAddr,
    /// The interface that leads there.
    pub interface: String,
}

impl From<gateway::Gateway> for Gateway {
    fn from(found: gateway::Gateway) -> Self {
        Self {
            address: found.address,
            interface: found.interface,
        }
    }
}

/// A server that was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// As it was named.
    pub name: String,
    /// One of its addresses.
    pub address: SocketAddr,
    /// What it saw.
    pub reflexive: Option<SocketAddr>,
    /// Round trip of a Binding request; `null` without an answer.
    pub stun_rtt_ms: Option<f64>,
    /// Round trip of an Allocate request without credentials; `null` if it serves no TURN over UDP.
    pub turn_rtt_ms: Option<f64>,
    /// The same over TCP; only tried when no server answers over UDP.
    #[serde(default)]
    pub turn_tcp_rtt_ms: Option<f64>,
    /// Whether it takes TCP connections; only tried when no server answers over UDP.
    pub tcp: Option<bool>,
}

impl ServerReport {
    /// Whether it answers over UDP.
    pub fn answers(&self) -> bool {
        self.stun_rtt_ms.is_some()
    }
}

/// What fits the path to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMtu {
    /// Its name.
    pub peer: String,
    /// Bytes of the greatest IP packet inside the mesh.
    pub mtu: u16,
}
