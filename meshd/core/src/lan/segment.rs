//! What does one read from the TUN consist of?
//!
//! With offload the kernel hands over super-packets of up to 64 KiB behind a `virtio_net_hdr` (virtio specification
//! 1.2, section 5.1.6). They are routed once and cut here, each segment with its headers and checksums mended.

use std::net::IpAddr;

use super::{checksum::Sum, congestion, fragments, ip::IpHeader, mss};
use crate::queue::ecn::Ecn;

/// Length of `virtio_net_hdr` in front of each frame.
pub const VNET_HEADER: usize = 10;
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type when the flow uses ECN: only the first segment keeps CWR (RFC 3168 section 6.1.2).
const GSO_ECN: u8 = 0x80;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_FIN_PSH: u8 = 0x01 | TCP_PSH;
/// A packet with one of these is never cut in two: FIN and PSH move to the last piece, but SYN, RST and URG stand for
/// something at one place.
const TCP_SYN_RST_URG: u8 = 0x02 | 0x04 | 0x20;
const TCP_CWR: u8 = 0x80;
const TCP_PSH: u8 = 0x08;
const TCP_ACK: u8 = 0x10;

/// Why a frame was not understood. The kernel is not an attacker, but its frames are checked like anyone's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame from the TUN")]
pub struct MalformedFrame;

/// A frame from the TUN, ready to be cut.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a mut [u8],
    ip: IpHeader,
    cut: Option<Cut>,
}

/// What becomes of the transport checksums of the packets that a super-packet is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// They are computed.
    Complete,
    /// The field holds the sum of the pseudo-header, folded and not inverted, as with `NEEDS_CSUM` (virtio 5.1.6.2);
    /// whoever takes the packet knows it by that and completes it, or merges it with others without looking. Only where
    /// it is found without a search: no IP options or extension headers, and in TCP no flag or reserved bit but ACK, and perhaps PSH.
    Open,
}

/// How a super-packet is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Length of the IP and transport headers.
    headers: usize,
    /// Payload bytes per segment.
    size: usize,
    ecn: bool,
}

impl<'a> Segments<'a> {
    /// Reads a frame: 10 bytes of header, then the IP packet. Finishes the checksum that the kernel left open on a
    /// packet that needs no cutting.
    pub fn parse(frame: &'a mut [u8]) -> Result<Self, MalformedFrame> {
        let (header, packet) = frame
            .split_first_chunk_mut::<VNET_HEADER>()
            .ok_or(MalformedFrame)?;
        let [
            flags,
            gso,
            _,
            _,
            size_lo,
            size_hi,
            start_lo,
            start_hi,
            offset_lo,
            offset_hi,
        ] = *header;
        let ip = IpHeader::parse(packet).ok_or(MalformedFrame)?;
        let kind = gso & !GSO_ECN;
        if kind == GSO_NONE {
            if flags & NEEDS_CSUM != 0 {
                let start = usize::from(u16::from_ne_bytes([start_lo, start_hi]));
                let offset = usize::from(u16::from_ne_bytes([offset_lo, offset_hi]));
                // A transport checksum; anything before would change the addresses that were just read.
                if start < ip.header_len {
                    return Err(MalformedFrame);
                }
                finish_checksum(packet, start, offset)?;
            }
            return Ok(Self {
                packet,
                ip,
                cut: None,
            });
        }
        let transport = match (kind, ip.protocol) {
            (GSO_TCPV4 | GSO_TCPV6, TCP) => {
                let offset = packet.get(ip.header_len + 12).ok_or(MalformedFrame)?;
                usize::from(offset >> 4) * 4
            }
            (GSO_UDP_L4, UDP) => 8,
            _ => return Err(MalformedFrame),
        };
        let cut = Cut {
            headers: ip.header_len + transport,
            size: usize::from(u16::from_ne_bytes([size_lo, size_hi])),
            ecn: gso & GSO_ECN != 0,
        };
        let least = if kind == GSO_UDP_L4 { 8 } else { 20 };
        if cut.size == 0 || transport < least || packet.len() <= cut.headers {
            return Err(MalformedFrame);
        }
        Ok(Self {
            packet,
            ip,
            cut: Some(cut),
        })
    }

    /// The header that all segments share in what matters for routing.
    pub fn ip(&self) -> IpHeader {
        self.ip
    }

    /// The congestion mark that all segments share.
    pub fn mark(&self) -> Ecn {
        congestion::mark(self.packet)
    }

    /// Whether none of its packets may be fragmented on the way.
    pub fn is_whole(&self) -> bool {
        fragments::is_whole(self.packet, &self.ip)
    }

    /// Whether this is the beginning of a TCP connection, see [`mss::is_syn`].
    pub fn is_syn(&self) -> bool {
        mss::is_syn(self.packet, &self.ip)
    }

    /// Lowers the segment size that it asks for, see [`mss::clamp`].
    pub fn clamp(&mut self, mtu: usize) {
        mss::clamp(self.packet, &self.ip, mtu);
    }

    /// Sees to it that no packet is longer than `mtu`, which TCP allows. False if this is not to be cut so.
    pub fn recut(&mut self, mtu: usize) -> bool {
        let cut = self.cut.or_else(|| self.single_cut());
        let Some(mut cut) = cut.filter(|cut| self.ip.protocol == TCP && cut.headers < mtu) else {
            return false;
        };
        cut.size = cut.size.min(mtu - cut.headers);
        self.cut = Some(cut);
        true
    }

