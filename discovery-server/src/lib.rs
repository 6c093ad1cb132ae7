//! Registry of networks and peers, signalling between peers, STUN and TURN.
//!
//! [`start`] binds everything, [`Running::run_until`] serves. The `discovery-server` program is this library with a
//! command line; `meshd` embeds the same library. The bodies and messages are those of [`mesh_wire::discovery`].
#![warn(missing_docs)]

mod app;
mod auth;
mod database;
mod http;
mod listen;
mod mailbox;
mod membership;
mod metrics;
mod news;
mod proxies;
mod rate;
mod registry;
mod replica;
mod server;
mod slots;
mod snapshots;
mod store;
pub mod stun;
pub mod turn;

pub use auth::{
    AdminTokenError, AdminTokenSource, MAX_CLOCK_SKEW, SIGNATURE_HEADER, TIMESTAMP_HEADER,
    deregister_bytes,
};
pub use database::{Database, DatabaseUrlError, PostgresUrl};
pub use listen::any_address;
pub use registry::{MAX_MEMBERS, MAX_NETWORKS};
pub use server::{Running, ServeConfig, ServeError, TurnConfig, start};
pub use store::{StoreError, backup, restore};

/// The HTTP port unless another is given.
pub const DEFAULT_HTTP_PORT: u16 = mesh_wire::join_link::DEFAULT_SERVER_PORT;

/// The port of STUN and TURN unless another is given (RFC 8489 section 18.6).
pub const DEFAULT_STUN_PORT: u16 = 3478;

/// Bytes that the relay carries for one member in a second, both ways together, unless told otherwise.
pub const DEFAULT_TURN_RATE: u64 = turn::BYTES_PER_SECOND;

/// How often a snapshot of a SQLite database is taken unless told otherwise.
pub const DEFAULT_SNAPSHOT_INTERVAL: std::time::Duration =
    std::time::Duration::from_secs(24 * 60 * 60);
