use mesh_wire::signal::Signal;

use super::{super::letters::Cause, *};
use crate::path::agent::Scope;

const PEERS: u8 = 121;

/// A node with 120 peers, numbered from 2.
fn station(now: Instant) -> Station {
    let mut station = Station::new(1, now);
    let peers = (2..=PEERS).map(entry).collect();
    station.tell(Command::SetPeers(peers), now);
    station
}

/// Whom the letters are for that leave now.
fn letters(station: &mut Station) -> Vec<u8> {
    let events = station.events().into_iter();
    let all = events.filter_map(|event| {
        let Event::Signal { to, .. } = event else {
            return None;
        };
        (2..=PEERS).find(|number| node_id(*number) == to)
    });
    all.collect()
}

/// Those that leave within `time`, each with the milliseconds that it took.
fn over(station: &mut Station, begin: Instant, time: Duration) -> Vec<(u128, u8)> {
    let (mut now, mut all) = (begin, Vec::new());
    loop {
        let at = (now - begin).as_millis();
        all.extend(letters(station).into_iter().map(|to| (at, to)));
        now = station.node.poll_timeout().0;
        if now > begin + time {
            return all;
        }
        station.node.handle_timeout(now, &mut station.transmit);
    }
}

#[test]
fn letters_leave_as_the_server_forwards_them_and_all_of_them_before_any_is_repeated() {
    let now = Instant::now();
    let mut station = station(now);
    for number in 2..=PEERS {
        station.tun(frame(1, number), now);
    }
    let sent = over(&mut station, now, Duration::from_secs(6));
    let at_once = sent.iter().filter(|(at, _)| *at == 0).count();
    assert_eq!(at_once, 48);
    let apart = |count: usize| sent.windows(count + 1).map(move |w| w[count].0 - w[0].0);
    // 64 at once and 20 a second are forwarded.
    for count in [64, 80] {
        let needed = u128::try_from(count - 64).unwrap() * 50;
        assert!(apart(count).all(|time| time >= needed), "{sent:?}");
    }
    let first: std::collections::BTreeSet<_> = sent[..120].iter().map(|(_, to)| *to).collect();
    assert_eq!(first.len(), 120, "{sent:?}");
    assert!(sent[119].0 <= 4_500, "{:?}", sent[119]);
    // 16 a second, repetitions included.
    assert!((48 + 95..=48 + 97).contains(&sent.len()), "{}", sent.len());
}

#[test]
fn a_letter_for_whom_a_packet_waits_goes_before_one_for_whom_none_does() {
    let now = Instant::now();
    let mut station = station(now);
    for number in 2..=PEERS {
        station
            .node
            .new_agent((number_of(&station, number), Scope::Any), now);
        station
            .node
            .send_signal(number_of(&station, number), Cause::News, now);
    }
    for number in [PEERS, 70, 90] {
        station.tun(frame(1, number), now);
    }
    assert_eq!(letters(&mut station)[..3], [70, 90, PEERS]);
}

#[test]
fn a_member_that_asks_over_and_over_waits_for_all_others() {
    let now = Instant::now();
    let mut station = station(now);
    let mut found = Vec::new();
    for step in 0..100_u32 {
        let now = now + Duration::from_millis(50) * step;
        let signal = Signal {
            ufrag: format!("ufrag{step:05}"),
            pwd: "p".repeat(24),
            remote_ufrag: None,
            candidates: Vec::new(),
        };
        let from = node_id(2);
        station.tell(Command::Signal { from, signal }, now);
        if step == 20 {
            for number in 3..=102 {
                station.tun(frame(1, number), now);
            }
        }
        station.node.handle_timeout(now, &mut station.transmit);
        found.extend(letters(&mut station).into_iter().map(|to| (step, to)));
    }
    let others: Vec<_> = found.iter().filter(|(_, to)| *to != 2).collect();
    let (last, _) = others[99];
    // 100 letters, some 30 of them at once, are written within 4.5 s of the 5.
    assert!(*last <= 20 + 90, "{last}");
    let between = found
        .iter()
        .filter(|(step, to)| *to == 2 && *step > 20 && step < last);
    assert_eq!(between.count(), 0);
}

fn number_of(station: &Station, number: u8) -> PeerIdx {
    station.node.peers.by_node(&node_id(number)).unwrap()
}
