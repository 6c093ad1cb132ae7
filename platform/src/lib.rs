//! Everything that touches the operating system: the TUN device, batched UDP, addresses and
//! routes, files that must stay beneath a root, secrets on disk. The only crate with `unsafe` code
//! and with `cfg(target_os)`. Linux is complete; elsewhere what the system lacks is an error.

pub mod beneath;
pub mod clock;
pub mod cpu;
pub mod files;
pub mod hostname;
pub mod limits;
pub mod listen;
pub mod local_socket;
pub mod net;
pub mod priority;
pub mod privilege;
pub mod readiness;
pub mod signals;
pub mod tcp;
pub mod tun;
pub mod udp;

#[cfg(all(test, target_os = "linux"))]
mod testing;
