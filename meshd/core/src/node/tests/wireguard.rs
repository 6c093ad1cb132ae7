//! What WireGuard's own test of namespaces asks of two nodes, and what other implementations got wrong about a peer's
//! place. `docs/TESTING.md` lists it all.

use mesh_wire::wireguard::{NOISE_INITIATION, initiation};

use super::*;
use crate::wireguard::{guard::BUSY_PER_SECOND, mac::Stamp};

const SECOND: Duration = Duration::from_secs(1);
/// When the keys are worn.
const RENEWAL: Duration = Duration::from_secs(121);

fn v6(last: u16, port: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], port))
}

/// One datagram, from anywhere to any address of a station.
fn arrives(at: &mut Station, (from, to): (SocketAddr, SocketAddr), bytes: &[u8], now: Instant) {
    let arrival = Arrival {
        from,
        to,
        ecn: Ecn::NotEct,
        stream: None,
    };
    let (mut packets, mut train) = (PacketQueue::new(), bytes.to_vec());
    let whole = (&mut train[..], bytes.len());
    at.node
        .handle_train(arrival, whole, now, &mut at.transmit, &mut packets);
    at.received.extend(packets.iter(&train).map(<[u8]>::to_vec));
}

fn is_wireguard(bytes: &[u8]) -> bool {
    (1..=4).contains(&bytes[0]) && bytes[4..8] != [0x21, 0x12, 0xA4, 0x42]
}

/// The one message of this type, 1 to 4, that a station has sent.
fn only(sent: Vec<(SocketAddr, Vec<u8>)>, kind: u8) -> Vec<u8> {
    let mut of_kind = sent
        .into_iter()
        .map(|(_, bytes)| bytes)
        .filter(|bytes| is_wireguard(bytes) && bytes[0] == kind);
    let message = of_kind.next().expect("one is sent");
    assert_eq!(of_kind.next(), None, "more than one");
    message
}

fn endpoint(of: &Station, now: Instant) -> Option<SocketAddr> {
    of.node.status(now).peers[0].endpoint
}

/// As [`Pair::run`]; returns the WireGuard messages that passed, with the number of their receiver.
fn taped(pair: &mut Pair, duration: Duration) -> Vec<(u8, Vec<u8>)> {
    let (mut tape, end) = (Vec::new(), pair.now + duration);
    while pair.now < end {
        for receiver in [2, 1] {
            let (from, to) = match receiver {
                2 => (&mut pair.a, &mut pair.b),
                _ => (&mut pair.b, &mut pair.a),
            };
            let sent = from.sent();
            let all = sent.iter().filter(|(_, bytes)| is_wireguard(bytes));
            tape.extend(all.map(|(_, bytes)| (receiver, bytes.clone())));
            for (_, bytes) in sent {
                to.datagram(from.number, &bytes, pair.now);
            }
            pass(from, to, pair.now);
        }
        pair.now += Duration::from_millis(5);
        for station in [&mut pair.a, &mut pair.b] {
            if station.node.poll_timeout().0 <= pair.now {
                station.node.handle_timeout(pair.now, &mut station.transmit);
            }
        }
    }
    tape
}

/// Sends a packet each way; both must arrive.
fn packets_pass(pair: &mut Pair) {
    let before = [pair.a.received.len(), pair.b.received.len()];
    pair.a.tun(frame(1, 2), pair.now);
    pair.b.tun(frame(2, 1), pair.now);
    pair.run(Duration::from_millis(5));
    let after = [pair.a.received.len(), pair.b.received.len()];
    assert_eq!(after, before.map(|count| count + 1));
}

