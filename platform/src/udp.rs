//! How do datagrams go out and come in by the train? One UDP socket with segmentation offload on
//! send, receive offload and several messages per system call, as far as the system has them.

use quinn_udp::{Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::io::Interest;

/// Kernel buffer asked for in each direction: a quarter of a second at 128 Mbit/s, about 60 full
/// trains, so that a busy moment of ours costs no packets.
const SOCKET_BUFFER: usize = 4 << 20;

/// Most bytes in one train: 65,535 less the IPv6 header (40) and the UDP header (8), which is also
/// right for IPv4.
const MAX_TRAIN: usize = 65_535 - 48;

/// One message slot; a received train is one IP packet to the system, so it always fits.
const SLOT: usize = 65_536;

/// Messages taken by one system call. Pages of slots that stay empty are never touched.
const SLOTS: usize = 16;

/// A UDP socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Another socket has the port.
    #[error("bind UDP {address}: the port is in use")]
    PortInUse {
        /// What was to be bound.
        address: SocketAddr,
    },
    /// The host does not have this address (or not this IP version).
    #[error("bind UDP {address}: this host does not have the address")]
    AddressNotAvailable {
        /// What was to be bound.
        address: SocketAddr,
    },
    /// The port needs a privilege that the process lacks.
    #[error("bind UDP {address}: permission denied")]
    PermissionDenied {
        /// What was to be bound.
        address: SocketAddr,
    },
    /// Any other failed step.
    #[error("{operation} UDP {address}: {source}")]
    System {
        /// The step.
        operation: &'static str,
        /// What was to be bound.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// A bound, unconnected UDP socket of one IP version.
#[derive(Debug)]
pub struct UdpSocket {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// Segments per send. Kept apart from `state`, which gives offload up for good after any
    /// `EINVAL`, although a bad destination causes that too.
    gso_segments: AtomicUsize,
}

/// Where a received train came from and how it divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvMeta {
    /// Sender.
    pub from: SocketAddr,
    /// Our address that it was sent to, where the system tells.
    pub to_ip: Option<IpAddr>,
    /// Bytes of each datagram but the last, which may be shorter; at least 1.
    pub stride: usize,
    /// ECN field of the outer IP header (RFC 3168), 0 to 3.
    pub ecn: u8,
}

/// Memory for one [`UdpSocket::try_recv`], reused for all of them.
pub struct RecvBuffers {
    storage: Vec<u8>,
}

impl RecvBuffers {
    /// Reserves 1 MiB of address space.
    pub fn new() -> Self {
        Self {
            storage: vec![0; SLOT * SLOTS],
        }
    }
}

impl Default for RecvBuffers {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RecvBuffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBuffers").finish_non_exhaustive()
    }
}

impl UdpSocket {
    /// Binds `address` (port 0 = any) with large kernel buffers. An IPv6 socket takes IPv6 only.
    /// Must be called inside a tokio runtime with I/O enabled.
    pub fn bind(address: SocketAddr) -> Result<Self, UdpError> {
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
        enlarge_buffers(&socket).map_err(system("set the buffers of"))?;
        socket
            .set_nonblocking(true)
            .map_err(system("set non-blocking"))?;
        socket
            .bind(&address.into())
            .map_err(|source| bind_error(address, source))?;
        let socket = tokio::net::UdpSocket::from_std(socket.into()).map_err(system("register"))?;
        let state = UdpSocketState::new((&socket).into()).map_err(system("configure"))?;
        let local = socket.local_addr().map_err(system("read the address of"))?;
        Ok(Self {
            gso_segments: AtomicUsize::new(state.max_gso_segments().max(1)),
            socket,
            state,
            local,
        })
    }

    /// The bound address with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams that one system call sends; 1 without segmentation offload. Falls to 1 when the
    /// network device turns out not to do it.
    pub fn max_gso_segments(&self) -> usize {
        self.gso_segments.load(Ordering::Relaxed)
    }

    /// Datagrams that one received train may hold; 1 without receive offload.
    pub fn gro_segments(&self) -> usize {
        self.state.gro_segments()
    }

