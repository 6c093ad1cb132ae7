//! What does the host's network look like, and when does it change?

pub mod addresses;
pub mod gateway;
pub mod monitor;
pub mod multicast;
pub mod routes;
pub mod way;

#[cfg(target_os = "linux")]
mod netlink;

#[cfg(target_os = "linux")]
pub(crate) use netlink::netlink_error;

use std::io;

/// The system could not be asked about its network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A failed step.
    #[error("{operation}: {source}")]
    System {
        /// The step.
        operation: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// We cannot ask this system.
    #[error("{operation}: not supported on {system}")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
        /// The operating system.
        system: &'static str,
    },
}
