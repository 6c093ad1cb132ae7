//! Every format that crosses a machine boundary, and nothing else.
//!
//! * [`id`]: who a node and a network are. [`psk`]: the network's shared secret and what is derived from it.
//! * [`peer_info`]: what members know of each other. [`place`]: which addresses and names are free. [`discovery`]: the JSON that the discovery server speaks.
//! * [`trust`]: certificates, invites and revocations.
//! * [`letter`]: what daemons write to each other by way of the server, such as a [`signal`], ICE credentials and candidates. [`join_link`]: the invitation.
//! * [`lan`]: what daemons say of themselves to their LAN.
//! * [`frame`]: which protocol a datagram belongs to. [`turn_stream`]: where a message ends on the way to a TURN server over TCP. [`carrier`]: our own messages inside a session.
//! * [`wireguard`]: the messages of the session protocol. [`relay`]: what stands around one that others carry. [`routing`]: what neighbours
//!   say of the ways to others.
//! * [`problem`]: errors over HTTP (RFC 9457).
#![warn(missing_docs)]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod carrier;
pub mod discovery;
pub mod error;
mod flat;
pub mod frame;
pub mod id;
pub mod join_link;
pub mod lan;
pub mod letter;
pub mod peer_info;
pub mod place;
pub mod problem;
pub mod psk;
pub mod relay;
pub mod routing;
pub mod signal;
pub mod trust;
pub mod turn_stream;
pub mod wireguard;

pub use error::DecodeError;
pub use id::{NetworkId, NodeId, WireGuardKey};
