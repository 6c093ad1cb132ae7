use super::*;
use crate::tun::segmenter::{Spec, segment};
use proptest::prelude::*;

const ALL: Merge = Merge {
    tcp: true,
    udp: true,
};

/// Pushes all and returns the frames.
fn frames(merge: Merge, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut coalescer = Coalescer::new(merge);
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

/// Segments of one TCP flow with the given payload sizes, correctly numbered.
fn stream(base: &Spec, sizes: &[usize]) -> Vec<Spec> {
    let mut sequence = base.sequence;
    sizes
        .iter()
        .enumerate()
        .map(|(i, size)| {
            let spec = Spec {
                sequence,
                id: base.id.wrapping_add(i as u16),
                payload: (0..*size).map(|byte| (byte * 7 + i) as u8).collect(),
                ..base.clone()
            };
            sequence = sequence.wrapping_add(*size as u32);
            spec
        })
        .collect()
}

fn build(specs: &[Spec]) -> Vec<Vec<u8>> {
    specs.iter().map(Spec::build).collect()
}

/// How many packets each frame holds.
fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
    let frames = frames(ALL, packets);
    assert_eq!(
        frames
            .iter()
            .flat_map(|frame| segment(frame))
            .collect::<Vec<_>>(),
        packets,
        "segmenting gives back what was pushed"
    );
    frames.iter().map(|frame| segment(frame).len()).collect()
}

fn variants() -> Vec<Spec> {
    [(false, false), (false, true), (true, false), (true, true)]
        .map(|(ipv6, udp)| Spec {
            ipv6,
            udp,
            ..Spec::default()
        })
        .to_vec()
}

#[test]
fn equal_segments_and_a_shorter_last_become_one_frame() {
    for base in variants() {
        assert_eq!(
            counts(&build(&stream(&base, &[1_000, 1_000, 1_000, 1]))),
            [4]
        );
    }
}

#[test]
fn a_shorter_segment_ends_its_frame_and_a_longer_one_begins_another() {
    for base in variants() {
        let packets = build(&stream(&base, &[500, 499, 500, 500, 501]));
        assert_eq!(counts(&packets), [2, 2, 1]);
    }
}

#[test]
fn the_virtio_header_describes_the_frame() {
    for (base, gso, start, header, offset) in [
        (variants()[0].clone(), 1, 20, 40, 16),
        (variants()[1].clone(), 5, 20, 28, 6),
        (variants()[2].clone(), 4, 40, 60, 16),
        (variants()[3].clone(), 5, 40, 48, 6),
    ] {
        let frames = frames(ALL, &build(&stream(&base, &[333, 333])));
        let field = |i: usize| u16::from_ne_bytes([frames[0][i], frames[0][i + 1]]);
        assert_eq!(frames[0][..2], [1, gso]);
        assert_eq!(
            [field(2), field(4), field(6), field(8)],
            [header, 333, start, offset]
        );
    }
}

#[test]
fn a_lone_packet_goes_out_as_it_came_behind_a_zero_header() {
    let packet = Spec::default().build();
    let frames = frames(ALL, std::slice::from_ref(&packet));
    assert_eq!(frames[0][..VNET_HEADER], [0; VNET_HEADER]);
    assert_eq!(frames[0][VNET_HEADER..], packet);
}

#[test]
fn no_frame_exceeds_what_an_ip_length_can_tell() {
    for base in variants() {
        let packets = build(&stream(&base, &[1_400; 100]));
        let counts = counts(&packets);
        assert_eq!(counts.iter().sum::<usize>(), 100);
        assert_eq!(counts[0], 46, "46 x 1,400 is the most below 65,536");
    }
}

#[test]
fn udp_never_exceeds_64_datagrams_in_a_frame() {
    let base = Spec {
        udp: true,
        ..Spec::default()
    };
    assert_eq!(counts(&build(&stream(&base, &[10; 100]))), [64, 36]);
}

#[test]
fn a_pushed_segment_is_the_last_of_its_frame() {
    let mut specs = stream(&Spec::default(), &[100; 4]);
    specs[1].flags = 0x18;
    assert_eq!(counts(&build(&specs)), [2, 2]);
    specs[0].flags = 0x18;
    assert_eq!(counts(&build(&specs)), [1, 1, 2]);
}

#[test]
fn segments_with_other_flags_go_alone_and_split_their_flow() {
    // FIN, SYN, RST, URG, ECE, CWR, none.
    for flags in [0x11, 0x12, 0x14, 0x30, 0x50, 0x90, 0x00] {
        let mut specs = stream(&Spec::default(), &[100; 5]);
        specs[2].flags = flags;
        assert_eq!(counts(&build(&specs)), [2, 1, 2], "flags {flags:#x}");
    }
}

