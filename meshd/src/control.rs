//! What can the daemon be asked to do while it runs, and what does it answer?
//!
//! The local API sends these over a bounded channel; the daemon answers each on its own one-shot channel.

use std::{net::SocketAddr, time::Duration};

use mesh_wire::{NodeId, join_link::JoinLink};
use tokio::sync::oneshot;
use url::Url;

use crate::{problem::Problem, status::PathKind, trust::authority::Offer};

/// How many requests may wait for the daemon. More callers than that wait in the local API.
pub const CONTROL_QUEUE: usize = 64;

/// How long the daemon waits for a pong. A first ping also pays for signalling, hole punching and a handshake,
/// so this is longer than any round trip.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// One request.
#[derive(Debug)]
pub enum Control {
    /// Sends one echo inside the session with `node` and waits for its answer, [`PING_TIMEOUT`] at most.
    Ping {
        /// The member to reach.
        node: NodeId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Pong, PingFailure>>,
    },
    /// Stops the daemon as SIGTERM does. Answered before the daemon begins to stop.
    Down {
        /// Where the acknowledgement goes.
        reply: oneshot::Sender<()>,
    },
    /// Puts a member out for good.
    Revoke {
        /// The member.
        node: NodeId,
        /// Where the answer goes: it is signed and on its way to everybody.
        reply: oneshot::Sender<Result<(), Problem>>,
    },
    /// Uses other discovery servers.
    Servers {
        /// The whole list, in order of preference.
        servers: Vec<Url>,
        /// Where the answer goes: whether the configuration names others for the next start.
        reply: oneshot::Sender<Result<bool, Problem>>,
    },
    /// Makes a join link for the network.
    Invite {
        /// What it shall allow.
        offer: Offer,
        /// Where the link goes. It holds the network's secret.
        reply: oneshot::Sender<Result<JoinLink, Problem>>,
    },
}

/// A peer's answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// The round trip time.
    pub rtt: Duration,
    /// How the answer travelled.
    pub path: PathKind,
    /// The peer's address on a direct path, the relay's otherwise.
    pub endpoint: Option<SocketAddr>,
}

/// Why there was no pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingFailure {
    /// The peer did not answer in time.
    #[error("no answer within {} s", PING_TIMEOUT.as_secs())]
    Timeout,
    /// No member has that identity.
    #[error("there is no such member")]
    NoSuchPeer,
    /// The peer is not online, as far as the discovery server knows, and no session with it is alive.
    #[error("the peer is offline")]
    Offline,
}