    /// Waits until [`UdpSocket::try_recv`] may succeed.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Waits until [`UdpSocket::try_send`] may succeed after a `WouldBlock`.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Sends `contents` to one destination as datagrams of `segment_size` bytes, the last one
    /// perhaps shorter, from `source_ip` if given. Returns how many bytes went out, always whole
    /// datagrams; fewer than all only when the rest met an error, which the next call on the
    /// rest reports. `WouldBlock`: nothing went out, wait for [`UdpSocket::writable`]. Any other
    /// error concerns this destination only, the socket stays usable.
    pub fn try_send(
        &self,
        destination: SocketAddr,
        source_ip: Option<IpAddr>,
        contents: &[u8],
        segment_size: usize,
    ) -> io::Result<usize> {
        if segment_size == 0 || segment_size > MAX_TRAIN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut sent = 0;
        loop {
            let rest = &contents[sent..];
            let segments = (MAX_TRAIN / segment_size).min(self.max_gso_segments());
            let train = &rest[..rest.len().min(segments * segment_size)];
            match self.send_train(destination, source_ip, train, segment_size) {
                Ok(length) => sent += length,
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
            if sent == contents.len() {
                return Ok(sent);
            }
        }
    }

    /// Receives several trains and calls `each` with every one and its bytes, which it may change
    /// in place. Returns how many there were; 0 means that only empty datagrams or a late ICMP
    /// error were met. `WouldBlock` when there is nothing.
    pub fn try_recv(
        &self,
        buffers: &mut RecvBuffers,
        mut each: impl FnMut(RecvMeta, &mut [u8]),
    ) -> io::Result<usize> {
        let mut metas = [quinn_udp::RecvMeta::default(); SLOTS];
        let received = {
            let mut slots = buffers.storage.chunks_exact_mut(SLOT);
            let mut slices: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| {
                IoSliceMut::new(slots.next().expect("the storage has SLOTS slots"))
            });
            self.socket.try_io(Interest::READABLE, || {
                self.state
                    .recv((&self.socket).into(), &mut slices, &mut metas)
            })
        };
        let received = match received {
            Ok(count) => count,
            Err(error) if is_late_icmp(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut trains = 0;
        let slots = buffers.storage.chunks_exact_mut(SLOT);
        for (meta, slot) in metas[..received].iter().zip(slots) {
            let bytes = &mut slot[..meta.len.min(SLOT)];
            if bytes.is_empty() {
                continue;
            }
            trains += 1;
            let meta = RecvMeta {
                from: meta.addr,
                to_ip: meta.dst_ip,
                stride: meta.stride.clamp(1, bytes.len()),
                ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
            };
            each(meta, bytes);
        }
        Ok(trains)
    }

    /// Sends one train by one system call. If offload could be what the system dislikes, sends
    /// its first datagram alone and gives up offload only if that one passes.
    fn send_train(
        &self,
        destination: SocketAddr,
        source_ip: Option<IpAddr>,
        train: &[u8],
        segment_size: usize,
    ) -> io::Result<usize> {
        let transmit = |contents| Transmit {
            destination,
            ecn: None,
            contents,
            segment_size: Some(segment_size),
            src_ip: source_ip,
        };
        let error = match self.transmit(&transmit(train)) {
            Ok(()) => return Ok(train.len()),
            Err(error) => error,
        };
        if train.len() <= segment_size || !may_blame_offload(&error) {
            return Err(error);
        }
        self.transmit(&transmit(&train[..segment_size]))?;
        if !quinn_udp::is_msg_size_err(&error) {
            self.gso_segments.store(1, Ordering::Relaxed);
        }
        Ok(segment_size)
    }

    fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || self.state.try_send((&self.socket).into(), transmit);
        // First without asking tokio, which knows a new socket as writable only after its first
        // turn; then through it, so that a full buffer clears the readiness.
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.try_io(Interest::WRITABLE, send)
            }
            result => result,
        }
    }
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

/// Errors that a device without segmentation offload gives; the first two have other causes too.
fn may_blame_offload(error: &io::Error) -> bool {
    #[cfg(unix)]
    let refused = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL));
    #[cfg(not(unix))]
    let refused = error.kind() == io::ErrorKind::InvalidInput;
    refused || quinn_udp::is_msg_size_err(error)
}

/// Some systems report an ICMP error to an earlier datagram of ours on the next receive.
fn is_late_icmp(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

/// Asks for large buffers, beyond the administrator's limit where we have the right to.
fn enlarge_buffers(socket: &Socket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let receive = force_buffer(socket, libc::SO_RCVBUFFORCE);
        let send = force_buffer(socket, libc::SO_SNDBUFFORCE);
        if receive.is_ok() && send.is_ok() {
            return Ok(());
        }
    }
    // Linux cuts the request to its limit without an error; BSD refuses it, so ask for less.
    largest_accepted(|size| socket.set_recv_buffer_size(size))?;
    largest_accepted(|size| socket.set_send_buffer_size(size))
}

fn largest_accepted(set: impl Fn(usize) -> io::Result<()>) -> io::Result<()> {
    let mut size = SOCKET_BUFFER;
    loop {
        match set(size) {
            Ok(()) => return Ok(()),
            Err(error) if size <= SLOT => return Err(error),
            Err(_) => size /= 2,
        }
    }
}

#[cfg(target_os = "linux")]
fn force_buffer(socket: &Socket, option: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let size = SOCKET_BUFFER as libc::c_int;
    // SAFETY: the option reads one int of the given length, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