#[test]
fn a_change_in_ecn_dscp_or_ttl_begins_another_frame() {
    let changes: [fn(&mut Spec); 3] = [
        |spec| spec.tos |= 3,
        |spec| spec.tos |= 0xb8,
        |spec| spec.ttl -= 1,
    ];
    for base in variants() {
        for change in changes {
            let mut specs = stream(&base, &[100; 4]);
            change(&mut specs[2]);
            change(&mut specs[3]);
            assert_eq!(counts(&build(&specs)), [2, 2]);
        }
    }
}

#[test]
fn a_change_in_tcp_options_or_dont_fragment_begins_another_frame() {
    let mut specs = stream(&Spec::default(), &[100; 4]);
    specs[2].options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    specs[3].options = specs[2].options.clone();
    assert_eq!(counts(&build(&specs)), [2, 2]);
    specs[3].options[7] = 9;
    assert_eq!(counts(&build(&specs)), [2, 1, 1]);
    let mut specs = stream(&Spec::default(), &[100; 4]);
    specs[2].dont_fragment = false;
    assert_eq!(counts(&build(&specs)), [2, 1, 1]);
}

#[test]
fn a_gap_or_a_repeat_in_the_sequence_keeps_the_order_of_arrival() {
    let mut specs = stream(&Spec::default(), &[100; 6]);
    specs.swap(2, 3);
    assert_eq!(counts(&build(&specs)), [2, 1, 1, 2]);
    let mut specs = stream(&Spec::default(), &[100; 4]);
    specs.insert(2, specs[1].clone());
    assert_eq!(counts(&build(&specs)), [2, 3]);
}

#[test]
fn the_sequence_number_may_wrap() {
    let base = Spec {
        sequence: u32::MAX - 150,
        id: u16::MAX,
        ..Spec::default()
    };
    assert_eq!(counts(&build(&stream(&base, &[100; 4]))), [4]);
}

#[test]
fn identifications_rise_or_with_dont_fragment_stand_still() {
    let mut specs = stream(&Spec::default(), &[100; 4]);
    specs.iter_mut().for_each(|spec| spec.id = 0);
    assert_eq!(frames(ALL, &build(&specs)).len(), 1);
    specs.iter_mut().for_each(|spec| spec.dont_fragment = false);
    assert_eq!(counts(&build(&specs)), [1, 1, 1, 1]);
    let mut specs = stream(&Spec::default(), &[100; 4]);
    specs[3].id += 1;
    assert_eq!(counts(&build(&specs)), [3, 1]);
}

#[test]
fn a_damaged_packet_is_never_mended_by_merging() {
    for base in variants() {
        for damaged in 0..3 {
            let mut packets = build(&stream(&base, &[100; 3]));
            *packets[damaged].last_mut().expect("a byte") ^= 0x40;
            let counts = counts(&packets);
            let expected: &[usize] = match damaged {
                0 => &[1, 2],
                1 => &[1, 1, 1],
                _ => &[2, 1],
            };
            assert_eq!(counts, expected);
        }
    }
    let mut packets = build(&stream(&Spec::default(), &[100; 2]));
    packets[1][10] ^= 1;
    assert_eq!(counts(&packets), [1, 1], "IPv4 header checksum");
}

#[test]
fn packets_without_payload_or_udp_checksum_go_alone() {
    for base in variants() {
        assert_eq!(counts(&build(&stream(&base, &[0, 0, 0]))), [1, 1, 1]);
    }
    let base = Spec {
        udp: true,
        ..Spec::default()
    };
    let mut packets = build(&stream(&base, &[50; 3]));
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(counts(&packets), [1, 1, 1]);
}

#[test]
fn interleaved_flows_are_merged_each_for_itself() {
    let flows: Vec<Vec<Spec>> = (0..5)
        .map(|i| {
            let base = Spec {
                port: 6_000 + i,
                udp: i % 2 == 0,
                ..Spec::default()
            };
            stream(&base, &[200; 8])
        })
        .collect();
    let packets: Vec<Vec<u8>> = (0..8)
        .flat_map(|round| flows.iter().map(move |flow| flow[round].build()))
        .collect();
    let frames = frames(ALL, &packets);
    assert_eq!(frames.len(), 5);
    for (frame, flow) in frames.iter().zip(&flows) {
        assert_eq!(segment(frame), build(flow));
    }
}

#[test]
fn a_fragment_or_icmp_stops_all_merging_between_its_addresses() {
    let mut packets = build(&stream(&Spec::default(), &[100; 4]));
    let mut fragment = packets[0].clone();
    fragment[6] = 0x20;
    packets.insert(2, fragment);
    assert_eq!(counts(&packets), [2, 1, 2]);
    let mut icmp = packets[0].clone();
    icmp[9] = 1;
    packets[2] = icmp;
    assert_eq!(counts(&packets), [2, 1, 2]);
}

#[test]
fn a_device_without_offload_gets_every_packet_alone() {
    for base in variants() {
        let packets = build(&stream(&base, &[100; 3]));
        assert_eq!(frames(Merge::default(), &packets).len(), 3);
        let other = Merge {
            tcp: base.udp,
            udp: !base.udp,
        };
        assert_eq!(frames(other, &packets).len(), 3);
    }
}

