use ed25519_dalek::SigningKey;
use mesh_wire::{WireGuardKey, peer_info::PeerRecord};

use super::*;
use crate::discovery::scope::tests::{certified, keyed, peer, root, scope};

const NOW: u64 = 1_800_000_000;
/// Two servers.
const A: ServerId = 1;
const B: ServerId = 2;

fn believed() -> Believed {
    Believed::new(scope(), Directory::default(), NOW)
}

pub(super) fn snapshot(peers: Vec<PeerInfo>) -> ServerMessage {
    ServerMessage::Snapshot {
        complete: true,
        revision: 1,
        peers,
        revocations: Vec::new(),
    }
}

#[test]
fn a_snapshot_replaces_the_list_and_keeps_it_sorted() {
    let mut believed = believed();
    assert!(believed.apply(
        A,
        &snapshot(vec![peer(2, "bob", 1), peer(1, "alice", 1)]),
        NOW
    ));
    let names: Vec<_> = believed
        .directory()
        .peers
        .iter()
        .map(|p| p.name.clone())
        .collect();
    assert_eq!(names, ["alice", "bob"]);
    assert!(!believed.apply(
        A,
        &snapshot(vec![peer(2, "bob", 1), peer(1, "alice", 1)]),
        NOW
    ));
}

#[test]
fn an_empty_server_empties_nothing_for_a_day() {
    let mut believed = believed();
    believed.apply(
        A,
        &snapshot(vec![peer(1, "alice", 1), peer(2, "bob", 1)]),
        NOW,
    );
    assert!(believed.apply(A, &snapshot(vec![]), NOW));
    let peers = &believed.directory().peers;
    assert_eq!(peers.len(), 2);
    assert!(peers.iter().all(|peer| !peer.online));
    believed.apply(A, &snapshot(vec![peer(2, "bob", 1)]), NOW + KEPT);
    assert_eq!(believed.directory().peers.len(), 2);
    believed.apply(A, &snapshot(vec![peer(2, "bob", 1)]), NOW + KEPT + 1);
    assert_eq!(believed.directory().peers.len(), 1);
    // Who has come back is kept for a day again.
    let mut again = self::believed();
    again.apply(A, &snapshot(vec![peer(2, "bob", 1)]), NOW);
    again.apply(A, &snapshot(vec![]), NOW);
    let back = ServerMessage::PeerJoined {
        revision: 2,
        peer: Box::new(peer(2, "bob", 2)),
    };
    again.apply(A, &back, NOW);
    again.apply(A, &snapshot(vec![]), NOW + 2 * KEPT);
    assert_eq!(again.directory().peers.len(), 1);
    // Who leaves by itself is gone at once.
    let left = ServerMessage::PeerLeft {
        revision: 3,
        node_id: peer(2, "bob", 1).record.node_id,
    };
    assert!(believed.apply(A, &left, NOW));
    assert!(believed.directory().peers.is_empty());
}

#[test]
fn an_address_stays_with_whom_it_was_known_first_while_that_one_is_listed() {
    let mut believed = believed();
    let bob = peer(2, "bob", 1);
    let thief = PeerInfo {
        virtual_ips: bob.virtual_ips.clone(),
        ..peer(3, "carol", 1)
    };
    believed.apply(A, &snapshot(vec![bob.clone(), thief.clone()]), NOW);
    assert_eq!(believed.directory().peers, [bob]);
    assert!(!believed.has_evicted());
    believed.apply(A, &snapshot(vec![thief.clone()]), NOW);
    assert_eq!(believed.directory().peers, [thief]);
    assert!(believed.has_evicted());
    believed.apply(A, &snapshot(vec![peer(3, "carol", 1)]), NOW);
    assert!(!believed.has_evicted());
}

fn keyed_with(peers: Vec<PeerInfo>) -> Believed {
    let mut believed = Believed::new(keyed(), Directory::default(), NOW);
    believed.apply(A, &snapshot(peers), NOW);
    believed
}

