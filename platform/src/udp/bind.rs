//! How is a UDP socket opened, and with which kernel buffers?

use super::UdpError;
use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

/// Kernel buffer asked for in each direction: a quarter of a second at 128 Mbit/s, about 60 full
/// trains, so that a busy moment of ours costs no packets.
pub const BUFFER: usize = 4 << 20;

/// No smaller buffer is asked for: it holds one train.
const LEAST_BUFFER: usize = 65_536;

/// A non-blocking socket on `address`. One of IPv6 takes IPv6 only.
pub(super) fn open(address: SocketAddr) -> Result<UdpSocket, UdpError> {
    let system = |operation| {
        move |source| UdpError::System {
            operation,
            address,
            source,
        }
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )
    .map_err(|source| bind_error(address, source))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(system("restrict"))?;
    }
    enlarge_buffers(&socket, BUFFER).map_err(system("set the buffers of"))?;
    socket
        .set_nonblocking(true)
        .map_err(system("set non-blocking"))?;
    socket
        .bind(&address.into())
        .map_err(|source| bind_error(address, source))?;
    Ok(socket.into())
}

/// How datagrams enter and leave `socket`.
pub(super) fn state(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    // This forbids fragments (DF, and IPV6_DONTFRAG) and has Linux ignore what it heard of a path's MTU (PMTUDISC_PROBE):
    // whoever sends finds that out.
    let state = UdpSocketState::new(socket.into())?;
    #[cfg(target_os = "linux")]
    {
        state.enable_transport_errors(socket.into())?;
        without_timestamps(socket)?;
    }
    Ok(state)
}

/// The library asks for timestamps too, and then has no room for the congestion mark of a train:
/// its 96 bytes for what the system tells of a message hold three of the four.
#[cfg(target_os = "linux")]
fn without_timestamps(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SO_TIMESTAMPNS, 0)
}

fn bind_error(address: SocketAddr, source: io::Error) -> UdpError {
    match source.kind() {
        io::ErrorKind::AddrInUse => UdpError::PortInUse { address },
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => {
            UdpError::AddressNotAvailable { address }
        }
        io::ErrorKind::PermissionDenied => UdpError::PermissionDenied { address },
        _ => UdpError::System {
            operation: "bind",
            address,
            source,
        },
    }
}

/// Asks for buffers of `size` bytes, beyond the administrator's limit where we have the right to; the system may grant less.
pub fn enlarge_buffers(socket: &Socket, size: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let bytes = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        let receive = set_option(socket, libc::SO_RCVBUFFORCE, bytes);
        let send = set_option(socket, libc::SO_SNDBUFFORCE, bytes);
        if receive.is_ok() && send.is_ok() {
            return Ok(());
        }
    }
    // Linux cuts the request to its limit without an error; BSD refuses it, so ask for less.
    largest_accepted(size, |size| socket.set_recv_buffer_size(size))?;
    largest_accepted(size, |size| socket.set_send_buffer_size(size))
}

fn largest_accepted(mut size: usize, set: impl Fn(usize) -> io::Result<()>) -> io::Result<()> {
    loop {
        match set(size) {
            Ok(()) => return Ok(()),
            Err(error) if size <= LEAST_BUFFER => return Err(error),
            Err(_) => size /= 2,
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) fn set_option(
    socket: &impl std::os::fd::AsRawFd,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option reads one int of the given length, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
