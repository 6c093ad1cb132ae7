//! Which datagrams of ours were too long for some link? What the system tells of it, and what routers say (ICMP); where a
//! system does not pass that on, nothing.

use super::UdpSocket;
use std::net::SocketAddr;

/// A datagram did not pass for its length.
#[derive(Debug)]
pub struct TooLong {
    /// Where it went. Port 0 where the system does not say.
    pub to: SocketAddr,
    /// The longest IP packet that passes, in bytes, as whoever refused it says.
    pub mtu: u32,
    /// Whether our own system refused it, rather than a router.
    pub local: bool,
    /// What the router quotes of the UDP payload.
    quote: [u8; QUOTE],
    len: usize,
}

/// Enough to recognise a WireGuard message.
const QUOTE: usize = 64;

impl TooLong {
    /// What the router quotes of the UDP payload: anybody can write such a message, but only who saw the datagram can
    /// quote it.
    pub fn quoted(&self) -> &[u8] {
        &self.quote[..self.len]
    }
}

/// What stood first in the queue of errors.
#[derive(Debug)]
pub enum Report {
    /// A datagram was too long.
    TooLong(TooLong),
    /// Another error about something that we sent.
    Other,
}

impl UdpSocket {
    /// Takes the next error that waits on this socket.
    pub fn next_error(&self) -> Option<Report> {
        #[cfg(target_os = "linux")]
        return linux::next_error(self.std());
        #[cfg(not(target_os = "linux"))]
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{QUOTE, Report, TooLong};
    use socket2::{SockAddr, SockAddrStorage};
    use std::{net::UdpSocket, os::fd::AsRawFd as _};

    /// Bytes for what the system tells of one error: its description and the address of the router, in either IP version.
    const CONTROL: usize = 256;

    #[repr(align(8))]
    struct Control([u8; CONTROL]);

    pub(super) fn next_error(socket: &UdpSocket) -> Option<Report> {
        let (mut quote, mut control) = ([0; QUOTE], Control([0; CONTROL]));
        let mut storage = SockAddrStorage::zeroed();
        let mut slice = libc::iovec {
            iov_base: quote.as_mut_ptr().cast(),
            iov_len: QUOTE,
        };
        // SAFETY: a message header of zeros is one without any buffers.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = (&raw mut storage).cast();
        header.msg_namelen = storage.size_of();
        header.msg_iov = &raw mut slice;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        // Libraries of C differ in the type of this length, and of the one below.
        header.msg_controllen = CONTROL as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: all buffers that the header names live until the call has returned, with the lengths that it states.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        let len = usize::try_from(received).ok()?.min(QUOTE);
        let Some(error) = described(&header) else {
            return Some(Report::Other);
        };
        let local = error.ee_origin == libc::SO_EE_ORIGIN_LOCAL;
        let icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin);
        // SAFETY: the call filled the storage and set its length.
        let to = unsafe { SockAddr::new(storage, header.msg_namelen) }.as_socket();
        match to {
            Some(to) if error.ee_errno == libc::EMSGSIZE as u32 && (local || icmp) => {
                Some(Report::TooLong(TooLong {
                    to,
                    mtu: error.ee_info,
                    local,
                    quote,
                    len,
                }))
            }
            Some(_) | None => Some(Report::Other),
        }
    }

    /// The system's description among the control messages.
    fn described(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
        // SAFETY: the header is that of a received message, whose control buffer is aligned and still alive.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !message.is_null() {
            // SAFETY: the pointer came from the iteration over that buffer.
            let (level, kind, len) = unsafe {
                (
                    (*message).cmsg_level,
                    (*message).cmsg_type,
                    (*message).cmsg_len,
                )
            };
            let is_error = matches!(
                (level, kind),
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            );
            // SAFETY: this only computes a length.
            let least = unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) };
            if is_error && len >= least as _ {
                // SAFETY: the message is long enough for the description, which has no invalid values.
                return Some(unsafe {
                    libc::CMSG_DATA(message)
                        .cast::<libc::sock_extended_err>()
                        .read_unaligned()
                });
            }
            // SAFETY: as for the first one.
            message = unsafe { libc::CMSG_NXTHDR(header, message) };
        }
        None
    }
}
