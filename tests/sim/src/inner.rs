//! Which packets do the simulated hosts send each other over the mesh? Echo requests that say who they are.

use std::net::{IpAddr, Ipv4Addr};

use mesh_core::lan::{checksum::Sum, ip::IpHeader};

/// Length of the `virtio_net_hdr` in front of each frame from a TUN; all zero means an ordinary packet.
const VNET_HEADER: usize = 10;
const IP_HEADER: usize = 20;
const ECHO_HEADER: usize = 8;
const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;

/// In every packet's payload. An eavesdropper that sees it on a link has found plaintext.
pub const SECRET: &[u8; 16] = b"plaintext inside";

/// An ICMP echo (RFC 792) between two mesh addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The sender's mesh address.
    pub source: Ipv4Addr,
    /// The receiver's mesh address.
    pub destination: Ipv4Addr,
    /// Request or reply.
    pub request: bool,
    /// Identifier and sequence number together: unique in a run.
    pub id: u32,
}

impl Echo {
    /// The answer to a request.
    pub fn reply(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            request: false,
            id: self.id,
        }
    }

    /// The IP packet, `len` bytes long or as long as it must be.
    pub fn packet(self, len: usize) -> Vec<u8> {
        let len = len.max(IP_HEADER + ECHO_HEADER + SECRET.len());
        let mut packet = vec![0x5A; len];
        packet[..IP_HEADER].fill(0);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        // Not to be fragmented, as ping on Linux sends it.
        packet[6] = 0x40;
        packet[8] = 64;
        packet[9] = ICMP;
        packet[12..16].copy_from_slice(&self.source.octets());
        packet[16..20].copy_from_slice(&self.destination.octets());
        let sum = Sum::default().plus(&packet[..IP_HEADER]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let echo = &mut packet[IP_HEADER..];
        echo[..4].copy_from_slice(&[if self.request { ECHO_REQUEST } else { 0 }, 0, 0, 0]);
        echo[4..8].copy_from_slice(&self.id.to_be_bytes());
        echo[8..8 + SECRET.len()].copy_from_slice(SECRET);
        let sum = Sum::default().plus(echo).finish();
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// Reads a packet that [`Self::packet`] made.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let ip = IpHeader::parse(packet)?;
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (ip.source, ip.destination) else {
            return None;
        };
        let echo = packet.get(IP_HEADER..)?;
        let id = echo.get(4..8)?.try_into().ok()?;
        Some(Self {
            source,
            destination,
            request: *echo.first()? == ECHO_REQUEST,
            id: u32::from_be_bytes(id),
        })
    }
}

/// What an ICMP error says that the path carries, and to whom; `None` if it is none about a packet that was too big.
pub fn too_big(packet: &[u8]) -> Option<(IpAddr, usize)> {
    let ip = IpHeader::parse(packet)?;
    match packet.get(IP_HEADER..)? {
        [3, 4, _, _, _, _, high, low, ..] if ip.protocol == ICMP => {
            let mtu = u16::from_be_bytes([*high, *low]);
            Some((ip.destination, mtu.into()))
        }
        _ => None,
    }
}

/// A packet as a TUN with offload hands it over.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; VNET_HEADER];
    frame.extend_from_slice(packet);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_survives_and_its_checksums_hold() {
        let echo = Echo {
            source: Ipv4Addr::new(10, 100, 0, 1),
            destination: Ipv4Addr::new(10, 100, 0, 2),
            request: true,
            id: 0x1234_5678,
        };
        let packet = echo.packet(1400);
        assert_eq!(packet.len(), 1400);
        assert_eq!(Echo::parse(&packet), Some(echo));
        assert_eq!(Sum::default().plus(&packet[..20]).finish(), 0);
        assert_eq!(Sum::default().plus(&packet[20..]).finish(), 0);
        assert_eq!(echo.reply().destination, echo.source);
    }
}
