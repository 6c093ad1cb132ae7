//! What do the servers of one database tell each other?

use mesh_wire::NodeId;
use serde::{Deserialize, Serialize};

/// Something that happened to a network on one server, and that clients of the others shall hear of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum Change {
    /// A record is new. It is in the database.
    Joined { node: NodeId },
    /// A record has changed. It is in the database.
    Updated { node: NodeId },
    /// A member was deregistered or revoked.
    Left { node: NodeId },
    /// A key is out.
    Revoked { revocation: String },
    /// The network was deleted.
    Deleted,
    /// A member has connected to the server that tells it.
    Online { node: NodeId },
    /// A member is not connected to this server any more: it left, or the server died.
    Offline { node: NodeId, replica: u64 },
    /// A member writes to another one, who is connected to this server.
    Signal {
        replica: u64,
        from: NodeId,
        to: NodeId,
        payload: String,
    },
    /// The last one arrived nowhere.
    Undeliverable { from: NodeId, to: NodeId },
}

/// A change, with who told it of what network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// Rises in the order in which changes were committed.
    pub(crate) seq: u64,
    /// The server that told it; 0 if it is for all.
    pub(crate) replica: u64,
    pub(crate) network: mesh_wire::NetworkId,
    pub(crate) change: Change,
}