#[test]
fn a_full_coalescer_takes_nothing_and_an_emptied_one_takes_again() {
    let mut coalescer = Coalescer::new(ALL);
    let packet = |port| {
        Spec {
            port,
            ..Spec::default()
        }
        .build()
    };
    for port in 0..MAX_FRAMES as u16 {
        assert!(coalescer.push(&packet(port)));
    }
    assert!(!coalescer.push(&packet(9_999)));
    assert_eq!(coalescer.finish().count(), MAX_FRAMES);
    coalescer.clear();
    assert!(coalescer.is_empty());
    assert!(coalescer.push(&packet(9_999)));
}

#[test]
fn hostile_lengths_are_carried_and_never_panic() {
    let good = Spec::default().build();
    for length in 0..good.len() {
        assert_eq!(counts(&[good[..length].to_vec(), good.clone()]).len(), 2);
    }
    let mut options = good.clone();
    options[32] = 0xf0;
    assert_eq!(counts(&[options, good]), [1, 1]);
}

/// IPv4 identifications carry no meaning under "don't fragment" (RFC 6864), so that fixed ones may
/// come back as rising ones: blank them with the header checksum.
fn without_atomic_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet.len() >= 20 && packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn any_step() -> impl Strategy<Value = Spec> {
    let size = prop_oneof![4 => Just(700usize), 2 => 0usize..1_400, 1 => Just(1_400)];
    let rare = |value: u8| prop_oneof![9 => Just(0u8), 1 => Just(value)];
    let numbers = (0u16..3, any::<bool>(), any::<bool>(), any::<bool>(), size);
    let oddities = (rare(1), rare(1), rare(3), rare(1), rare(9), 0u8..8);
    (numbers, oddities).prop_map(|(numbers, oddities)| {
        let (port, ipv6, udp, dont_fragment, size) = numbers;
        let (gap, id, tos, ttl, flags, options) = oddities;
        Spec {
            port,
            ipv6,
            udp,
            dont_fragment,
            // Deltas, made absolute by `absolute`.
            sequence: gap.into(),
            id: id.into(),
            tos,
            ttl: 64 - ttl,
            flags: 0x10 | flags,
            options: if options == 7 { vec![1; 4] } else { Vec::new() },
            payload: (0..size).map(|i| (i * 31 + size) as u8).collect(),
        }
    })
}

/// Numbers the steps so that most of them continue their flow.
fn absolute(mut steps: Vec<Spec>) -> Vec<Spec> {
    let mut next = std::collections::BTreeMap::new();
    for spec in &mut steps {
        let key = (spec.port, spec.ipv6, spec.udp);
        let (sequence, id) = next.entry(key).or_insert((u32::MAX - 5_000, u16::MAX - 3));
        spec.sequence = spec.sequence.wrapping_add(*sequence);
        spec.id = spec.id.wrapping_add(*id);
        *sequence = spec.sequence.wrapping_add(spec.payload.len() as u32);
        *id = spec.id.wrapping_add(1);
    }
    steps
}

proptest! {
    #[test]
    fn segmenting_gives_back_each_flow_byte_for_byte_in_order(
        steps in proptest::collection::vec(any_step(), 0..150),
        damage in proptest::option::of((any::<proptest::sample::Index>(), 0usize..60, 1u8..=255)),
    ) {
        let mut packets = build(&absolute(steps));
        if let (Some((index, at, bits)), false) = (damage, packets.is_empty()) {
            let packet = index.get_mut(&mut packets);
            let at = at % packet.len();
            packet[at] ^= bits;
        }
        let returned: Vec<Vec<u8>> =
            frames(ALL, &packets).iter().flat_map(|frame| segment(frame)).collect();
        prop_assert_eq!(returned.len(), packets.len());
        // By flow as the wire shows it: the packet's own flow, or its bytes if it has none.
        let split = |packets: Vec<Vec<u8>>| {
            let mut flows: Vec<(Option<Flow>, Vec<Vec<u8>>)> = Vec::new();
            for packet in packets {
                let flow = parse(&packet).flow;
                let packet = without_atomic_id(packet);
                match flows.iter_mut().find(|(other, _)| *other == flow) {
                    Some((_, list)) => list.push(packet),
                    None => flows.push((flow, vec![packet])),
                }
            }
            flows.sort_by(|a, b| format!("{:?}", a.0).cmp(&format!("{:?}", b.0)));
            flows
        };
        prop_assert_eq!(split(returned), split(packets));
    }

    #[test]
    fn any_bytes_are_carried_unchanged(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..40),
    ) {
        let frames = frames(ALL, &packets);
        let returned: Vec<Vec<u8>> = frames.iter().flat_map(|frame| segment(frame)).collect();
        prop_assert_eq!(returned, packets);
    }
}
