use super::*;
use crate::{
    TooLong,
    lan::{checksum::Sum, ip::IpHeader},
};

const MS: Duration = Duration::from_millis(1);
const DONT_FRAGMENT: u8 = 0x40;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const SYN: u8 = 0x02;

/// Passes datagrams between the two as [`Pair::run`] does, but drops those that are longer than `width` allows for inner
/// packets on their way to `b`.
fn run_narrow(pair: &mut Pair, width: usize, duration: Duration) {
    let end = pair.now + duration;
    while pair.now < end {
        for (to, bytes) in pair.a.sent() {
            if to == address(2) && bytes.len() <= width + 32 {
                pair.b.datagram(1, &bytes, pair.now);
            }
        }
        for (_, bytes) in pair.b.sent() {
            pair.a.datagram(2, &bytes, pair.now);
        }
        pair.now += 5 * MS;
        for station in [&mut pair.a, &mut pair.b] {
            station.node.handle_timeout(pair.now, &mut station.transmit);
        }
    }
}

/// Two nodes of which the first knows that 1220 bytes pass to the second.
fn narrowed() -> Pair {
    let mut pair = connected();
    assert_eq!(known(&pair), 1400);
    pair.a.tun(echo(1400, DONT_FRAGMENT), pair.now);
    run_narrow(&mut pair, 1220, Duration::from_secs(3));
    assert_eq!(known(&pair), 1220);
    pair.b.received.clear();
    pair
}

/// What `a` believes.
fn known(pair: &Pair) -> usize {
    pair.a.node.status(pair.now).peers[0].mtu
}

/// A datagram of `a` to `b`, `len` bytes long.
fn echo(len: usize, flags: u8) -> Vec<u8> {
    let mut frame = frame(1, 2);
    frame.resize(VNET + len, 0xAB);
    let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
    frame[VNET + 2..VNET + 4].copy_from_slice(&[high, low]);
    frame[VNET + 6] = flags;
    frame
}

/// A TCP segment with these flags and options and `payload` bytes, as the kernel hands it over; with a size the kernel
/// wants it cut.
fn segment(flags: u8, options: &[u8], payload: usize, size: u16) -> Vec<u8> {
    let headers = 20 + options.len();
    let mut frame = echo(20 + headers + payload, DONT_FRAGMENT);
    if size > 0 {
        frame[..2].copy_from_slice(&[1, 1]);
        let start = u16::try_from(20 + headers).unwrap();
        for (at, field) in [(2, start), (4, size), (6, 20), (8, 16)] {
            frame[at..at + 2].copy_from_slice(&field.to_ne_bytes());
        }
    }
    let packet = &mut frame[VNET..];
    packet[9] = 6;
    let tcp = &mut packet[20..];
    tcp[..20].fill(0);
    tcp[7] = 77;
    tcp[12] = u8::try_from(headers / 4).unwrap() << 4;
    tcp[13] = flags;
    tcp[20..headers].copy_from_slice(options);
    let sum = tcp_sum(packet);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn tcp_sum(packet: &[u8]) -> u16 {
    let ip = IpHeader::parse(packet).unwrap();
    let tcp = &packet[20..];
    Sum::default()
        .add_pseudo_header(ip.source, ip.destination, 6, tcp.len())
        .plus(tcp)
        .finish()
}

fn messages(station: &mut Station) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| station.node.poll_message()).collect()
}

#[test]
fn a_new_session_asks_twice_and_a_clean_path_is_known_at_once() {
    let mut pair = connected();
    assert_eq!(known(&pair), 1400);
    pair.a.tun(echo(1400, DONT_FRAGMENT), pair.now);
    assert_eq!(pair.a.sent().len(), 1);
    assert_eq!(messages(&mut pair.a), Vec::<Vec<u8>>::new());
}

#[test]
fn a_sender_is_told_by_the_peers_address_and_at_most_ten_times_at_once() {
    let mut pair = narrowed();
    for _ in 0..50 {
        pair.a.tun(echo(1221, DONT_FRAGMENT), pair.now);
    }
    assert!(pair.a.sent().iter().all(|(_, bytes)| bytes.len() <= 1252));
    assert_eq!(pair.a.drops(DropReason::PacketTooBig, pair.now), 50);
    let told = messages(&mut pair.a);
    assert_eq!(told.len(), 10);
    for message in told {
        let ip = IpHeader::parse(&message).unwrap();
        assert_eq!((ip.source, ip.destination), (virtual_ip(2), virtual_ip(1)));
        assert_eq!(message[20..22], [3, 4]);
        assert_eq!(message[26..28], 1220_u16.to_be_bytes());
        assert_eq!(message[28..], echo(1221, DONT_FRAGMENT)[VNET..][..548]);
    }
}