#[test]
fn nothing_that_was_recorded_does_anything_a_second_time() {
    let mut pair = Pair::new();
    pair.a.tun(frame(1, 2), pair.now);
    let mut tape = taped(&mut pair, SECOND);
    for _ in 0..10 {
        pair.a.tun(frame(1, 2), pair.now);
        pair.b.tun(frame(2, 1), pair.now);
        tape.extend(taped(&mut pair, SECOND));
    }
    pair.b.tun(frame(2, 1), pair.now);
    tape.extend(taped(&mut pair, 12 * SECOND));
    pair.now += RENEWAL;
    pair.a.tun(frame(1, 2), pair.now);
    tape.extend(taped(&mut pair, SECOND));
    for (kind, least) in [(1, 2), (2, 2), (4, 30)] {
        let count = tape.iter().filter(|(_, bytes)| bytes[0] == kind).count();
        assert!(count >= least, "{count} messages of type {kind}");
    }
    assert!(
        tape.iter().any(|(_, bytes)| bytes.len() == 32),
        "no keepalive"
    );
    let received = [pair.a.received.len(), pair.b.received.len()];
    // At once and long after, from where it came and from elsewhere.
    for pause in [0, 1, 30] {
        pair.now += pause * SECOND;
        for from in [None, Some(v6(9, 9)), Some(address(9))] {
            for (to, bytes) in &tape {
                let (at, peer) = match to {
                    1 => (&mut pair.a, 2),
                    _ => (&mut pair.b, 1),
                };
                let way = (from.unwrap_or_else(|| address(peer)), address(*to));
                arrives(at, way, bytes, pair.now);
                let answers = at.sent();
                let answers = answers.iter().filter(|(_, bytes)| is_wireguard(bytes));
                assert_eq!(answers.count(), 0, "to one of type {}", bytes[0]);
            }
        }
    }
    assert_eq!([pair.a.received.len(), pair.b.received.len()], received);
    assert_eq!(endpoint(&pair.a, pair.now), Some(address(2)));
    assert_eq!(endpoint(&pair.b, pair.now), Some(address(1)));
    packets_pass(&mut pair);
}

#[test]
fn an_initiation_from_before_a_restart_brings_whoever_repeats_it_no_session() {
    let mut pair = Pair::new();
    pair.a.tun(frame(1, 2), pair.now);
    let tape = taped(&mut pair, SECOND);
    let old = tape.iter().filter(|(to, bytes)| *to == 2 && bytes[0] == 1);
    let old: Vec<_> = old.map(|(_, bytes)| bytes.clone()).collect();
    assert!(!old.is_empty());
    pair.b = Station::born_at(1_700_000_100, 2, pair.now);
    pair.b.tell(Command::SetPeers(vec![entry(1)]), pair.now);
    for bytes in &old {
        arrives(&mut pair.b, (address(9), address(2)), bytes, pair.now);
    }
    // It cannot know yet that this is an old one, and answers once; what nobody has confirmed is used for nothing.
    let answers = pair.b.sent();
    assert!(
        answers.iter().all(|(_, bytes)| bytes[0] == 2),
        "{answers:?}"
    );
    assert!(answers.len() <= 1, "{answers:?}");
    assert_eq!(endpoint(&pair.b, pair.now), None);
    let status = pair.b.node.status(pair.now);
    assert_eq!(status.peers[0].since_handshake, None);
    pair.b.tun(frame(2, 1), pair.now);
    let sent = pair.b.sent();
    assert!(sent.iter().all(|(_, bytes)| bytes[0] != 4), "{sent:?}");
    // The peer itself is heard at once.
    let restarted = PeerEntry {
        instance: 2,
        ..entry(2)
    };
    pair.a.tell(Command::SetPeer(restarted), pair.now);
    pair.run(2 * SECOND);
    assert_eq!(endpoint(&pair.b, pair.now), Some(address(1)));
    packets_pass(&mut pair);
}

