use std::net::IpAddr;

use super::*;

fn vnet(kind: u8, flags: u8, size: u16, start: u16, offset: u16) -> Vec<u8> {
    let mut header = vec![flags, kind, 0, 0];
    for field in [size, start, offset] {
        header.extend_from_slice(&field.to_ne_bytes());
    }
    header
}

fn tcp_v4(payload: &[u8], flags: u8) -> Vec<u8> {
    let mut packet = vec![
        0x45, 0x03, 0, 0, 0xFF, 0xFF, 0x40, 0, 64, TCP, 0, 0, 10, 100, 0, 1, 10, 100, 0, 2,
    ];
    packet.extend_from_slice(&[
        0x12, 0x34, 0, 80, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 9, 0x60, flags, 1, 0, 0, 0, 0, 0,
    ]);
    packet.extend_from_slice(&[2, 4, 5, 0x78]);
    packet.extend_from_slice(payload);
    let len = packet.len();
    put(&mut packet, 2, len);
    packet
}

fn udp_v6(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, UDP, 64];
    packet.extend_from_slice(&[0xFD; 16]);
    packet.extend_from_slice(&[0xFC; 16]);
    packet.extend_from_slice(&[0x12, 0x34, 0, 53, 0, 0, 0, 0]);
    packet.extend_from_slice(payload);
    packet
}

fn checksum_holds(segment: &[u8]) -> bool {
    let ip = IpHeader::parse(segment).unwrap();
    let transport = &segment[ip.header_len..];
    Sum::default()
        .add_pseudo_header(ip.source, ip.destination, ip.protocol, transport.len())
        .plus(transport)
        .finish()
        == 0
}

fn cut(kind: u8, size: u16, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut frame = vnet(kind, NEEDS_CSUM, size, 0, 0);
    frame.extend_from_slice(packet);
    let segments = Segments::parse(&mut frame).unwrap();
    (0..segments.count())
        .map(|index| written(&segments, index))
        .collect()
}

fn written(segments: &Segments<'_>, index: usize) -> Vec<u8> {
    let mut packet = vec![0; segments.len_of(index)];
    segments.write(index, Checksums::Complete, &mut packet);
    packet
}

#[test]
fn a_tcp_super_packet_becomes_correct_segments_of_the_same_bytes() {
    let payload: Vec<u8> = (0..3333_u32).map(|i| i.to_le_bytes()[0]).collect();
    let segments = cut(GSO_TCPV4, 1000, &tcp_v4(&payload, 0x19));
    assert_eq!(
        segments.iter().map(Vec::len).collect::<Vec<_>>(),
        [1044, 1044, 1044, 377]
    );
    let joined: Vec<u8> = segments.iter().flat_map(|s| s[44..].to_vec()).collect();
    assert_eq!(joined, payload);
    for (index, segment) in segments.iter().enumerate() {
        assert!(checksum_holds(segment), "{index}");
        assert_eq!(
            Sum::default().plus(&segment[..20]).finish(),
            0,
            "IPv4 header checksum of {index}"
        );
        assert_eq!(
            usize::from(u16::from_be_bytes([segment[2], segment[3]])),
            segment.len()
        );
        let id = u16::from_be_bytes([segment[4], segment[5]]);
        assert_eq!(id, 0xFFFF_u16.wrapping_add(u16::try_from(index).unwrap()));
        let sequence = u32::from_be_bytes(segment[24..28].try_into().unwrap());
        assert_eq!(
            sequence,
            0xFFFF_FF00_u32.wrapping_add(1000 * u32::try_from(index).unwrap())
        );
        assert_eq!(segment[1], 0x03, "ECN bits are kept");
        let flags = if index == 3 { 0x19 } else { 0x10 };
        assert_eq!(segment[33], flags, "FIN and PSH only on the last");
    }
}

#[test]
fn only_the_first_segment_of_an_ecn_flow_keeps_cwr() {
    let segments = cut(GSO_TCPV4 | GSO_ECN, 100, &tcp_v4(&[0; 250], 0x90));
    assert_eq!(
        segments.iter().map(|s| s[33]).collect::<Vec<_>>(),
        [0x90, 0x10, 0x10]
    );
}