#[test]
fn a_packet_that_may_be_fragmented_arrives_in_pieces() {
    let mut pair = narrowed();
    pair.a.tun(echo(1400, 0), pair.now);
    pair.exchange();
    let lengths: Vec<usize> = pair.b.received.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1220, 200]);
    assert!(messages(&mut pair.a).is_empty());
}

#[test]
fn tcp_is_cut_to_fit_and_its_sender_told() {
    for (payload, size) in [(1360, 0), (4 * 1360 - 5, 1360)] {
        let mut pair = narrowed();
        let whole = segment(ACK | PSH, &[], payload, size);
        pair.a.tun(whole.clone(), pair.now);
        pair.exchange();
        let mut bytes = Vec::new();
        let last = pair.b.received.len() - 1;
        for (number, packet) in pair.b.received.iter().enumerate() {
            assert!(packet.len() <= 1220);
            assert_eq!(tcp_sum(packet), 0);
            let sequence = u32::from_be_bytes(packet[24..28].try_into().unwrap());
            assert_eq!(sequence as usize, 77 + bytes.len());
            assert_eq!(packet[33] & PSH != 0, number == last);
            bytes.extend_from_slice(&packet[40..]);
        }
        assert_eq!(bytes, whole[VNET + 40..]);
        let told = messages(&mut pair.a);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0][26..28], 1220_u16.to_be_bytes());
    }
}

#[test]
fn the_segment_size_of_a_syn_is_lowered_on_the_way_out_and_on_the_way_in() {
    let asks = [2, 4, 5, 80];
    let mut pair = narrowed();
    pair.a.tun(segment(SYN, &asks, 0, 0), pair.now);
    pair.exchange();
    let [syn] = &pair.b.received[..] else {
        panic!("one packet")
    };
    assert_eq!(syn[40..44], [2, 4, 4, 156], "1180");
    assert_eq!(tcp_sum(syn), 0);
    let mut answer = segment(SYN | ACK, &asks, 0, 0);
    answer[VNET + 12..VNET + 20].copy_from_slice(&[10, 100, 0, 2, 10, 100, 0, 1]);
    pair.b.tun(answer, pair.now);
    pair.exchange();
    let syn = pair.a.received.last().unwrap();
    assert_eq!(syn[40..44], [2, 4, 4, 156], "the way back is clean");
    assert_eq!(tcp_sum(syn), 0);
}

#[test]
fn an_error_is_believed_if_it_quotes_what_was_sealed_a_moment_ago() {
    let claim = |quoted| TooLong {
        to: address(2),
        mtu: 1280,
        quoted,
    };
    let mut pair = connected();
    pair.a.tun(echo(1400, DONT_FRAGMENT), pair.now);
    let (_, sealed) = pair.a.sent().remove(0);
    let mut other_index = sealed.clone();
    other_index[5] ^= 1;
    let mut other_counter = sealed.clone();
    other_counter[8] = other_counter[8].wrapping_add(1);
    let refused = [
        &other_index[..],
        &other_counter,
        &sealed[..20],
        &[],
        &[4; 64],
    ];
    let elsewhere = TooLong {
        to: address(3),
        ..claim(Some(&sealed))
    };
    for lie in refused
        .map(|quoted| claim(Some(quoted)))
        .into_iter()
        .chain([elsewhere])
    {
        pair.a.node.handle_too_long(lie, pair.now);
        assert_eq!(known(&pair), 1400, "{lie:?}");
    }
    assert_eq!(pair.a.drops(DropReason::RefusedIcmp, pair.now), 6);
    pair.a
        .node
        .handle_too_long(claim(Some(&sealed[..64])), pair.now);
    assert_eq!(known(&pair), 1220);
    // It was false: the path carries everything, and an answer says so.
    pair.run(100 * MS);
    assert_eq!(known(&pair), 1400);
    pair.a.node.handle_too_long(claim(None), pair.now);
    assert_eq!(known(&pair), 1220, "our own system says so");
}

#[test]
fn a_flood_of_errors_is_not_even_looked_at() {
    let mut pair = connected();
    let forged = TooLong {
        to: address(2),
        mtu: 600,
        quoted: Some(&[4; 64]),
    };
    for _ in 0..1000 {
        pair.a.node.handle_too_long(forged, pair.now);
    }
    assert_eq!(pair.a.drops(DropReason::RefusedIcmp, pair.now), 1000);
    assert_eq!(known(&pair), 1400);
}
