//! Why could a TUN interface not be made?

use ipnet::IpNet;
use std::io;

/// A TUN interface could not be created or configured; nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel offers no TUN device node (module not loaded, container without the device).
    #[error("create TUN `{name}`: there is no /dev/net/tun")]
    NoDevice {
        /// The interface that was to be made.
        name: String,
    },
    /// The process lacks `CAP_NET_ADMIN` (or administrator rights).
    #[error("create TUN `{name}`: permission denied")]
    PermissionDenied {
        /// The interface that was to be made.
        name: String,
    },
    /// Another interface has this name.
    #[error("create TUN `{name}`: an interface of this name exists already")]
    NameTaken {
        /// The interface that was to be made.
        name: String,
    },
    /// The system cannot name an interface so.
    #[error(
        "create TUN `{name}`: an interface name is 1 to 15 bytes without `/`, `:`, `%` or space"
    )]
    InvalidName {
        /// The name that was asked for.
        name: String,
    },
    /// The system did not accept the address.
    #[error("add address {address} to TUN `{name}`: {source}")]
    AddressRefused {
        /// The new interface.
        name: String,
        /// The address that was refused.
        address: IpNet,
        /// The system's reason.
        source: io::Error,
    },
    /// The system did not accept the MTU.
    #[error("set MTU {mtu} of TUN `{name}`: {source}")]
    MtuRefused {
        /// The new interface.
        name: String,
        /// The MTU that was refused, in bytes.
        mtu: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// Any other failed step.
    #[error("{operation} TUN `{name}`: {source}")]
    System {
        /// The step.
        operation: &'static str,
        /// The interface that was to be made.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// This system has no TUN device that we can drive.
    #[error("create TUN `{name}`: not supported on {system}")]
    Unsupported {
        /// The interface that was to be made.
        name: String,
        /// The operating system.
        system: &'static str,
    },
}

/// Refuses what no system takes as a name. `%` would make Linux number the interface itself.
pub(super) fn check_name(name: &str) -> Result<(), TunError> {
    let legal = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
    if legal {
        Ok(())
    } else {
        Err(TunError::InvalidName {
            name: name.to_owned(),
        })
    }
}
