use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId,
    discovery::ServerMessage,
    peer_info::{Directory, PeerInfo},
    trust::{Binding, Certificate, Invite, InviteTerms, Issuer, Revocation, Roles, Span},
};

use super::*;
use crate::discovery::{
    directory::{Objection, tests::snapshot},
    scope::tests::{certified, keyed, member as certified_as, root},
};

const NOW: u64 = 1_800_000_000;
const A: ServerId = 1;

fn span() -> Span {
    Span {
        from: NOW - 100,
        until: NOW + 1000,
    }
}

/// A member by this issuer's word, with the place of member `place`.
fn member((number, place): (u8, u8), signer: &SigningKey, issuer: &Issuer, seq: u64) -> PeerInfo {
    let own = certified(number, |_| {}).record.stated_certificate();
    let other = certified(place, |_| {}).record.stated_certificate();
    let binding = Binding {
        virtual_ips: other.unwrap().binding.virtual_ips,
        roles: Roles::default(),
        span: span(),
        ..own.unwrap().binding
    };
    let certificate = Certificate::sign(&root(), signer, issuer, &binding).unwrap();
    certified_as(number, &certificate, seq)
}

fn by_network(who: (u8, u8), seq: u64) -> PeerInfo {
    let key = SigningKey::from_bytes(&[1; 32]);
    member(who, &key, &Issuer::Network, seq)
}

fn by_link(who: (u8, u8)) -> PeerInfo {
    let (key, link) = (
        SigningKey::from_bytes(&[1; 32]),
        SigningKey::from_bytes(&[8; 32]),
    );
    let terms = InviteTerms {
        key: NodeId::of(&link),
        uses: None,
        roles: Roles::default(),
        span: span(),
    };
    let invite = Invite::sign(&root(), &key, None, &terms).unwrap();
    member(who, &link, &Issuer::Invite(Box::new(invite)), 1)
}

fn knowing(peer: PeerInfo) -> Believed {
    let mut believed = Believed::new(keyed(), Directory::default(), NOW);
    believed.apply(A, &snapshot(vec![peer]), NOW);
    assert_eq!(believed.directory().peers.len(), 1);
    believed
}

fn joined(peer: PeerInfo) -> ServerMessage {
    ServerMessage::PeerJoined {
        revision: 2,
        peer: Box::new(peer),
    }
}

#[test]
fn whom_a_server_says_to_have_left_is_kept_and_comes_back_with_nothing_older() {
    let bob = by_network((2, 2), 9);
    let node = bob.record.node_id;
    let mut believed = knowing(bob);
    let left = ServerMessage::PeerLeft {
        revision: 2,
        node_id: node,
    };
    assert!(believed.apply(A, &left, NOW));
    assert!(!believed.directory().by_node(&node).unwrap().online);
    believed.apply(A, &joined(by_network((2, 2), 3)), NOW);
    assert_eq!(believed.directory().by_node(&node).unwrap().record.seq, 9);
    // It is forgotten like anybody who is not listed.
    believed.apply(A, &left, NOW);
    believed.apply(A, &snapshot(vec![]), NOW + KEPT + 1);
    assert!(believed.directory().by_node(&node).is_none());
}

#[test]
fn a_link_gives_nobody_what_belongs_to_a_member_that_is_left_out() {
    for (newcomer, gets_it) in [(by_link((3, 2)), false), (by_network((3, 2), 1), true)] {
        let bob = by_network((2, 2), 9);
        let mut believed = knowing(bob.clone());
        believed.apply(A, &snapshot(vec![newcomer.clone()]), NOW);
        let has = |peer: &PeerInfo| {
            let node = peer.record.node_id;
            believed.directory().by_node(&node).is_some()
        };
        assert_eq!((has(&newcomer), has(&bob)), (gets_it, !gets_it));
    }
}

#[test]
fn who_is_refused_for_what_a_lost_member_had_is_named_and_taken_in_once_that_one_is_gone() {
    let (bob, carol) = (by_network((2, 2), 9), by_link((3, 2)));
    let is_member = |believed: &Believed| {
        let node = carol.record.node_id;
        believed.directory().by_node(&node).is_some()
    };
    let mut believed = knowing(bob.clone());
    believed.apply(A, &snapshot(vec![carol.clone()]), NOW);
    let why = Objection::Claims {
        of: bob.name.clone(),
        is_listed: false,
    };
    assert_eq!(believed.refused(NOW), [(carol.name.clone(), why)]);
    let rejected = believed.rejected();
    assert!(!believed.review(NOW + 10));
    assert_eq!(
        (is_member(&believed), believed.rejected()),
        (false, rejected)
    );
    // No list comes, and the day is over all the same.
    let mut later = knowing(bob.clone());
    let since = NOW - KEPT;
    later.apply(A, &snapshot(vec![carol.clone()]), since);
    assert!(later.review(NOW + 1));
    assert!(is_member(&later) && later.refused(NOW + 1).is_empty());
    // Or the other one is put out.
    let key = SigningKey::from_bytes(&[1; 32]);
    let out = Revocation::sign(&root(), &key, None, (&bob.record.node_id, NOW)).unwrap();
    assert!(believed.revoke(&out) && believed.review(NOW + 10));
    assert!(is_member(&believed) && believed.refused(NOW).is_empty());
    // Whom the server does not list any more is not spoken of.
    let mut gone = knowing(bob.clone());
    gone.apply(A, &snapshot(vec![carol.clone()]), NOW);
    gone.apply(A, &snapshot(vec![bob]), NOW);
    assert!(gone.refused(NOW).is_empty());
}
