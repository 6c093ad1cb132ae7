//! Is a super-packet that is cut at one end and merged at the other the same again, and is every packet in between whole?
//!
//! `mesh-core` cuts and `platform` merges; neither knows the other. Checksums are judged by a third implementation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mesh_core::lan::segment::{Checksums, Segments, VNET_HEADER};
use platform::tun::{Coalescer, Merge};
use proptest::{
    collection::vec,
    num::u8::ANY,
    prelude::{Strategy, any, prop, prop_oneof, proptest},
    sample::select,
};

const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
/// Datagrams in one super-packet, at most, and therefore in one merged frame.
const MAX_DATAGRAMS: usize = 64;

/// A super-packet as the kernel hands it over.
#[derive(Debug, Clone)]
struct Super {
    ipv6: bool,
    udp: bool,
    /// DSCP and ECN.
    tos: u8,
    id: u16,
    sequence: u32,
    flags: u8,
    /// Of TCP, in words.
    options: Vec<[u8; 4]>,
    /// Payload bytes of each segment but the last.
    size: usize,
    payload: Vec<u8>,
}

impl Super {
    fn start(&self) -> usize {
        if self.ipv6 { 40 } else { 20 }
    }

    fn headers(&self) -> usize {
        let tcp = 20 + 4 * self.options.len();
        self.start() + if self.udp { 8 } else { tcp }
    }

    fn segments(&self) -> usize {
        self.payload.len().div_ceil(self.size)
    }

    /// Header and packet, with the sum of the pseudo-header in the checksum.
    fn frame(&self) -> Vec<u8> {
        let (kind, offset) = match (self.udp, self.ipv6) {
            (true, _) => (GSO_UDP_L4, 6),
            (false, true) => (GSO_TCPV6, 16),
            (false, false) => (GSO_TCPV4, 16),
        };
        let ecn = if !self.udp && self.flags & CWR != 0 {
            GSO_ECN
        } else {
            0
        };
        let mut frame = vec![NEEDS_CSUM, kind | ecn];
        for field in [self.headers(), self.size, self.start(), offset] {
            frame.extend_from_slice(&short(field).to_ne_bytes());
        }
        let mut packet = self.ip();
        self.transport(&mut packet);
        packet.extend_from_slice(&self.payload);
        let length = packet.len();
        if self.ipv6 {
            put(&mut packet, 4, length - 40);
        } else {
            put(&mut packet, 2, length);
            let sum = !ones(&packet[..20]);
            put(&mut packet, 10, usize::from(sum));
        }
        let start = self.start();
        if self.udp {
            put(&mut packet, start + 4, length - start);
        }
        let pseudo = ones(&pseudo_header(&packet));
        put(&mut packet, start + offset, usize::from(pseudo));
        frame.extend_from_slice(&packet);
        frame
    }

    fn ip(&self) -> Vec<u8> {
        let protocol = if self.udp { 17 } else { 6 };
        if self.ipv6 {
            let mut packet = vec![
                0x60 | self.tos >> 4,
                self.tos << 4,
                1,
                2,
                0,
                0,
                protocol,
                64,
            ];
            packet.extend_from_slice(&[0xFD; 16]);
            packet.extend_from_slice(&[0xFC; 16]);
            return packet;
        }
        let [high, low] = self.id.to_be_bytes();
        let mut packet = vec![0x45, self.tos, 0, 0, high, low, 0x40, 0, 64, protocol, 0, 0];
        packet.extend_from_slice(&[10, 100, 0, 1, 10, 100, 0, 2]);
        packet
    }

    fn transport(&self, packet: &mut Vec<u8>) {
        packet.extend_from_slice(&[0x12, 0x34, 0x13, 0x88]);
        if self.udp {
            return packet.extend_from_slice(&[0; 4]);
        }
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 9]);
        let words = u8::try_from(5 + self.options.len()).unwrap();
        packet.extend_from_slice(&[words << 4, self.flags, 1, 0, 0, 0, 0, 0]);
        packet.extend(self.options.iter().flatten());
    }

    /// Whether the segments may be merged again: flags that belong to one segment alone keep it apart.
    fn is_plain(&self) -> bool {
        self.udp || self.flags & !PSH == ACK
    }
}

fn short(value: usize) -> u16 {
    u16::try_from(value).unwrap()
}

fn put(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&short(value).to_be_bytes());
}

