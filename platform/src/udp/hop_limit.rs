//! How does one datagram leave with a hop limit of its own, while all others keep the system's? The system must take it
//! beside the message: an option of the socket would hold for every other message too.

#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

/// Whether [`super::Destination::hop_limit`] is honoured here.
pub const HOP_LIMITS: bool = cfg!(target_os = "linux");

/// Bytes for one control message (RFC 3542 section 4.2) with an int, at most.
#[cfg(target_os = "linux")]
const CONTROL: usize = 32;

/// Sends one datagram with this hop limit (IPv4: TTL) and returns its length.
#[cfg(target_os = "linux")]
pub(super) fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    hop_limit: u8,
    datagram: &[u8],
) -> io::Result<usize> {
    let (level, kind) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
    };
    let mut control = [0_u64; CONTROL / size_of::<u64>()];
    let mut message = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: all fields of a `msghdr` may be zero. CMSG_FIRSTHDR then points to the start of `control`, which is
    // aligned for a `cmsghdr` and has room for one with an int.
    let len = unsafe {
        let message = message.assume_init_mut();
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL as _;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as _) as _;
        let value = libc::c_int::from(hop_limit);
        libc::CMSG_DATA(header)
            .cast::<libc::c_int>()
            .write_unaligned(value);
        libc::CMSG_SPACE(size_of::<libc::c_int>() as _) as usize
    };
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let address = socket2::SockAddr::from(to);
    let contents = [io::IoSlice::new(datagram)];
    let message = socket2::MsgHdr::new()
        .with_addr(&address)
        .with_buffers(&contents)
        .with_control(&control[..len]);
    socket2::SockRef::from(socket).sendmsg(&message, libc::MSG_NOSIGNAL)
}

/// Nothing is sent: with another hop limit it would do harm.
#[cfg(not(target_os = "linux"))]
pub(super) fn send(_: &UdpSocket, _: SocketAddr, _: u8, _: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