#[test]
fn who_is_revoked_is_gone_and_does_not_come_back_whatever_the_server_lists() {
    let (bob, carol) = (certified(2, |_| {}), certified(3, |_| {}));
    let mut believed = keyed_with(vec![bob.clone(), carol]);
    assert_eq!(believed.directory().peers.len(), 2);
    let key = SigningKey::from_bytes(&[1; 32]);
    let node = bob.record.node_id;
    let revocation = Revocation::sign(&root(), &key, None, (&node, NOW)).unwrap();
    assert!(believed.revoke(&revocation));
    assert!(!believed.revoke(&revocation));
    assert!(believed.directory().by_node(&node).is_none());
    believed.apply(A, &snapshot(vec![bob.clone()]), NOW);
    assert!(believed.directory().by_node(&node).is_none());
    // It is in the cache too.
    let cached = believed.directory().clone();
    let mut again = Believed::new(keyed(), cached, NOW);
    again.apply(A, &snapshot(vec![bob]), NOW);
    assert!(again.directory().by_node(&node).is_none());
}

/// A member whose certificate holds until then, and which signed its record then.
fn holding(number: u8, until: u64, seq: u64) -> PeerInfo {
    let mut peer = certified(number, |binding| binding.span.until = until);
    let certificate = peer.record.stated_certificate();
    let signer = SigningKey::from_bytes(&[number; 32]);
    let words = ("host", Some(&certificate.unwrap()));
    let key = peer.record.wireguard_key;
    let network = scope().network;
    peer.record = PeerRecord::sign_with(&signer, &network, key, words, (seq, 1)).unwrap();
    peer
}

#[test]
fn an_expired_certificate_does_not_hold_but_a_clock_far_ahead_ends_none() {
    const DAY: u64 = 86_400;
    let ends = NOW + 40 * DAY;
    let bob = holding(2, ends, NOW);
    let holds = |clock, known: Vec<PeerInfo>| {
        let mut believed = keyed_with(known.clone());
        believed.apply(A, &snapshot([known, vec![bob.clone()]].concat()), clock);
        believed.directory().by_node(&bob.record.node_id).is_some()
    };
    assert!(holds(ends, vec![]));
    assert!(!holds(ends + 1, vec![]));
    assert!(!holds(ends + 1, vec![holding(3, NOW + 300 * DAY, ends)]));
    let carol = holding(3, NOW + 300 * DAY, NOW);
    assert!(
        holds(NOW + 3650 * DAY, vec![carol.clone()]),
        "ten years ahead"
    );
    assert!(holds(0, vec![carol]), "decades behind");
}

#[test]
fn who_joins_with_a_clock_far_ahead_believes_the_only_other_member() {
    const DAY: u64 = 86_400;
    let own = certified(99, |binding| binding.span.from = NOW);
    assert_eq!(own.record.node_id, keyed().node_id);
    let holds = |clock, ends| {
        let mut believed = Believed::new(keyed(), Directory::default(), clock);
        let bob = holding(2, ends, NOW);
        let first = snapshot(vec![bob, own.clone()]);
        let later = ServerMessage::PeerJoined {
            revision: 2,
            peer: Box::new(holding(3, ends, NOW)),
        };
        believed.apply(0, &first, clock);
        believed.apply(0, &later, clock);
        believed.directory().peers.len()
    };
    assert_eq!(holds(NOW + 3650 * DAY, NOW + 40 * DAY), 3);
    assert_eq!(holds(NOW + 3650 * DAY, NOW + 29 * DAY), 1, "itself");
    assert_eq!(holds(NOW, NOW), 3);
    assert_eq!(holds(NOW + 1, NOW), 1, "a clock that is right counts");
}

#[test]
fn a_key_that_its_owner_did_not_sign_is_never_believed() {
    let mut believed = believed();
    let mut swapped = peer(2, "bob", 1);
    swapped.record.wireguard_key = WireGuardKey::from_bytes([9; 32]);
    believed.apply(A, &snapshot(vec![swapped]), NOW);
    assert!(believed.directory().peers.is_empty());
    assert_eq!(believed.rejected(), 1);
}

