use std::collections::BTreeSet;

use is::Candidate;
use mesh_wire::carrier::BirthdayStep;

use super::*;
use crate::{
    path::birthday::{PROBES, SocketRequest},
    peer::table::PeerIdx,
    queue::transmit::Route,
};

const SECOND: Duration = Duration::from_secs(1);

fn victim() -> SocketAddr {
    ([203, 0, 113, 77], 4000).into()
}

/// A pair of which the second reaches the first by a relay only, and was told by it that it is at the victim's address.
fn misled() -> (Pair, PeerIdx) {
    let mut pair = connected();
    let mut signal = {
        let index = pair.a.node.peers.by_node(&node_id(2)).unwrap();
        let peer = pair.a.node.peers.get(index).unwrap();
        peer.agent.as_ref().unwrap().signal()
    };
    let candidate = Candidate::server_reflexive(victim(), address(1), "udp").unwrap();
    signal.candidates.push(candidate.to_sdp_string());
    let from = node_id(1);
    pair.b.tell(Command::Signal { from, signal }, pair.now);
    // Until its checks go there too.
    assert!(sends(&mut pair, 1).contains(&victim()));
    let index = pair.b.node.peers.by_node(&node_id(1)).unwrap();
    let relay = ([198, 51, 100, 50], 50_000).into();
    let peer = pair.b.node.peers.get_mut(index).unwrap();
    peer.detour.named(&[relay]);
    peer.link = Some(Route::to(relay));
    (pair, index)
}

fn letter(pair: &mut Pair, index: PeerIdx, number: u64, step: BirthdayStep) {
    let b = &mut pair.b;
    b.node
        .on_birthday_letter((index, number), step, pair.now, &mut b.transmit);
}

/// Where the second node sends within so many seconds.
fn sends(pair: &mut Pair, seconds: u32) -> Vec<SocketAddr> {
    let (end, mut all) = (pair.now + SECOND * seconds, Vec::new());
    while pair.now < end {
        let b = &mut pair.b;
        while let Some(request) = b.node.poll_socket() {
            if let SocketRequest::Begin(count) = request {
                assert_eq!(count, 0, "it probes, and opens nothing");
                let ports = Some(Vec::new());
                b.node.handle_sockets(ports, pair.now, &mut b.transmit);
            }
        }
        b.node.handle_timeout(pair.now, &mut b.transmit);
        all.extend(b.sent().into_iter().map(|(to, _)| to));
        pair.now += Duration::from_millis(5);
    }
    all
}

#[test]
fn a_member_that_names_a_victim_cannot_have_its_ports_probed() {
    let (mut pair, index) = misled();
    letter(&mut pair, index, 1, BirthdayStep::Ask);
    assert_eq!(pair.b.node.poll_socket(), None);
    letter(&mut pair, index, 1, BirthdayStep::Open);
    let sent = sends(&mut pair, 10);
    let at_victim = sent.iter().filter(|to| to.ip() == victim().ip());
    assert!(
        at_victim.count() <= 40,
        "the checks of ICE, counted elsewhere"
    );
}

#[test]
fn where_a_peer_has_proven_to_be_it_is_probed_once_in_ten_minutes() {
    let (mut pair, index) = misled();
    for (number, probes) in [(1, PROBES), (2, 0), (3, 0)] {
        let (now, peer) = (pair.now, pair.b.node.peers.get_mut(index).unwrap());
        peer.limits.knocks.answered(victim().ip(), now);
        letter(&mut pair, index, number, BirthdayStep::Ask);
        let mut sent = sends(&mut pair, 1);
        letter(&mut pair, index, number, BirthdayStep::Open);
        sent.extend(sends(&mut pair, 4));
        sent.retain(|to| to.ip() == victim().ip() && to.port() != victim().port());
        assert!(
            sent.len().abs_diff(probes) <= 1,
            "{} of {number}",
            sent.len()
        );
        let different: BTreeSet<SocketAddr> = sent.iter().copied().collect();
        assert_eq!(different.len(), sent.len(), "no port twice");
        assert!(sent.iter().all(|to| to.port() >= 1024));
    }
}

#[test]
fn a_node_that_shall_not_probe_does_not_answer() {
    let (mut pair, index) = misled();
    pair.b.node.local.birthday = false;
    let (now, peer) = (pair.now, pair.b.node.peers.get_mut(index).unwrap());
    peer.limits.knocks.answered(victim().ip(), now);
    letter(&mut pair, index, 1, BirthdayStep::Ask);
    assert_eq!(pair.b.node.poll_socket(), None);
}