#[test]
fn a_udp_super_packet_becomes_datagrams() {
    let segments = cut(GSO_UDP_L4, 7, &udp_v6(&[5; 15]));
    assert_eq!(
        segments.iter().map(Vec::len).collect::<Vec<_>>(),
        [55, 55, 49]
    );
    for segment in &segments {
        assert!(checksum_holds(segment));
        assert_eq!(
            usize::from(u16::from_be_bytes([segment[44], segment[45]])),
            segment.len() - 40
        );
        assert_eq!(
            usize::from(u16::from_be_bytes([segment[4], segment[5]])),
            segment.len() - 40
        );
    }
}

#[test]
fn an_open_checksum_is_finished() {
    let mut packet = udp_v6(b"odd");
    put(&mut packet, 44, 11);
    let pseudo = Sum::default()
        .add_pseudo_header(IpAddr::from([0xFD; 16]), IpAddr::from([0xFC; 16]), UDP, 11)
        .folded();
    put(&mut packet, 46, usize::from(pseudo));
    let mut frame = vnet(GSO_NONE, NEEDS_CSUM, 0, 40, 6);
    frame.extend_from_slice(&packet);
    let segments = Segments::parse(&mut frame).unwrap();
    assert_eq!(segments.count(), 1);
    assert!(checksum_holds(&written(&segments, 0)));
}

#[test]
fn malformed_frames_are_refused() {
    let good = tcp_v4(&[0; 100], 0x10);
    let frames = [
        vec![],
        vnet(0, 0, 0, 0, 0),
        [vnet(GSO_TCPV4, 1, 0, 0, 0), good.clone()].concat(),
        [vnet(GSO_UDP_L4, 1, 10, 0, 0), good.clone()].concat(),
        [vnet(3, 1, 10, 0, 0), good.clone()].concat(),
        [vnet(GSO_TCPV4, 1, 10, 0, 0), good[..44].to_vec()].concat(),
        [vnet(GSO_TCPV4, 1, 10, 0, 0), good[..30].to_vec()].concat(),
        [vnet(0, NEEDS_CSUM, 0, 0, 0), good.clone()].concat(),
        [vnet(0, NEEDS_CSUM, 0, 9999, 0), good.clone()].concat(),
        [vnet(0, NEEDS_CSUM, 0, 20, 9999), good].concat(),
    ];
    for mut frame in frames {
        assert!(Segments::parse(&mut frame).is_err(), "{frame:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_frame_makes_it_panic(mut frame in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        if let Ok(segments) = Segments::parse(&mut frame) {
            for index in 0..segments.count() {
                written(&segments, index);
            }
        }
    }
}

/// Which of the segments of a super-packet have a complete checksum when they may be left open.
fn complete(kind: u8, packet: &[u8]) -> Vec<bool> {
    let mut frame = vnet(kind, NEEDS_CSUM, 700, 0, 0);
    frame.extend_from_slice(packet);
    let segments = Segments::parse(&mut frame).unwrap();
    let packets = (0..segments.count()).map(|index| {
        let mut packet = vec![0; segments.len_of(index)];
        segments.write(index, Checksums::Open, &mut packet);
        checksum_holds(&packet)
    });
    packets.collect()
}

#[test]
fn checksums_stay_open_only_where_they_are_found_without_a_search() {
    let payload = [0x5A; 1000];
    let [fin, push] = [0x11, 0x18];
    assert_eq!(complete(GSO_UDP_L4, &udp_v6(&payload)), [false, false]);
    assert_eq!(complete(GSO_TCPV4, &tcp_v4(&payload, push)), [false, false]);
    assert_eq!(complete(GSO_TCPV4, &tcp_v4(&payload, fin)), [false, true]);
    let mut reserved = tcp_v4(&payload, push);
    reserved[32] |= 1;
    assert_eq!(complete(GSO_TCPV4, &reserved), [true, true]);
    let mut options = tcp_v4(&payload, push);
    options.splice(20..20, [1, 1, 1, 0]);
    options[0] = 0x46;
    let len = options.len();
    put(&mut options, 2, len);
    assert_eq!(complete(GSO_TCPV4, &options), [true, true]);
}
