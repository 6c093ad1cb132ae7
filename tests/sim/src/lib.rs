//! Whole nodes in virtual time: [`world::World`] holds hosts, NATs, links and a server, and moves from event to event.
//!
//! No socket, no thread, no sleeping, everything seeded: the same seed gives the same run, byte for byte. [`seeds`]
//! runs a scenario over many seeds and prints the line that replays one; [`oracle`] says what must happen.

mod eavesdrop;
pub mod host;
pub mod inner;
pub mod ledger;
pub mod link;
pub mod nat;
pub mod network;
pub mod oracle;
pub mod routes;
pub mod scenario;
pub mod seeds;
pub mod server;
pub mod sockets;
mod stream;
pub mod turn;
pub mod world;
