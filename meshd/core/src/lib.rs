//! The pure state machine of a mesh node. It has no socket, no clock, no thread and no lock: packets, time and intent
//! go in, datagrams, packets and news come out. Start at [`node::Node`].
//!
//! A packet from the TUN walks `node::outbound` -> `lan::table` (who owns the destination) -> `peer` (its session and
//! path) -> `queue::transmit`. A datagram from the network walks `node::inbound` -> `peer::table` (whose session) ->
//! `peer::session` (open) -> `lan::table` (may it speak for that source) -> `queue::packet`.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )
)]

pub mod lan;
mod measure;
pub mod node;
pub mod path;
pub mod peer;
pub mod queue;
pub mod routing;
pub mod wireguard;

pub use node::{
    Node, NodeConfig,
    command::{Command, PeerEntry},
    event::{DropReason, Event},
    inbound::Arrival,
    mesh::RoutingConfig,
    narrow::TooLong,
    status::{NodeStatus, PeerStatus},
};
pub use path::birthday::SocketRequest;
pub use path::gather::Reflexive;
pub use path::turn::{StreamRequest, Transport, Trouble, TurnServer, TurnStatus};
pub use queue::{
    packet::PacketQueue,
    transmit::{StreamId, TransmitQueue},
};
