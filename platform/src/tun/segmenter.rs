//! The opposite of the coalescer, for tests: cuts a frame as the kernel would, by its virtio header
//! alone, and builds packets to feed in.

use super::{VNET_HEADER, checksum};

/// The packets of one frame, with right lengths, sequence numbers and checksums.
pub(super) fn segment(frame: &[u8]) -> Vec<Vec<u8>> {
    let (header, packet) = frame.split_at(VNET_HEADER);
    let field = |i: usize| usize::from(u16::from_ne_bytes([header[i], header[i + 1]]));
    let (size, start, offset) = (field(4), field(6), field(8));
    if header[1] == 0 {
        if header[0] == 0 {
            return vec![packet.to_vec()];
        }
        return vec![finish(packet.to_vec(), start, offset)];
    }
    // The kernel's hdr_len is only how much lies in its linear buffer: the headers tell themselves.
    let transport_header = match offset {
        16 => usize::from(packet[start + 12] >> 4) * 4,
        _ => 8,
    };
    let (headers, payload) = packet.split_at(start + transport_header);
    let pieces: Vec<&[u8]> = payload.chunks(size).collect();
    let last = pieces.len() - 1;
    pieces
        .iter()
        .enumerate()
        .map(|(i, piece)| {
            let mut bytes = headers.to_vec();
            bytes.extend_from_slice(piece);
            number(&mut bytes, start, offset, i, size);
            if offset == 16 && i != last {
                // FIN and PSH belong to the last segment.
                bytes[start + 13] &= !0x09;
            }
            finish(bytes, start, offset)
        })
        .collect()
}

/// Sets sequence number and IPv4 identification of segment `i`.
fn number(bytes: &mut [u8], start: usize, offset: usize, i: usize, size: usize) {
    if bytes[0] >> 4 == 4 {
        let id = u16::from_be_bytes([bytes[4], bytes[5]]).wrapping_add(i as u16);
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
    }
    if offset == 16 {
        let at = start + 4;
        let sequence = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let sequence = sequence.wrapping_add((i * size) as u32);
        bytes[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
    }
}

/// Sets lengths and checksums of a whole packet.
fn finish(mut bytes: Vec<u8>, start: usize, offset: usize) -> Vec<u8> {
    let total = bytes.len();
    let addresses = if bytes[0] >> 4 == 4 {
        bytes[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        bytes[10..12].fill(0);
        let sum = !checksum::fold(checksum::sum(&bytes[..start]));
        bytes[10..12].copy_from_slice(&sum.to_ne_bytes());
        12..20
    } else {
        bytes[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        8..40
    };
    if offset == 6 {
        bytes[start + 4..start + 6].copy_from_slice(&((total - start) as u16).to_be_bytes());
    }
    let protocol = if offset == 6 { 17 } else { 6 };
    let at = start + offset;
    bytes[at..at + 2].fill(0);
    let pseudo = checksum::pseudo_header(&bytes[addresses], protocol, total - start);
    let mut sum = !checksum::fold(pseudo + checksum::sum(&bytes[start..]));
    if sum == 0 && offset == 6 {
        sum = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    bytes
}

/// A packet to be built; the defaults give a plain TCP segment over IPv4.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) ipv6: bool,
    pub(super) udp: bool,
    pub(super) port: u16,
    pub(super) sequence: u32,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    /// DSCP and ECN.
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) flags: u8,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            ipv6: false,
            udp: false,
            port: 5_000,
            sequence: 1,
            id: 7,
            dont_fragment: true,
            tos: 0,
            ttl: 64,
            flags: 0x10,
            options: Vec::new(),
            payload: vec![0xab; 100],
        }
    }
}

impl Spec {
    pub(super) fn build(&self) -> Vec<u8> {
        let mut bytes = if self.ipv6 { self.ipv6() } else { self.ipv4() };
        let start = bytes.len();
        bytes.extend_from_slice(&self.port.to_be_bytes());
        bytes.extend_from_slice(&[0x1f, 0x90]);
        if self.udp {
            bytes.extend_from_slice(&[0; 4]);
        } else {
            bytes.extend_from_slice(&self.sequence.to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0, 9]);
            bytes.extend_from_slice(&[((20 + self.options.len()) * 4) as u8, self.flags]);
            bytes.extend_from_slice(&[0x10, 0, 0, 0, 0, 0]);
            bytes.extend_from_slice(&self.options);
        }
        bytes.extend_from_slice(&self.payload);
        finish(bytes, start, if self.udp { 6 } else { 16 })
    }

    fn protocol(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    fn ipv4(&self) -> Vec<u8> {
        let mut bytes = vec![0x45, self.tos, 0, 0];
        bytes.extend_from_slice(&self.id.to_be_bytes());
        let fragment = if self.dont_fragment { 0x40 } else { 0 };
        bytes.extend_from_slice(&[fragment, 0, self.ttl, self.protocol(), 0, 0]);
        bytes.extend_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
        bytes
    }

    fn ipv6(&self) -> Vec<u8> {
        let mut bytes = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 5, 0, 0];
        bytes.extend_from_slice(&[self.protocol(), self.ttl]);
        for host in [1, 2] {
            bytes.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        bytes
    }
}