    /// An ordinary TCP packet as one that is made of a single segment.
    fn single_cut(&self) -> Option<Cut> {
        let transport = self.packet.get(self.ip.header_len..self.ip.total_len)?;
        let (offset, flags) = (transport.get(12)?, transport.get(13)?);
        let headers = self.ip.header_len + usize::from(offset >> 4) * 4;
        let size = self.packet.len().checked_sub(headers)?;
        let is_plain = flags & TCP_SYN_RST_URG == 0
            && headers >= self.ip.header_len + 20
            && self.ip.total_len == self.packet.len()
            && fragments::is_unfragmented(self.packet, &self.ip);
        (is_plain && size > 0).then_some(Cut {
            headers,
            size,
            ecn: true,
        })
    }

    /// How many packets it makes.
    pub fn count(&self) -> usize {
        self.cut.map_or(1, |cut| {
            (self.packet.len() - cut.headers).div_ceil(cut.size)
        })
    }

    /// Length of packet `index`, headers included.
    pub fn len_of(&self, index: usize) -> usize {
        let Some(cut) = self.cut else {
            return self.packet.len();
        };
        let payload = self.packet.len() - cut.headers;
        cut.headers + payload.saturating_sub(index * cut.size).min(cut.size)
    }

    /// Writes packet `index` into `out`, which is [`Self::len_of`] bytes long.
    pub fn write(&self, index: usize, checksums: Checksums, out: &mut [u8]) {
        let Some(cut) = self.cut else {
            return out.copy_from_slice(self.packet);
        };
        let (headers, payload) = self.packet.split_at(cut.headers);
        let start = index * cut.size;
        let end = (start + cut.size).min(payload.len());
        let (to_headers, to_payload) = out.split_at_mut(cut.headers);
        to_headers.copy_from_slice(headers);
        to_payload.copy_from_slice(&payload[start..end]);
        self.mend_ip(index, out);
        self.mend_transport(cut, (index, end == payload.len()), checksums, out);
    }

    fn mend_ip(&self, index: usize, segment: &mut [u8]) {
        let len = segment.len();
        if self.ip.header_len == 40 && segment[0] >> 4 == 6 {
            put(segment, 4, len - 40);
            return;
        }
        put(segment, 2, len);
        let id = usize::from(u16::from_be_bytes([segment[4], segment[5]]));
        put(segment, 4, (id + index) & 0xFFFF);
        put(segment, 10, 0);
        let sum = Sum::default().plus(&segment[..self.ip.header_len]).finish();
        put(segment, 10, usize::from(sum));
    }

    fn mend_transport(
        &self,
        cut: Cut,
        (index, last): (usize, bool),
        checksums: Checksums,
        segment: &mut [u8],
    ) {
        let (_, transport) = segment.split_at_mut(self.ip.header_len);
        let len = transport.len();
        let checksum_at = if self.ip.protocol == TCP {
            let sequence =
                u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
            let ahead = u32::try_from(index * cut.size).unwrap_or(0);
            transport[4..8].copy_from_slice(&sequence.wrapping_add(ahead).to_be_bytes());
            if !last {
                transport[13] &= !TCP_FIN_PSH;
            }
            if cut.ecn && index > 0 {
                transport[13] &= !TCP_CWR;
            }
            16
        } else {
            put(transport, 4, len);
            6
        };
        put(transport, checksum_at, 0);
        let pseudo = Sum::default().add_pseudo_header(
            self.ip.source,
            self.ip.destination,
            self.ip.protocol,
            len,
        );
        if checksums == Checksums::Open && self.is_plain(transport) {
            return put(transport, checksum_at, usize::from(pseudo.folded()));
        }
        let sum = pseudo.plus(transport).finish();
        // A UDP checksum of zero would mean "none" (RFC 768).
        let sum = if sum == 0 && self.ip.protocol == UDP {
            0xFFFF
        } else {
            sum
        };
        put(transport, checksum_at, usize::from(sum));
    }

    /// Whether the checksum of a packet with this transport header is found without a search.
    fn is_plain(&self, transport: &[u8]) -> bool {
        let plain_ip = match self.ip.source {
            IpAddr::V4(_) => self.ip.header_len == 20,
            IpAddr::V6(_) => self.ip.header_len == 40,
        };
        let plain_tcp = || transport[12] & 0x0F == 0 && transport[13] & !TCP_PSH == TCP_ACK;
        plain_ip && (self.ip.protocol == UDP || plain_tcp())
    }
}

/// The kernel stored the sum of the pseudo header where the checksum belongs; the rest is ours (virtio 5.1.6.2).
fn finish_checksum(packet: &mut [u8], start: usize, offset: usize) -> Result<(), MalformedFrame> {
    let covered = packet.get_mut(start..).ok_or(MalformedFrame)?;
    let sum = Sum::default().plus(covered).finish();
    let field = covered.get_mut(offset..offset + 2).ok_or(MalformedFrame)?;
    // Zero means "no checksum" in UDP; all ones is the same number in one's complement.
    let sum = if sum == 0 { 0xFFFF } else { sum };
    field.copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Writes a 16-bit big-endian field; `value` is at most 65,535 by construction.
fn put(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