#[test]
fn an_older_record_does_not_come_back() {
    let mut believed = believed();
    believed.apply(A, &snapshot(vec![peer(2, "bob", 5)]), NOW);
    let replay = ServerMessage::PeerUpdated {
        revision: 9,
        peer: Box::new(peer(2, "bob", 4)),
    };
    assert!(!believed.apply(A, &replay, NOW));
    assert_eq!(believed.directory().peers[0].record.seq, 5);
}

#[test]
fn an_error_message_empties_nothing() {
    let mut believed = believed();
    believed.apply(A, &snapshot(vec![peer(2, "bob", 1)]), NOW);
    let problem = mesh_wire::problem::Problem::new(500, "x", "x");
    assert!(!believed.apply(A, &ServerMessage::Error { problem }, NOW));
    assert_eq!(believed.directory().peers.len(), 1);
}

#[test]
fn who_is_only_remembered_is_not_online() {
    let cached = Directory {
        revision: 3,
        peers: vec![peer(2, "bob", 1)],
        revocations: Vec::new(),
    };
    let believed = Believed::new(scope(), cached, NOW);
    assert!(!believed.directory().peers[0].online);
}

#[test]
fn a_session_key_stays_with_whom_it_was_known_first() {
    let mut believed = believed();
    believed.apply(A, &snapshot(vec![peer(2, "bob", 1)]), NOW);
    let mut thief = peer(3, "0", 1);
    let signer = SigningKey::from_bytes(&[3; 32]);
    let stolen = WireGuardKey::from_bytes([2; 32]);
    thief.record = PeerRecord::sign(&signer, &scope().network, stolen, "0", (1, 1)).unwrap();
    assert!(!believed.apply(
        A,
        &ServerMessage::PeerJoined {
            revision: 2,
            peer: Box::new(thief)
        },
        NOW
    ));
    assert_eq!(believed.directory().peers.len(), 1);
}

fn online(believed: &Believed, name: &str) -> bool {
    let mut peers = believed.directory().peers.iter();
    peers
        .find(|peer| peer.name == name)
        .is_some_and(|peer| peer.online)
}

fn away(peer: PeerInfo) -> PeerInfo {
    PeerInfo {
        online: false,
        ..peer
    }
}

fn left(peer: &PeerInfo) -> ServerMessage {
    ServerMessage::PeerLeft {
        revision: 9,
        node_id: peer.record.node_id,
    }
}

#[test]
fn whom_one_server_lists_is_a_member_and_online_if_one_says_so() {
    let mut believed = believed();
    let (bob, carol) = (peer(2, "bob", 1), peer(3, "carol", 1));
    believed.apply(A, &snapshot(vec![bob.clone(), away(carol.clone())]), NOW);
    believed.apply(B, &snapshot(vec![away(bob.clone()), carol.clone()]), NOW);
    assert!(online(&believed, "bob") && online(&believed, "carol"));
    assert!(believed.is_online_at(A, &bob.record.node_id));
    assert!(!believed.is_online_at(B, &bob.record.node_id));
    // An empty server takes nobody away, for however long.
    assert!(believed.apply(B, &snapshot(vec![]), NOW));
    assert!(online(&believed, "bob") && !online(&believed, "carol"));
    believed.apply(B, &snapshot(vec![]), NOW + 2 * KEPT);
    believed.apply(A, &left(&carol), NOW + 2 * KEPT);
    assert_eq!(believed.directory().peers, std::slice::from_ref(&bob));
    // Who leaves one server is still on the other.
    believed.apply(B, &snapshot(vec![away(bob.clone())]), NOW);
    assert!(believed.apply(A, &left(&bob), NOW));
    assert!(!online(&believed, "bob") && believed.directory().peers.len() == 1);
    assert!(believed.apply(B, &left(&bob), NOW));
    assert!(believed.directory().peers.is_empty());
}

