use std::collections::BTreeSet;

use super::*;

/// The agents by whose names a node has offered itself to the second one.
fn offers(events: &[Event]) -> BTreeSet<String> {
    let offers = events.iter().filter_map(|event| {
        let Event::Signal { to, signal } = event else {
            return None;
        };
        (*to == node_id(2)).then(|| signal.ufrag.clone())
    });
    offers.collect()
}

#[test]
fn who_leaves_otherwise_shows_up_from_anywhere_asks_how_it_is_seen_and_dials() {
    let mut pair = connected();
    pair.run(Duration::from_secs(20));
    let server = SocketAddr::from(([198, 51, 100, 200], 3478));
    pair.a.tell(Command::SetStunServers(vec![server]), pair.now);
    pair.exchange();
    pair.a.events();
    pair.a.tell(Command::LeaveOtherwise, pair.now);
    let mut trains = pair.a.transmit.trains().iter();
    let to_b = trains.find(|train| train.route().dst == address(2));
    let to_b = to_b.expect("a sign of life");
    assert_eq!(to_b.route().src, None, "the system knows the way");
    pair.a.node.handle_timeout(pair.now, &mut pair.a.transmit);
    assert!(pair.a.sent().iter().any(|(to, _)| *to == server));
    assert_eq!(offers(&pair.a.events()).len(), 1);
    // Packets go on as they did.
    pair.a.tun(frame(1, 2), pair.now);
    pair.run(Duration::from_millis(5));
    assert!(pair.b.received.iter().any(|packet| !packet.is_empty()));
}

#[test]
fn an_address_that_goes_away_with_the_way_is_one_move() {
    let mut pair = connected();
    pair.run(Duration::from_secs(20));
    pair.a.events();
    let elsewhere = SocketAddr::from(([198, 51, 100, 77], 7081));
    pair.a.tell(Command::SetHosts(vec![elsewhere]), pair.now);
    pair.now += Duration::from_millis(3);
    pair.a.tell(Command::LeaveOtherwise, pair.now);
    assert_eq!(offers(&pair.a.events()).len(), 1, "one new agent");
    pair.now += Duration::from_secs(1);
    pair.a.tell(Command::LeaveOtherwise, pair.now);
    assert_eq!(offers(&pair.a.events()).len(), 1, "and one more, later");
}
