//! How do IP packets enter and leave the host? Through a TUN interface that lives exactly as long
//! as its [`Tun`], carrying super-packets with a virtio header where the kernel has offload.

mod checksum;
mod error;
mod offload;
mod segment;

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod device;
#[cfg(any(target_os = "macos", windows))]
#[path = "portable.rs"]
mod device;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
#[path = "absent.rs"]
mod device;

#[cfg(test)]
mod segmenter;
#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use error::TunError;
pub use offload::{Coalescer, Frame, Merge};

use device::Device;
use ipnet::IpNet;
use std::io;

/// Bytes of `virtio_net_hdr` (virtio 1.2, 5.1.6) in front of each packet that [`Tun::try_read`]
/// gives. Without offload the header is present and all zero. Fields are in native byte order.
/// Linux fills `hdr_len` with the length of its linear buffer, which may reach into the payload:
/// find the payload by the packet's own headers. With `NEEDS_CSUM` the transport checksum
/// field holds the sum of the pseudo-header only, also in packets that are not super-packets.
pub const VNET_HEADER: usize = 10;

/// A buffer of this many bytes holds whatever one [`Tun::try_read`] can give.
pub const MAX_FRAME: usize = VNET_HEADER + 65_535;

/// What the interface shall be.
#[derive(Debug, Clone)]
pub struct TunConfig {
    /// Interface name, 1 to 15 bytes. macOS takes only `utunN` and picks one itself for other
    /// names: ask [`Tun::name`] afterwards.
    pub name: String,
    /// Largest IP packet in bytes; below 1280 the interface carries no IPv6.
    pub mtu: u16,
    /// Own addresses, each with the prefix length of the network it belongs to; the system adds the
    /// connected routes.
    pub addresses: Vec<IpNet>,
    /// Ask for segmentation offload. The kernel may have less: see [`Tun::offload`].
    pub offload: bool,
    /// Segments of one super-packet that the system should make at most, where it can be told.
    pub super_packet_segments: Option<u16>,
    /// Whether [`Tun::another_queue`] will be called. Linux only.
    pub multi_queue: bool,
}

/// What became of the packets of one [`Tun::put`] or [`Tun::flush`].
#[derive(Debug, Default)]
pub struct WriteReport {
    /// IP packets (before merging) that the system accepted.
    pub packets: usize,
    /// System calls that delivered them.
    pub writes: usize,
    /// IP packets that the system refused; they are lost.
    pub refused: usize,
    /// Why the last refused one was refused.
    pub refusal: Option<io::Error>,
}

/// A TUN interface. Dropping it, or the end of the process by whatever means, removes the
/// interface with its addresses and routes.
pub struct Tun {
    device: Device,
}

impl Tun {
    /// Creates the interface, gives it MTU and addresses and sets it up. Must be called inside a
    /// tokio runtime with I/O enabled.
    pub async fn create(config: &TunConfig) -> Result<Self, TunError> {
        Ok(Self {
            device: Device::create(config).await?,
        })
    }

    /// One more queue of the same interface, for another thread. The system gives packets of one
    /// flow to the queue into which the flow's other direction was last written. The interface
    /// lives until the last one is dropped.
    pub fn another_queue(&self) -> io::Result<Self> {
        Ok(Self {
            device: self.device.another_queue()?,
        })
    }

    /// For whoever waits for it.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.device.descriptor()
    }

    /// The interface's name as the system knows it.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// True if reads may give super-packets and writes may merge packets (TCP at least).
    pub fn offload(&self) -> bool {
        self.device.merge().tcp
    }

    /// True if whatever a [`Coalescer`] takes may hold the sum of its pseudo-header instead of a TCP or UDP
    /// checksum, if it has payload, is no fragment, has no IP options or extension headers, and of TCP's
    /// flags and reserved bits only ACK, and perhaps PSH.
    pub fn completes_checksums(&self) -> bool {
        let Merge { tcp, udp } = self.device.merge();
        tcp && udp
    }

    /// A coalescer that merges what this device can take.
    pub fn coalescer(&self) -> Coalescer {
        Coalescer::new(self.device.merge())
    }

    /// Waits until [`Tun::try_read`] may succeed.
    #[cfg(not(unix))]
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.device.readable().await
    }

    /// Reads one virtio header and IP packet (up to 64 KiB with offload) and returns their length
    /// together, at least [`VNET_HEADER`]. `WouldBlock` when there is none. A packet larger than
    /// `buffer` is truncated, so give [`MAX_FRAME`] bytes.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.try_read(buffer)
    }

    /// Takes plain IP packets in order to write them, neighbours of one flow merged, with the next
    /// [`Tun::flush`]; writes only what `coalescer` has no room for. Fails only if the device is
    /// gone; a packet that the system refuses is counted in the report.
    pub fn put<'a>(
        &self,
        packets: impl IntoIterator<Item = &'a [u8]>,
        coalescer: &mut Coalescer,
    ) -> io::Result<WriteReport> {
        let mut report = WriteReport::default();
        for packet in packets {
            if !coalescer.push(packet) {
                self.flush_into(coalescer, &mut report)?;
                let taken = coalescer.push(packet);
                debug_assert!(taken, "an empty coalescer takes any packet");
            }
        }
        Ok(report)
    }

    /// Writes what `coalescer` holds and empties it; errors as [`Tun::put`].
    pub fn flush(&self, coalescer: &mut Coalescer) -> io::Result<WriteReport> {
        let mut report = WriteReport::default();
        self.flush_into(coalescer, &mut report)?;
        Ok(report)
    }

    fn flush_into(&self, coalescer: &mut Coalescer, report: &mut WriteReport) -> io::Result<()> {
        let mut gone = None;
        for frame in coalescer.finish() {
            match self.device.try_write(frame.bytes) {
                Ok(()) => {
                    report.packets += frame.packets;
                    report.writes += 1;
                }
                Err(error) if device::is_gone(&error) => {
                    gone = Some(error);
                    break;
                }
                Err(error) => {
                    report.refused += frame.packets;
                    report.refusal = Some(error);
                }
            }
        }
        coalescer.clear();
        gone.map_or(Ok(()), Err)
    }
}

impl std::fmt::Debug for Tun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tun")
            .field("name", &self.name())
            .field("merge", &self.device.merge())
            .finish_non_exhaustive()
    }
}