#[test]
fn a_lost_server_says_who_is_a_member_but_not_who_is_there() {
    let mut believed = believed();
    let (bob, carol) = (peer(2, "bob", 1), peer(3, "carol", 1));
    believed.apply(A, &snapshot(vec![bob.clone(), carol.clone()]), NOW);
    assert!(!believed.lost(A), "nobody knows better");
    assert!(online(&believed, "bob"));
    believed.apply(B, &snapshot(vec![bob.clone()]), NOW);
    assert!(online(&believed, "bob") && !online(&believed, "carol"));
    assert_eq!(believed.directory().peers.len(), 2);
    believed.apply(A, &snapshot(vec![carol]), NOW);
    assert!(online(&believed, "carol"));
    assert!(believed.lost(A));
    assert!(!online(&believed, "carol"));
    // Used no more: who was listed there alone is kept for a day.
    assert!(!believed.forget(A, NOW));
    assert_eq!(believed.directory().peers.len(), 2);
    believed.apply(B, &snapshot(vec![bob.clone()]), NOW + KEPT + 1);
    assert_eq!(believed.directory().peers, [bob]);
    assert!(!believed.forget(B, NOW + 9 * KEPT), "the last one");
    assert_eq!(believed.directory().peers.len(), 1);
}

#[test]
fn the_newest_record_counts_whichever_server_shows_it_and_the_older_one_is_no_lie() {
    let mut believed = believed();
    believed.apply(A, &snapshot(vec![peer(2, "bob", 5)]), NOW);
    believed.apply(B, &snapshot(vec![away(peer(2, "bob", 3))]), NOW);
    let seq = |believed: &Believed| believed.directory().peers[0].record.seq;
    assert_eq!((seq(&believed), believed.rejected()), (5, 0));
    assert!(online(&believed, "bob"));
    believed.apply(B, &snapshot(vec![peer(2, "bob", 7)]), NOW);
    assert_eq!((seq(&believed), believed.rejected()), (7, 0));
    // But what a server has shown it cannot take back.
    believed.apply(B, &snapshot(vec![peer(2, "bob", 3)]), NOW);
    assert_eq!((seq(&believed), believed.rejected()), (7, 1));
}

#[test]
fn without_a_key_an_address_stays_as_another_server_has_it() {
    let mut believed = believed();
    let bob = peer(2, "bob", 1);
    let moved = PeerInfo {
        virtual_ips: vec![[10, 100, 0, 77].into()],
        name: "rob".into(),
        ..peer(2, "bob", 2)
    };
    believed.apply(A, &snapshot(vec![bob.clone()]), NOW);
    believed.apply(B, &snapshot(vec![moved.clone()]), NOW);
    let [known] = believed.directory().peers.as_slice() else {
        panic!("one member")
    };
    assert_eq!((&known.name, known.record.seq), (&bob.name, 2));
    assert_eq!(known.virtual_ips, bob.virtual_ips);
    // A server that is alone may still move who lost its place.
    believed.forget(A, NOW);
    believed.apply(B, &snapshot(vec![moved.clone()]), NOW);
    assert_eq!(believed.directory().peers, [moved]);
}

#[test]
fn a_revocation_that_one_server_tells_holds_on_all() {
    let bob = certified(2, |_| {});
    let mut believed = keyed_with(vec![bob.clone()]);
    let key = SigningKey::from_bytes(&[1; 32]);
    let revocation = Revocation::sign(&root(), &key, None, (&bob.record.node_id, NOW)).unwrap();
    let revoked = ServerMessage::Revoked {
        revision: 2,
        revocation: revocation.to_text(),
    };
    assert!(believed.apply(B, &revoked, NOW));
    believed.apply(A, &snapshot(vec![bob]), NOW);
    assert!(believed.directory().peers.is_empty());
}

#[test]
fn a_server_that_lists_without_end_fills_no_memory() {
    let mut presence = Presence::default();
    let bob = peer(2, "bob", 1);
    for number in 0..5_000_u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let mut other = bob.clone();
        other.record.node_id = NodeId::from_bytes(bytes);
        presence.note(A, &other);
    }
    presence.note(A, &bob);
    assert!(!presence.is_listed(&bob.record.node_id));
    presence.replace(A, std::slice::from_ref(&bob));
    assert!(presence.is_listed(&bob.record.node_id));
}