/// The ones' complement sum, pair by pair as RFC 1071 defines it.
fn ones(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn pseudo_header(packet: &[u8]) -> Vec<u8> {
    let (start, addresses, protocol) = if packet[0] >> 4 == 6 {
        (40, &packet[8..40], packet[6])
    } else {
        (20, &packet[12..20], packet[9])
    };
    let length = u32::try_from(packet.len() - start).unwrap();
    [addresses, &length.to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// Lengths and checksums of one packet, as its receiver looks at them.
fn judge(packet: &[u8]) {
    let field = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (start, udp) = if packet[0] >> 4 == 6 {
        assert_eq!(field(4) + 40, packet.len());
        (40, packet[6] == 17)
    } else {
        assert_eq!(field(2), packet.len());
        assert_eq!(ones(&packet[..20]), 0xFFFF, "IPv4 header checksum");
        (20, packet[9] == 17)
    };
    if udp {
        assert_eq!(field(start + 4), packet.len() - start);
        assert_ne!(field(start + 6), 0, "zero means that there is no checksum");
    }
    let all = [&pseudo_header(packet), &packet[start..]].concat();
    assert_eq!(ones(&all), 0xFFFF, "transport checksum");
}

fn cut(frame: &[u8], checksums: Checksums) -> Vec<Vec<u8>> {
    let mut frame = frame.to_vec();
    let segments = Segments::parse(&mut frame).unwrap();
    let packets = (0..segments.count()).map(|index| {
        let mut packet = vec![0; segments.len_of(index)];
        segments.write(index, checksums, &mut packet);
        packet
    });
    packets.collect()
}

fn merge(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let both = Merge {
        tcp: true,
        udp: true,
    };
    let mut coalescer = Coalescer::new(both);
    let mut frames = Vec::new();
    for packet in packets {
        if !coalescer.push(packet) {
            frames.extend(coalescer.finish().map(|frame| frame.bytes.to_vec()));
            coalescer.clear();
            assert!(coalescer.push(packet));
        }
    }
    frames.extend(coalescer.finish().map(|frame| frame.bytes.to_vec()));
    frames
}

/// Cut, looked at, merged, and cut again.
fn survives(whole: &Super) {
    let frame = whole.frame();
    let packets = cut(&frame, Checksums::Complete);
    assert_eq!(packets.len(), whole.segments());
    packets.iter().for_each(|packet| judge(packet));
    let payload: Vec<u8> = packets
        .iter()
        .flat_map(|packet| packet[whole.headers()..].to_vec())
        .collect();
    assert!(payload == whole.payload, "the payload is the same");
    let traffic_class = |packet: &[u8]| match packet[0] >> 4 {
        6 => packet[0] << 4 | packet[1] >> 4,
        _ => packet[1],
    };
    for (index, packet) in packets.iter().enumerate() {
        assert_eq!(traffic_class(packet), whole.tos, "DSCP and ECN");
        if !whole.udp {
            flags_are_right(whole, index, packet);
        }
    }
    let merged = merge(&packets);
    let again: Vec<Vec<u8>> = merged
        .iter()
        .flat_map(|frame| cut(frame, Checksums::Complete))
        .collect();
    assert!(again == packets, "what was merged is cut as it was before");
    if whole.is_plain() && packets.len() > 1 {
        assert_eq!(merged.len(), 1);
        assert!(merged[0] == frame, "the super-packet is the same again");
    }
    open_checksums_survive(whole, &packets);
}

/// What is cut with open checksums differs in nothing else from `complete`, and is whole again once it was merged.
fn open_checksums_survive(whole: &Super, complete: &[Vec<u8>]) {
    let at = whole.start() + if whole.udp { 6 } else { 16 };
    let frame = whole.frame();
    let packets = cut(&frame, Checksums::Open);
    assert_eq!(packets.len(), complete.len());
    for (open, complete) in packets.iter().zip(complete) {
        let pseudo = ones(&pseudo_header(open)).to_be_bytes();
        let plain = whole.udp || complete[whole.start() + 13] & !PSH == ACK;
        let expected = match plain {
            true => [&complete[..at], &pseudo, &complete[at + 2..]].concat(),
            false => complete.clone(),
        };
        assert!(*open == expected, "only the checksum differs");
    }
    let merged = merge(&packets);
    for frame in &merged {
        cut(frame, Checksums::Complete)
            .iter()
            .for_each(|packet| judge(packet));
    }
    if whole.is_plain() && packets.len() > 1 {
        assert_eq!(merged.len(), 1);
        assert!(merged[0] == frame, "the super-packet is the same again");
    }
    // Each alone, as after loss.
    for (open, complete) in packets.iter().zip(complete) {
        let [frame] = &merge(std::slice::from_ref(open))[..] else {
            unreachable!("one packet makes one frame");
        };
        let again = cut(frame, Checksums::Complete);
        judge(&again[0]);
        assert!(again[0][..at] == complete[..at] && again[0][at + 2..] == complete[at + 2..]);
    }
}

/// FIN and PSH belong to the last segment, CWR to the first (RFC 3168 section 6.1.2), all others to each.
fn flags_are_right(whole: &Super, index: usize, packet: &[u8]) {
    let start = whole.start();
    let mut flags = whole.flags;
    if index + 1 < whole.segments() {
        flags &= !(FIN | PSH);
    }
    if index > 0 {
        flags &= !CWR;
    }
    assert_eq!(packet[start + 13], flags, "flags of segment {index}");
    let sequence = u32::from_be_bytes(packet[start + 4..start + 8].try_into().unwrap());
    let ahead = u32::try_from(index * whole.size).unwrap();
    assert_eq!(sequence, whole.sequence.wrapping_add(ahead));
}

/// Segment sizes and the rest behind the last full one: odd ones, one byte, and what an MTU of 1400 gives.
fn lengths() -> impl Strategy<Value = (usize, usize)> {
    let size = prop_oneof![select(vec![1, 2, 3, 1347, 1348, 1349, 1372]), 1_usize..1500];
    (size, 0_usize..40, any::<prop::sample::Index>()).prop_map(|(size, full, rest)| {
        let rest = rest.index(size) + 1;
        (size, full * size + rest)
    })
}

fn super_packet() -> impl Strategy<Value = Super> {
    let flags = select(vec![
        ACK,
        ACK | PSH,
        ACK | FIN | PSH,
        ACK | ECE,
        ACK | CWR,
        ACK | PSH | CWR | ECE,
    ]);
    let header = (any::<bool>(), any::<bool>(), ANY, any::<u16>());
    let tcp = (any::<u32>(), flags, vec(any::<[u8; 4]>(), 0..=10));
    (header, tcp, lengths(), vec(ANY, 97..=101)).prop_map(|(header, tcp, lengths, noise)| {
        let (ipv6, udp, tos, id) = header;
        let (sequence, flags, options) = tcp;
        Super {
            ipv6,
            udp,
            tos,
            id,
            sequence,
            flags,
            options,
            size: lengths.0,
            payload: noise.into_iter().cycle().take(lengths.1).collect(),
        }
    })
}

proptest! {
    #[test]
    fn a_super_packet_survives_being_cut_and_merged(whole in super_packet()) {
        survives(&whole);
    }
}

#[test]
fn the_greatest_super_packets_survive() {
    for ipv6 in [false, true] {
        for udp in [false, true] {
            let mut whole = Super {
                ipv6,
                udp,
                tos: 0xBA,
                id: 0xFFFF,
                sequence: u32::MAX - 3000,
                flags: ACK | PSH,
                options: vec![[1, 1, 8, 10], [0; 4], [9; 4]],
                size: 1348,
                payload: Vec::new(),
            };
            let room = 65_535 - whole.headers();
            whole.payload = (0..room).map(|at| (at % 251).to_le_bytes()[0]).collect();
            survives(&whole);
            whole.size = room.div_ceil(MAX_DATAGRAMS);
            survives(&whole);
            assert_eq!(whole.frame().len(), VNET_HEADER + 65_535);
        }
    }
}

/// One's complement has two zeros, and in UDP one of them means "no checksum" (RFC 768).
#[test]
fn a_checksum_that_comes_out_as_zero_is_still_one() {
    for ipv6 in [false, true] {
        let mut whole = Super {
            ipv6,
            udp: true,
            tos: 0,
            id: 1,
            sequence: 0,
            flags: 0,
            options: Vec::new(),
            size: 4,
            payload: vec![0; 8],
        };
        let first = &cut(&whole.frame(), Checksums::Complete)[0];
        let at = whole.start() + 6;
        // With its checksum as payload a datagram's sum is that of all ones.
        let checksum = [first[at], first[at + 1]];
        whole.payload = [checksum, [0; 2], checksum, [0; 2]].concat();
        for packet in cut(&whole.frame(), Checksums::Complete) {
            assert_eq!(packet[at..at + 2], [0xFF, 0xFF]);
        }
        survives(&whole);
    }
}