#[test]
fn a_peer_is_followed_to_another_address_port_and_ip_version_by_any_authentic_message() {
    let mut pair = connected();
    let here = address(2);
    pair.a.tun(frame(1, 2), pair.now);
    let data = only(pair.a.sent(), 4);
    arrives(&mut pair.b, (v6(7, 7081), v6(2, 7081)), &data, pair.now);
    assert_eq!(endpoint(&pair.b, pair.now), Some(v6(7, 7081)));
    pair.b.tun(frame(2, 1), pair.now);
    let data = only(pair.b.sent(), 4);
    pair.a.datagram(2, &data, pair.now);
    // Whoever only receives says something after ten seconds.
    pair.now += 10 * SECOND;
    pair.a.node.handle_timeout(pair.now, &mut pair.a.transmit);
    let sent = pair.a.sent().into_iter();
    let keepalive = only(sent.filter(|(_, bytes)| bytes.len() == 32).collect(), 4);
    arrives(&mut pair.b, (v6(7, 9), v6(2, 7081)), &keepalive, pair.now);
    assert_eq!(endpoint(&pair.b, pair.now), Some(v6(7, 9)), "another port");
    // Anybody can have recorded an initiation; its answer proves where who made it is.
    pair.now += RENEWAL;
    pair.a.tun(frame(1, 2), pair.now);
    let begun = only(pair.a.sent(), 1);
    arrives(&mut pair.b, (address(8), here), &begun, pair.now);
    assert_eq!(endpoint(&pair.b, pair.now), Some(v6(7, 9)));
    let answer = only(pair.b.sent(), 2);
    arrives(&mut pair.a, (v6(6, 6), v6(1, 7081)), &answer, pair.now);
    assert_eq!(endpoint(&pair.a, pair.now), Some(v6(6, 6)));
}

#[test]
fn answers_leave_from_the_address_that_was_written_to() {
    let mut pair = connected();
    let sources = |station: &mut Station| -> Vec<_> {
        let trains = station.transmit.trains().iter();
        let all = trains.map(|train| (train.route().dst, train.route().src));
        let all = all.collect();
        station.transmit.clear();
        all
    };
    for (from, to) in [
        (address(8), SocketAddr::from(([203, 0, 113, 77], 7081))),
        (v6(1, 7081), v6(77, 7081)),
    ] {
        pair.now += RENEWAL;
        pair.a.tun(frame(1, 2), pair.now);
        let sent = pair.a.sent();
        for kind in [1, 4] {
            let message = only(sent.clone(), kind);
            arrives(&mut pair.b, (from, to), &message, pair.now);
            if kind == 4 {
                pair.b.tun(frame(2, 1), pair.now);
            }
            let answers = sources(&mut pair.b);
            assert_eq!(answers, [(from, Some(to.ip()))], "to one of type {kind}");
        }
        pair = connected();
    }
}

#[test]
fn a_packet_that_may_not_pass_still_shows_where_its_sender_is() {
    let mut pair = connected();
    pair.a.tun(frame(3, 2), pair.now);
    let forged = only(pair.a.sent(), 4);
    pair.b.datagram(7, &forged, pair.now);
    assert_eq!(pair.b.drops(DropReason::ForgedSource, pair.now), 1);
    assert_eq!(pair.b.received.len(), 1);
    assert_eq!(endpoint(&pair.b, pair.now), Some(address(7)));
}

/// More initiations than a node answers without a proof.
fn flood(at: &mut Station, now: Instant) {
    for port in 0..=BUSY_PER_SECOND {
        let mut message = initiation(9, &[0; NOISE_INITIATION]);
        Stamp::new(&public(at.number)).stamp(&mut message, now);
        let port = u16::try_from(port).unwrap();
        let from = SocketAddr::from(([203, 0, 113, 9], port));
        arrives(at, (from, address(at.number)), &message, now);
    }
    at.transmit.clear();
}

#[test]
fn a_cookie_from_elsewhere_moves_no_path() {
    let mut pair = connected();
    pair.now += RENEWAL;
    pair.a.tun(frame(1, 2), pair.now);
    let begun = only(pair.a.sent(), 1);
    flood(&mut pair.b, pair.now);
    pair.b.datagram(1, &begun, pair.now);
    let cookie = only(pair.b.sent(), 3);
    let heard = pair.a.node.status(pair.now).peers[0].since_rx;
    arrives(&mut pair.a, (address(9), address(1)), &cookie, pair.now);
    assert_eq!(endpoint(&pair.a, pair.now), Some(address(2)));
    assert_eq!(pair.a.node.status(pair.now).peers[0].since_rx, heard);
}

