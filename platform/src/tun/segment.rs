//! Which packets may be merged with others of their flow, and do two of them agree in everything
//! that merging would otherwise lose? The rules are those of Linux GRO, stricter where GRO is lossy.

use super::checksum;

const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// Identifies a flow: no packet may overtake another of the same flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    /// Source and destination ports; `None` if the packet does not tell them (fragments, ICMP,
    /// extension headers), so that it may belong to any flow between its addresses.
    ports: Option<[u8; 4]>,
    protocol: u8,
    /// Source then destination; IPv4 uses the first 8 bytes.
    addresses: [u8; 32],
}

impl Flow {
    /// True if order between packets of these two must be kept.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let same_ports = match (self.ports, other.ports) {
            (Some(mine), Some(theirs)) => mine == theirs && self.protocol == other.protocol,
            (None, _) | (_, None) => true,
        };
        same_ports && self.addresses == other.addresses
    }
}

/// The protocols whose packets are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// Offset of the checksum in the transport header.
    pub(super) fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }

    /// IP protocol number.
    pub(super) fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Where the parts of a mergeable packet lie, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) transport: Transport,
    /// Start of the transport header: 20 for IPv4, 40 for IPv6.
    pub(super) transport_start: usize,
    /// Start of the payload.
    pub(super) payload_start: usize,
}

impl Layout {
    pub(super) fn is_ipv4(self) -> bool {
        self.transport_start == 20
    }

    /// Both IP addresses, adjacent in either version.
    pub(super) fn addresses(self, packet: &[u8]) -> &[u8] {
        if self.is_ipv4() {
            &packet[12..20]
        } else {
            &packet[8..40]
        }
    }

    /// Sequence number of a TCP segment, 0 for UDP.
    pub(super) fn sequence(self, packet: &[u8]) -> u32 {
        match self.transport {
            Transport::Tcp => {
                let at = self.transport_start + 4;
                u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
            }
            Transport::Udp => 0,
        }
    }

    /// The TCP push flag, which only the last merged segment may carry.
    pub(super) fn is_pushed(self, packet: &[u8]) -> bool {
        self.transport == Transport::Tcp && packet[self.transport_start + 13] & TCP_PSH != 0
    }

    /// Sets the TCP push flag.
    pub(super) fn set_pushed(self, packet: &mut [u8]) {
        packet[self.transport_start + 13] |= TCP_PSH;
    }

    /// IPv4 identification, and whether "don't fragment" makes it meaningless (RFC 6864).
    pub(super) fn identification(self, packet: &[u8]) -> Option<(u16, bool)> {
        self.is_ipv4().then(|| {
            let id = u16::from_be_bytes([packet[4], packet[5]]);
            (id, packet[6] & 0x40 != 0)
        })
    }

    /// True if the IPv4 header checksum is right and the transport checksum is right or open. Merging
    /// computes them anew, which must not mend a packet that was damaged.
    pub(super) fn is_intact(self, packet: &[u8]) -> bool {
        if self.is_ipv4() && !checksum::is_valid(checksum::sum(&packet[..20])) {
            return false;
        }
        let segment = &packet[self.transport_start..];
        self.is_open(packet)
            || checksum::is_valid(self.pseudo_header(packet) + checksum::sum(segment))
    }

    /// True if the transport checksum holds the sum of the pseudo-header only, and is to be completed.
    /// A complete checksum that happens to be the same number is also what completing it would give.
    pub(super) fn is_open(self, packet: &[u8]) -> bool {
        let at = self.transport_start + self.transport.checksum_offset();
        packet[at..at + 2] == checksum::fold(self.pseudo_header(packet)).to_ne_bytes()
    }

    /// Sum of the packet's pseudo-header.
    pub(super) fn pseudo_header(self, packet: &[u8]) -> u64 {
        checksum::pseudo_header(
            self.addresses(packet),
            self.transport.protocol(),
            packet.len() - self.transport_start,
        )
    }

    /// True if both headers agree in all that must be equal: TTL, DSCP, ECN, DF, flow label, ports,
    /// and for TCP also acknowledgement, window and options. `first` and `next` have this layout.
    pub(super) fn agrees(self, first: &[u8], next: &[u8]) -> bool {
        let same = |range: std::ops::Range<usize>| first[range.clone()] == next[range];
        let ip = if self.is_ipv4() {
            same(0..2) && same(6..10) && same(12..20)
        } else {
            same(0..4) && same(6..40)
        };
        let at = self.transport_start;
        let transport = match self.transport {
            Transport::Tcp => {
                same(at..at + 4)
                    && same(at + 8..at + 13)
                    && same(at + 14..at + 16)
                    && same(at + 18..self.payload_start)
            }
            Transport::Udp => same(at..at + 4),
        };
        ip && transport
    }
}

/// What a packet is to the coalescer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parsed {
    /// `None` if it is not an IP packet.
    pub(super) flow: Option<Flow>,
    /// `None` if it must go alone.
    pub(super) layout: Option<Layout>,
}

/// Looks at one packet; never fails, whatever the bytes.
pub(super) fn parse(packet: &[u8]) -> Parsed {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => parse_ipv4(packet),
        Some(6) if packet.len() >= 40 => parse_ipv6(packet),
        _ => Parsed {
            flow: None,
            layout: None,
        },
    }
}

fn parse_ipv4(packet: &[u8]) -> Parsed {
    let mut addresses = [0; 32];
    addresses[..8].copy_from_slice(&packet[12..20]);
    let has_options = packet[0] & 0x0f != 5;
    let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if has_options || is_fragment || length != packet.len() {
        return portless(addresses, packet[9]);
    }
    parse_transport(packet, addresses, packet[9], 20)
}

fn parse_ipv6(packet: &[u8]) -> Parsed {
    let mut addresses = [0; 32];
    addresses.copy_from_slice(&packet[8..40]);
    let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    if length + 40 != packet.len() {
        return portless(addresses, packet[6]);
    }
    parse_transport(packet, addresses, packet[6], 40)
}

fn portless(addresses: [u8; 32], protocol: u8) -> Parsed {
    Parsed {
        flow: Some(Flow {
            ports: None,
            protocol,
            addresses,
        }),
        layout: None,
    }
}

fn parse_transport(packet: &[u8], addresses: [u8; 32], protocol: u8, start: usize) -> Parsed {
    let (payload_start, transport) = match (protocol, &packet[start..]) {
        (6, tcp) if tcp.len() >= 20 => (tcp_payload(tcp), Transport::Tcp),
        (17, udp) if udp.len() >= 8 => (udp_payload(udp), Transport::Udp),
        _ => return portless(addresses, protocol),
    };
    let ports = [0, 1, 2, 3].map(|i| packet[start + i]);
    Parsed {
        flow: Some(Flow {
            ports: Some(ports),
            protocol,
            addresses,
        }),
        layout: payload_start.map(|offset| Layout {
            transport,
            transport_start: start,
            payload_start: start + offset,
        }),
    }
}

/// Offset of the payload of a segment that carries plain data: ACK and perhaps PSH, nothing else.
fn tcp_payload(tcp: &[u8]) -> Option<usize> {
    let header = usize::from(tcp[12] >> 4) * 4;
    let reserved = tcp[12] & 0x0f;
    let plain = tcp[13] & !TCP_PSH == TCP_ACK && reserved == 0;
    (plain && header >= 20 && header < tcp.len()).then_some(header)
}

/// Offset of the payload of a datagram that has one and has a checksum.
fn udp_payload(udp: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    let has_checksum = udp[6] != 0 || udp[7] != 0;
    (length == udp.len() && has_checksum && udp.len() > 8).then_some(8)
}
