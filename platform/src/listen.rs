//! How does a TCP service listen on one interface only? By binding the socket to the device: the
//! address alone does not protect it, since the kernel takes packets to any of its addresses from
//! any interface (the weak host model, RFC 1122 3.3.4.2).

use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr};
use tokio::net::TcpListener;

/// Connections waiting to be accepted; more are refused by the system until some are.
const BACKLOG: i32 = 1024;

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another socket listens there.
    #[error("listen on {address} of `{device}`: the port is in use")]
    PortInUse {
        /// Where to listen.
        address: SocketAddr,
        /// On which interface.
        device: String,
    },
    /// No interface has this address.
    #[error("listen on {address} of `{device}`: this host does not have the address")]
    AddressNotAvailable {
        /// Where to listen.
        address: SocketAddr,
        /// On which interface.
        device: String,
    },
    /// The port or the binding to a device needs a privilege that the process lacks.
    #[error("listen on {address} of `{device}`: permission denied")]
    PermissionDenied {
        /// Where to listen.
        address: SocketAddr,
        /// On which interface.
        device: String,
    },
    /// There is no such interface.
    #[error("listen on {address} of `{device}`: there is no such interface")]
    NoDevice {
        /// Where to listen.
        address: SocketAddr,
        /// The missing interface.
        device: String,
    },
    /// Any other failed step.
    #[error("{operation} {address} of `{device}`: {source}")]
    System {
        /// The step.
        operation: &'static str,
        /// Where to listen.
        address: SocketAddr,
        /// On which interface.
        device: String,
        /// The system's reason.
        source: io::Error,
    },
    /// This system cannot bind a socket to an interface.
    #[error("listen on {address} of `{device}` only: not supported on {system}")]
    Unsupported {
        /// Where to listen.
        address: SocketAddr,
        /// On which interface.
        device: String,
        /// The operating system.
        system: &'static str,
    },
}

/// Listens on `address` for connections that arrive over `device` only. Several listeners may have
/// the same address and port on different devices (say `mesh0` for peers and `lo` for the host
/// itself). Linux 6.18 gives the host's own connections to an address of `mesh0` to the listener
/// on `mesh0`, although they travel over `lo`; with both, they are served in any case. Must be
/// called inside a tokio runtime with I/O enabled.
pub fn listen_on_device(address: SocketAddr, device: &str) -> Result<TcpListener, ListenError> {
    let fail = |operation, source| listen_error(operation, address, device, source);
    let kind = Type::STREAM;
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
        .map_err(|source| fail("open a socket for", source))?;
    if address.is_ipv6() {
        let result = socket.set_only_v6(true);
        result.map_err(|source| fail("restrict", source))?;
    }
    // A restart must not wait for old connections to time out. On Windows the option would let a
    // foreign process steal the port, but there we do not come further anyway.
    #[cfg(unix)]
    socket
        .set_reuse_address(true)
        .map_err(|source| fail("reuse", source))?;
    bind_to_device(&socket, address, device)?;
    socket
        .bind(&address.into())
        .map_err(|source| fail("listen on", source))?;
    socket
        .listen(BACKLOG)
        .map_err(|source| fail("listen on", source))?;
    socket
        .set_nonblocking(true)
        .map_err(|source| fail("set non-blocking", source))?;
    TcpListener::from_std(socket.into()).map_err(|source| fail("register", source))
}

#[cfg(target_os = "linux")]
fn bind_to_device(socket: &Socket, address: SocketAddr, device: &str) -> Result<(), ListenError> {
    socket
        .bind_device(Some(device.as_bytes()))
        .map_err(|source| listen_error("bind to the device", address, device, source))
}

#[cfg(target_os = "macos")]
fn bind_to_device(socket: &Socket, address: SocketAddr, device: &str) -> Result<(), ListenError> {
    let fail = |source| listen_error("bind to the device", address, device, source);
    let name = std::ffi::CString::new(device).map_err(|error| fail(error.into()))?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let Some(index) = std::num::NonZeroU32::new(index) else {
        return Err(ListenError::NoDevice {
            address,
            device: device.to_owned(),
        });
    };
    let result = if address.is_ipv4() {
        socket.bind_device_by_index_v4(Some(index))
    } else {
        socket.bind_device_by_index_v6(Some(index))
    };
    result.map_err(fail)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn bind_to_device(_socket: &Socket, address: SocketAddr, device: &str) -> Result<(), ListenError> {
    Err(ListenError::Unsupported {
        address,
        device: device.to_owned(),
        system: std::env::consts::OS,
    })
}

fn listen_error(
    operation: &'static str,
    address: SocketAddr,
    device: &str,
    source: io::Error,
) -> ListenError {
    let device = device.to_owned();
    #[cfg(unix)]
    if source.raw_os_error() == Some(libc::ENODEV) {
        return ListenError::NoDevice { address, device };
    }
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::PortInUse { address, device },
        io::ErrorKind::AddrNotAvailable => ListenError::AddressNotAvailable { address, device },
        io::ErrorKind::PermissionDenied => ListenError::PermissionDenied { address, device },
        _ => ListenError::System {
            operation,
            address,
            device,
            source,
        },
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
