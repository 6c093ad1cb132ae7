use super::*;

fn woke(events: &[Event]) -> usize {
    let awoke = |event: &&Event| matches!(event, Event::Awoke { .. });
    events.iter().filter(awoke).count()
}

#[test]
fn whoever_wakes_says_so_once_and_tells_its_peers_where_it_is_at_once() {
    for slept in [31, 600, 8 * 3600].map(Duration::from_secs) {
        let mut pair = connected();
        pair.run(Duration::from_secs(20));
        let server = SocketAddr::from(([198, 51, 100, 200], 3478));
        pair.a.tell(Command::SetStunServers(vec![server]), pair.now);
        pair.exchange();
        pair.now += slept;
        for again in [false, true] {
            pair.a.node.handle_timeout(pair.now, &mut pair.a.transmit);
            let events = pair.a.events();
            assert_eq!(woke(&events), usize::from(!again), "{slept:?}: {events:?}");
            let to = node_id(2);
            let signals = events.iter();
            let signals = signals
                .filter(|event| matches!(event, Event::Signal { to: peer, .. } if *peer == to));
            assert_eq!(
                signals.count(),
                usize::from(!again),
                "{slept:?}: {events:?}"
            );
            let asked = pair.a.sent().iter().any(|(to, _)| *to == server);
            assert_eq!(asked, !again, "{slept:?}");
        }
    }
}

#[test]
fn a_command_that_comes_first_wakes_as_well() {
    let mut pair = connected();
    pair.run(Duration::from_secs(20));
    pair.now += Duration::from_secs(600);
    pair.a.tell(Command::SetHosts(vec![address(1)]), pair.now);
    assert_eq!(woke(&pair.a.events()), 1);
}

#[test]
fn a_node_with_nothing_to_do_notices_too_and_says_since_when() {
    let mut pair = Pair::new();
    for entry in [2, 1] {
        let station = if entry == 2 { &mut pair.a } else { &mut pair.b };
        station.tell(Command::SetPeers(Vec::new()), pair.now);
    }
    let node = &mut pair.a.node;
    let mut transmit = TransmitQueue::new();
    for _ in 0..10 {
        let (due, _) = node.poll_timeout();
        assert!(due > pair.now + Duration::from_secs(10), "it is at rest");
        pair.now = due;
        node.handle_timeout(pair.now, &mut transmit);
        assert_eq!(node.poll_event(), None);
    }
    let slept = pair.now;
    node.handle_timeout(slept + Duration::from_secs(60), &mut transmit);
    assert_eq!(node.poll_event(), Some(Event::Awoke { since: slept }));
    assert_eq!(node.poll_event(), None);
}

#[test]
fn whoever_wakes_without_keys_makes_new_ones_though_the_peer_still_has_its_own() {
    // Of the two, the second is never controlling, and so not the one that begins.
    let mut pair = connected();
    pair.run(Duration::from_secs(20));
    let (before, mut ahead) = (pair.b.received.len(), pair.now + Duration::from_secs(600));
    for step in 0..200 {
        if step % 4 == 0 {
            pair.a.tun(frame(1, 2), pair.now);
        }
        for (station, now) in [(&mut pair.a, pair.now), (&mut pair.b, ahead)] {
            if station.node.poll_timeout().0 <= now {
                station.node.handle_timeout(now, &mut station.transmit);
            }
        }
        // Of these times only the receiver's counts.
        pass(&mut pair.a, &mut pair.b, ahead);
        pass(&mut pair.b, &mut pair.a, pair.now);
        pair.now += Duration::from_millis(5);
        ahead += Duration::from_millis(5);
    }
    let came = pair.b.received.len() - before;
    assert!(came > 20, "{came} of 50 packets came within a second");
}
