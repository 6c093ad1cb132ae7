//! How do datagrams go out and come in by the train? One UDP socket with segmentation offload on
//! send, receive offload and several messages per system call, as far as the system has them.

mod bind;
mod errors;
mod hop_limit;
pub mod trains;

pub use bind::{BUFFER, enlarge_buffers};
pub use errors::{Report, TooLong};
pub use hop_limit::HOP_LIMITS;
use quinn_udp::{EcnCodepoint, Transmit, UdpSocketState};
use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

/// Most bytes in one train: 65,535 less the IPv6 header (40) and the UDP header (8), which is also
/// right for IPv4.
const MAX_TRAIN: usize = 65_535 - 48;

/// One message slot; a received train is one IP packet to the system, so it always fits.
const SLOT: usize = 65_536;

/// Messages taken by one system call at most. Pages of slots that stay empty are never touched.
pub const SLOTS: usize = 16;

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
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// Segments per send. Kept apart from `state`, which gives offload up for good after any
    /// `EINVAL`, although a bad destination causes that too.
    gso_segments: usize,
    /// What `state` gave at first.
    first_segments: usize,
}

/// Where a train goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The receiver.
    pub address: SocketAddr,
    /// Our address to send from; `None` leaves it to the system.
    pub source_ip: Option<IpAddr>,
    /// ECN field of the IP header (RFC 3168), 0 to 3.
    pub ecn: u8,
    /// Hop limit (IPv4: TTL) of the IP header instead of the system's; see [`HOP_LIMITS`]. The system then also chooses
    /// the source and no ECN field is set.
    pub hop_limit: Option<u8>,
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
    pub fn bind(address: SocketAddr) -> Result<Self, UdpError> {
        let system = |operation| {
            move |source| UdpError::System {
                operation,
                address,
                source,
            }
        };
        let socket = bind::open(address)?;
        let state = bind::state(&socket).map_err(system("configure"))?;
        let local = socket.local_addr().map_err(system("read the address of"))?;
        Ok(Self {
            gso_segments: state.max_gso_segments().max(1),
            first_segments: state.max_gso_segments(),
            socket,
            state,
            local,
        })
    }

    /// The bound address with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// For whoever waits for it.
    pub(crate) fn std(&self) -> &std::net::UdpSocket {
        &self.socket
    }

    /// Datagrams that one system call sends; 1 without segmentation offload. Falls to 1 when the
    /// network device turns out not to do it.
    pub fn max_gso_segments(&self) -> usize {
        self.gso_segments
    }

    /// Datagrams that one received train may hold; 1 without receive offload.
    pub fn gro_segments(&self) -> usize {
        self.state.gro_segments()
    }

    /// Sends `contents` as datagrams of `segment_size` bytes, the last one perhaps shorter. Returns
    /// how many bytes went out, always whole datagrams; fewer than all only when the rest met an
    /// error, which the next call on the rest reports. `WouldBlock`: nothing went out, wait until
    /// the socket is writable. Any other error concerns this destination only, the socket stays
    /// usable.
    pub fn try_send(
        &mut self,
        to: Destination,
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
            match self.send_train(to, train, segment_size) {
                Ok(length) => sent += length,
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
            if sent == contents.len() {
                return Ok(sent);
            }
        }
    }

    /// Receives at most `most` trains, and no more than `buffers` hold, and calls `each` with every
    /// one and its bytes, which it may change in place. Returns how many there were; 0 means
    /// that only empty datagrams or a late ICMP error were met. `WouldBlock` when there is nothing.
    pub fn try_recv(
        &self,
        buffers: &mut RecvBuffers,
        most: usize,
        mut each: impl FnMut(RecvMeta, &mut [u8]),
    ) -> io::Result<usize> {
        let most = most.clamp(1, SLOTS);
        let mut metas = [quinn_udp::RecvMeta::default(); SLOTS];
        let received = {
            let mut slots = buffers.storage.chunks_exact_mut(SLOT);
            let mut slices: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| {
                IoSliceMut::new(slots.next().expect("the storage has SLOTS slots"))
            });
            let into = (&mut slices[..most], &mut metas[..most]);
            self.state.recv((&self.socket).into(), into.0, into.1)
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
        &mut self,
        to: Destination,
        train: &[u8],
        segment_size: usize,
    ) -> io::Result<usize> {
        if let Some(hop_limit) = to.hop_limit {
            let first = &train[..train.len().min(segment_size)];
            return hop_limit::send(&self.socket, to.address, hop_limit, first);
        }
        let send = |contents| {
            let transmit = Transmit {
                destination: to.address,
                ecn: EcnCodepoint::from_bits(to.ecn),
                contents,
                segment_size: Some(segment_size),
                src_ip: to.source_ip,
            };
            self.state.try_send((&self.socket).into(), &transmit)
        };
        let sent = match send(train) {
            Err(error) if may_be_of_another(&error) => send(train),
            sent => sent,
        };
        let error = match sent {
            Ok(()) => {
                self.forget_trouble();
                return Ok(train.len());
            }
            Err(error) => error,
        };
        if train.len() <= segment_size || !may_blame_offload(&error) {
            return Err(error);
        }
        send(&train[..segment_size])?;
        if !quinn_udp::is_msg_size_err(&error) {
            self.gso_segments = 1;
        }
        self.forget_trouble();
        Ok(segment_size)
    }

    /// After one refused message, such as that of an address that is gone, the library sends no
    /// congestion mark over IPv4 any more. It shows that by a second thing that it gives up.
    fn forget_trouble(&mut self) {
        if self.state.max_gso_segments() >= self.first_segments {
            return;
        }
        match bind::state(&self.socket) {
            Ok(state) => self.state = state,
            Err(error) => tracing::debug!(%error, "congestion marks may be lost"),
        }
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

/// What an ICMP error to an earlier datagram of ours may make of this send on Linux: it is told once and hinders nothing.
fn may_be_of_another(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_protocol_error = error.raw_os_error() == Some(libc::EPROTO);
    #[cfg(not(unix))]
    let is_protocol_error = false;
    is_late_icmp(error) || quinn_udp::is_msg_size_err(error) || is_protocol_error
}

/// Systems report an ICMP error to an earlier datagram of ours on the next receive, Linux also on the next send.
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

#[cfg(test)]
mod tests;
