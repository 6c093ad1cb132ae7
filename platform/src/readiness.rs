//! What is there to read? One thread waits for the interface, the sockets and a bell that other
//! threads ring, all at once.

#[cfg(unix)]
mod alarm;
#[cfg(unix)]
#[path = "readiness/unix.rs"]
mod system;
#[cfg(not(unix))]
#[path = "readiness/portable.rs"]
mod system;

pub use system::{ADDITIONAL_SOCKETS, Bell, Watch};

/// What a wait ended with; nothing of it if the time was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// The interface has a packet, or is gone: a read tells.
    pub tun: bool,
    /// The sockets, in the order in which they were given, have a datagram or an error.
    pub sockets: [bool; 2],
    /// Of those, which have errors to be taken.
    pub errors: [bool; 2],
    /// Somebody rang the bell.
    pub bell: bool,
}

/// An additional socket that has a datagram or an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Additional {
    /// Its place among those that were given.
    pub socket: usize,
    /// Whether it has errors to be taken.
    pub error: bool,
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
