//! The WireGuard protocol (J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", NDSS 2017; "the paper"
//! below), without sockets and without a clock. `peer::session` puts these parts together for one peer.
//!
//! * [`noise`]: the handshake. [`timestamp`]: why an old initiation is worth nothing.
//! * [`guard`]: which handshakes are worth an answer. [`mac`]: the authenticators that it looks at.
//! * [`keypair`]: the keys of one handshake and their use. [`replay`]: which numbers they have seen. [`keypairs`]: which
//!   of them are in use.
//! * [`hop`]: the tags of frames that neighbours carry for each other.
//! * [`receiver`]: what the index in a message means. [`timers`]: when something must be sent again or forgotten.

pub mod guard;
pub mod hop;
pub mod keypair;
pub mod keypairs;
pub mod mac;
pub mod noise;
pub mod receiver;
pub mod replay;
pub mod timers;
pub mod timestamp;

#[cfg(test)]
mod tests;
