//! What would the kernel hand over at the TUN? A `virtio_net_hdr` and a packet or super-packet.

use mesh_core::lan::{checksum::Sum, segment::VNET_HEADER};

/// Headers of a TCP segment over IPv4 with timestamps, as bulk transfers have them.
const HEADERS: usize = 20 + 32;
/// The MTU of the interface.
pub const MTU: usize = 1400;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;

/// A TCP super-packet of `segments` full segments from 10.100.0.`source`.
pub fn super_packet(source: u8, destination: u8, segments: usize) -> Vec<u8> {
    let size = MTU - HEADERS;
    let mut frame = vec![0; VNET_HEADER + HEADERS + segments * size];
    let (header, packet) = frame.split_at_mut(VNET_HEADER);
    let (header_len, size) = (ne(HEADERS), ne(size));
    header.copy_from_slice(&[
        NEEDS_CSUM,
        GSO_TCPV4,
        header_len[0],
        header_len[1],
        size[0],
        size[1],
        20,
        0,
        16,
        0,
    ]);
    ipv4(packet, 6, source, destination);
    // Data offset of eight words, ACK.
    packet[32] = 0x80;
    packet[33] = 0x10;
    for (byte, value) in packet[HEADERS..].iter_mut().zip((0..=250).cycle()) {
        *byte = value;
    }
    frame
}

/// A UDP packet of `len` bytes in all.
pub fn datagram(source: u8, destination: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0; VNET_HEADER + len];
    let packet = &mut frame[VNET_HEADER..];
    ipv4(packet, 17, source, destination);
    let udp = u16::try_from(len - 20).unwrap_or(u16::MAX);
    packet[24..26].copy_from_slice(&udp.to_be_bytes());
    frame
}

fn ipv4(packet: &mut [u8], protocol: u8, source: u8, destination: u8) {
    let len = u16::try_from(packet.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    packet[..12].copy_from_slice(&[0x45, 0, len[0], len[1], 0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet[12..20].copy_from_slice(&[10, 100, 0, source, 10, 100, 0, destination]);
    let sum = Sum::default().plus(&packet[..20]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn ne(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_ne_bytes()
}