#[test]
fn a_cookie_makes_no_path_and_lets_the_next_initiation_through() {
    let mut pair = Pair::new();
    let (node, at) = (node_id(2), address(2));
    for kind in [3, 2] {
        pair.a.tell(Command::Knock { node, at }, pair.now);
        let begun = only(pair.a.sent(), 1);
        flood(&mut pair.b, pair.now);
        pair.b.datagram(1, &begun, pair.now);
        let answer = only(pair.b.sent(), kind);
        let from = if kind == 3 { address(9) } else { at };
        arrives(&mut pair.a, (from, address(1)), &answer, pair.now);
        let reached = (kind == 2).then_some(at);
        assert_eq!(endpoint(&pair.a, pair.now), reached);
        pair.now += SECOND;
    }
    pair.run(SECOND);
    packets_pass(&mut pair);
}

#[test]
fn another_preshared_key_ends_what_stood_and_holds_from_the_next_handshake_on() {
    let mut pair = connected();
    let with = |number| PeerEntry {
        psk: [8; 32],
        ..entry(number)
    };
    pair.a.tell(Command::SetPeer(with(2)), pair.now);
    pair.a.tun(frame(1, 2), pair.now);
    pair.b.tun(frame(2, 1), pair.now);
    pair.run(3 * SECOND);
    assert_eq!([pair.a.received.len(), pair.b.received.len()], [0, 1]);
    pair.b.tell(Command::SetPeer(with(1)), pair.now);
    pair.b.tun(frame(2, 1), pair.now);
    // An attempt that failed is repeated after five seconds.
    pair.run(6 * SECOND);
    packets_pass(&mut pair);
}

#[test]
fn a_peer_with_a_new_private_key_is_spoken_to_at_once_and_its_old_key_no_more() {
    let mut pair = connected();
    let renewed = PeerEntry {
        wireguard_key: public(5),
        instance: 2,
        ..entry(2)
    };
    let mut old = std::mem::replace(
        &mut pair.b,
        Station::with_key(5, (1_700_000_100, 2), pair.now),
    );
    pair.b.tell(Command::SetPeers(vec![entry(1)]), pair.now);
    pair.a.tell(Command::SetPeer(renewed), pair.now);
    pair.a.tun(frame(1, 2), pair.now);
    pair.run(SECOND);
    assert_eq!(pair.b.received.len(), 1);
    packets_pass(&mut pair);
    // Who still has the old key is a stranger: in the old session, and with a new one.
    let before = pair.a.received.len();
    old.tun(frame(2, 1), pair.now);
    pair.now += RENEWAL;
    old.tun(frame(2, 1), pair.now);
    for (_, bytes) in old.sent().iter().filter(|(_, bytes)| is_wireguard(bytes)) {
        pair.a.datagram(2, bytes, pair.now);
    }
    assert_eq!(pair.a.received.len(), before);
    let answers = pair.a.sent();
    assert!(
        answers.iter().all(|(_, bytes)| bytes[0] != 2),
        "{answers:?}"
    );
}

#[test]
fn our_own_key_is_no_peers_and_one_key_is_one_peers() {
    let now = Instant::now();
    let mut station = Station::new(1, now);
    let with_key = |number, key| PeerEntry {
        wireguard_key: key,
        ..entry(number)
    };
    let own = with_key(2, public(1));
    station.tell(Command::SetPeers(vec![own.clone(), entry(3)]), now);
    station.tell(Command::SetPeer(own), now);
    station.tell(Command::SetPeer(with_key(4, public(3))), now);
    let members: Vec<_> = station.node.peer_ids().collect();
    assert_eq!(members, [node_id(3)]);
    for nobody in [2, 4] {
        station.tun(frame(1, nobody), now);
        let at = address(nobody);
        let node = node_id(nobody);
        station.tell(Command::Knock { node, at }, now);
    }
    assert_eq!(station.sent(), []);
}

