//! What does an IP header say? Only what routing, segmentation and checksums need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The parts of an IP header that the walks look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpHeader {
    /// Who sends.
    pub source: IpAddr,
    /// Who shall receive.
    pub destination: IpAddr,
    /// Length of the header in bytes, IPv4 options included; 40 for IPv6 (extension headers count as payload).
    pub header_len: usize,
    /// Length of the packet in bytes, by its header; what follows is padding.
    pub total_len: usize,
    /// IPv4 protocol or IPv6 next header.
    pub protocol: u8,
}

impl IpHeader {
    /// Reads the header of a packet (RFC 791 section 3.1, RFC 8200 section 3). `None` if it is not IP, cut short or
    /// shorter than it says.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        let header_len = usize::from(header[0] & 0x0F) * 4;
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < 20 || total_len < header_len || packet.len() < total_len {
            return None;
        }
        Some(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            header_len,
            total_len,
            protocol: header[9],
        })
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 40] = packet.first_chunk()?;
        let address = |at: usize| -> Option<IpAddr> {
            let bytes: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        };
        let total_len = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if packet.len() < total_len {
            return None;
        }
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            header_len: 40,
            total_len,
            protocol: header[6],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v4_header_is_read_with_its_options() {
        let mut packet = [0; 32];
        packet[0] = 0x46;
        packet[3] = 30;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&[10, 100, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 100, 0, 2]);
        let header = IpHeader::parse(&packet).unwrap();
        assert_eq!(
            (header.header_len, header.total_len),
            (24, 30),
            "two bytes are padding"
        );
        assert_eq!(header.destination, IpAddr::from([10, 100, 0, 2]));
        assert_eq!(header.protocol, 6);
    }

    #[test]
    fn what_is_cut_short_or_not_ip_is_refused() {
        let mut packet = [0; 40];
        packet[0] = 0x60;
        assert!(IpHeader::parse(&packet).is_some());
        packet[5] = 1;
        assert!(IpHeader::parse(&packet).is_none(), "shorter than it says");
        packet[5] = 0;
        assert!(IpHeader::parse(&packet[..39]).is_none());
        packet[0] = 0x4F;
        assert!(IpHeader::parse(&packet).is_none());
        packet[0] = 0x44;
        assert!(IpHeader::parse(&packet).is_none());
        packet[0] = 0x50;
        assert!(IpHeader::parse(&packet).is_none());
        assert!(IpHeader::parse(&[]).is_none());
    }
}
