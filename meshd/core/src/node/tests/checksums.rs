use mesh_wire::carrier::{Carrier, FEATURE_HEARD, FEATURE_OPEN_CHECKSUMS};

use super::*;
use crate::lan::checksum::Sum;

/// A super-packet of two UDP datagrams, as the kernel hands it over.
fn super_packet(source: u8, destination: u8) -> Vec<u8> {
    let mut frame = vec![1, 5];
    for field in [28_u16, 700, 20, 6] {
        frame.extend_from_slice(&field.to_ne_bytes());
    }
    frame.extend_from_slice(&[0x45, 0, 5, 148, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&[10, 100, 0, source, 10, 100, 0, destination]);
    frame.extend_from_slice(&[0x12, 0x34, 0, 53, 5, 128, 0, 0]);
    frame.resize(VNET + 28 + 1400, 0xAB);
    frame
}

/// The checksum field of a datagram of [`super_packet`], and the sums that it would have open and complete.
fn checksums(packet: &[u8]) -> (u16, u16, u16) {
    let address =
        |at: usize| IpAddr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let pseudo = Sum::default().add_pseudo_header(address(12), address(16), 17, packet.len() - 20);
    let field = u16::from_be_bytes([packet[26], packet[27]]);
    let complete = pseudo.plus(&packet[20..26]).plus(&packet[28..]).finish();
    (field, pseudo.folded(), complete)
}

#[test]
fn checksums_are_left_open_only_for_a_peer_that_said_that_it_completes_them() {
    let mut pair = Pair::new();
    pair.b.node.local.open_checksums = true;
    pair.a.tun(frame(1, 2), pair.now);
    pair.run(Duration::from_secs(1));
    pair.a.tun(super_packet(1, 2), pair.now);
    pair.b.tun(super_packet(2, 1), pair.now);
    pair.run(Duration::from_millis(5));

    let [_, to_b @ ..] = &pair.b.received[..] else {
        panic!("nothing arrived");
    };
    assert_eq!((to_b.len(), pair.a.received.len()), (2, 2));
    for packet in to_b {
        let (field, open, complete) = checksums(packet);
        assert_ne!(open, complete);
        assert_eq!(field, open);
    }
    for packet in &pair.a.received {
        let (field, _, complete) = checksums(packet);
        assert_eq!(field, complete);
    }
}

#[test]
fn they_are_complete_in_what_waited_for_the_session() {
    let mut pair = Pair::new();
    pair.b.node.local.open_checksums = true;
    pair.a.tun(super_packet(1, 2), pair.now);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.b.received.len(), 2);
    for packet in &pair.b.received {
        let (field, _, complete) = checksums(packet);
        assert_eq!(field, complete);
    }
}

#[test]
fn who_has_not_heard_what_we_can_do_is_told_again_and_nobody_for_ever() {
    let mut pair = Pair::new();
    for station in [&mut pair.a, &mut pair.b] {
        station.node.local.open_checksums = true;
    }
    pair.a.tun(frame(1, 2), pair.now);
    pair.run(Duration::from_secs(1));
    let Pair { a, b, now } = &mut pair;
    let mut answers = |bits| {
        let index = a.node.peers.by_node(&node_id(2)).unwrap();
        let features = Carrier::Features { bits }.encode();
        a.node.send_inner(index, &features, *now, &mut a.transmit);
        let (_, message) = a.sent().remove(0);
        b.datagram(1, &message, *now);
        b.sent().len()
    };
    assert_eq!(answers(FEATURE_OPEN_CHECKSUMS), 1);
    assert_eq!(answers(FEATURE_OPEN_CHECKSUMS | FEATURE_HEARD), 0);
}