#[test]
fn a_peer_with_a_null_key_is_never_sent_a_message() {
    let mut pair = Pair::new();
    let null = PeerEntry {
        wireguard_key: WireGuardKey::from_bytes([0; 32]),
        ..entry(2)
    };
    pair.a.tell(Command::SetPeers(vec![null]), pair.now);
    let (node, at) = (node_id(2), address(2));
    pair.a.tell(Command::Knock { node, at }, pair.now);
    let mut messages = 0;
    for _ in 0..40 {
        pair.a.tun(frame(1, 2), pair.now);
        let tape = taped(&mut pair, SECOND / 4);
        messages += tape.iter().filter(|(to, _)| *to == 2).count();
    }
    assert_eq!(messages, 0);
    assert!(pair.b.received.is_empty());
}

#[test]
fn ten_thousand_members_are_told_apart_and_most_may_go() {
    let now = Instant::now();
    let mut station = Station::new(1, now);
    let ip = |number: u16| {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 100, high, low])
    };
    let member = |number: u16| {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        PeerEntry {
            node_id: NodeId::from_bytes(bytes),
            wireguard_key: WireGuardKey::from_bytes(bytes),
            virtual_ips: vec![ip(number)],
            ..entry(0)
        }
    };
    let all: Vec<_> = (2..10_002).map(member).collect();
    station.tell(Command::SetPeers(all.clone()), now);
    assert_eq!(station.node.peer_ids().count(), 10_000);
    let asked = |station: &mut Station, number: u16| {
        let mut packet = frame(1, 0);
        let [high, low] = number.to_be_bytes();
        packet[VNET + 18..VNET + 20].copy_from_slice(&[high, low]);
        station.tun(packet, now);
        let events = station.events().into_iter();
        let signals = events.filter_map(|event| {
            let Event::Signal { to, .. } = event else {
                return None;
            };
            Some(to)
        });
        signals.collect::<Vec<_>>()
    };
    for number in [2, 257, 4_000, 10_001] {
        assert_eq!(asked(&mut station, number), [member(number).node_id]);
    }
    station.tell(Command::SetPeers(all[..40].to_vec()), now);
    assert_eq!(station.node.peer_ids().count(), 40);
    assert_eq!(asked(&mut station, 10_000), []);
    assert_eq!(asked(&mut station, 30), [member(30).node_id]);
}

#[test]
fn who_sends_to_an_address_that_nobody_has_any_more_is_told() {
    let mut pair = connected();
    pair.a.tell(Command::RemovePeer(node_id(2)), pair.now);
    let told = |station: &mut Station| station.node.poll_message();
    for second in 0..3 {
        pair.a.tun(frame(1, 2), pair.now + second * SECOND);
        assert_eq!(told(&mut pair.a), None, "it may just not be known yet");
    }
    pair.a.tun(frame(1, 2), pair.now + 3 * SECOND);
    assert_eq!(
        told(&mut pair.a),
        None,
        "nobody has said that it is nobody's"
    );
    let address = [10, 100, 0, 2].into();
    let nobodys = Command::NobodyHas { address };
    pair.a.tell(nobodys, pair.now + 3 * SECOND);
    pair.a.tun(frame(1, 2), pair.now + 3 * SECOND);
    let message = told(&mut pair.a).expect("an answer");
    assert_eq!(message[12..20], [10, 100, 0, 2, 10, 100, 0, 1]);
    assert_eq!(message[20..22], [3, 1], "host unreachable");
    assert_eq!(message[28..], frame(1, 2)[VNET..]);
    for many in [[10, 100, 255, 255], [224, 0, 0, 251], [255; 4]] {
        let mut packet = frame(1, 2);
        packet[VNET + 16..VNET + 20].copy_from_slice(&many);
        for second in 10..16 {
            pair.a.tun(packet.clone(), pair.now + second * SECOND);
        }
    }
    assert_eq!(told(&mut pair.a), None, "no error about what is for many");
}
