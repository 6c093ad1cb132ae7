use super::*;

/// Two connected nodes, the first of which has found that the path is gone.
fn given_up() -> Pair {
    let mut pair = connected();
    // Whoever sends and hears nothing for long takes the path for gone.
    for _ in 0..80 {
        pair.now += Duration::from_millis(200);
        pair.a.tun(frame(1, 2), pair.now);
        pair.a.node.handle_timeout(pair.now, &mut pair.a.transmit);
        pair.a.sent();
    }
    assert_eq!(pair.a.node.status(pair.now).peers[0].endpoint, None);
    pair
}

#[test]
fn what_waits_goes_as_soon_as_the_peer_is_heard_again() {
    let mut pair = given_up();
    pair.a.tun(frame(1, 2), pair.now);
    assert!(
        pair.a.sent().iter().all(|(_, bytes)| bytes[0] != 4),
        "it waits"
    );
    pair.b.tun(frame(2, 1), pair.now);
    let (_, message) = pair.b.sent().remove(0);
    pair.a.datagram(2, &message, pair.now);
    let data = pair.a.sent();
    let data = data
        .iter()
        .filter(|(to, bytes)| *to == address(2) && bytes[0] == 4);
    assert!(data.count() > 0, "nothing was sent to where it was heard");
}

#[test]
fn a_question_over_a_path_that_was_given_up_is_answered_over_it() {
    let mut pair = given_up();
    let index = pair.a.node.peers.by_node(&node_id(2)).unwrap();
    pair.a.node.peers.get_mut(index).unwrap().pending.clear();
    let ask = Command::Ping {
        node: node_id(1),
        id: 7,
    };
    pair.b.tell(ask, pair.now);
    // It was not called for long either, so it shows up as well as it asks.
    for (_, message) in pair.b.sent() {
        pair.a.datagram(2, &message, pair.now);
    }
    let answers = pair.a.sent();
    let mut answers = answers
        .iter()
        .filter(|(to, bytes)| *to == address(2) && bytes[0] == 4);
    assert!(
        answers.next().is_some(),
        "the answer waits for another path"
    );
}
