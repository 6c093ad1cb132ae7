use ed25519_dalek::SigningKey;
use mesh_wire::{
    discovery::ServerMessage,
    peer_info::Directory,
    trust::{Capability, Issuer},
};

use super::*;
use crate::{
    discovery::scope::tests::{keyed, member, root},
    trust::{
        anchor::tests::binding,
        authority::{Authority, Offer},
        unix_time,
    },
};

/// Two servers that know nothing of each other.
const A: u64 = 1;
const B: u64 = 2;

fn network() -> Authority {
    Authority::of_network(root(), SigningKey::from_bytes(&[1; 32]))
}

fn link_for(uses: u32) -> Capability {
    let offer = Offer {
        uses: Some(uses),
        ..Offer::default()
    };
    network().invite(&offer).unwrap()
}

fn by_link(number: u8, link: &Capability) -> PeerInfo {
    let roles = link.invite.terms.roles;
    let certificate = link.certify(&root(), &binding(number, roles)).unwrap();
    member(number, &certificate, 1)
}

/// The same with a certificate of the link's maker.
fn vouched_for(number: u8, link: &Capability) -> PeerInfo {
    let certificate = by_link(number, link).record.stated_certificate().unwrap();
    let certificate = network().certify(&certificate.binding).unwrap();
    assert_eq!(certificate.issuer, Issuer::Network);
    member(number, &certificate, 2)
}

fn listed(peers: Vec<PeerInfo>) -> ServerMessage {
    ServerMessage::Snapshot {
        revision: 1,
        complete: true,
        peers,
        revocations: Vec::new(),
    }
}

fn names(believed: &Believed) -> Vec<&str> {
    let peers = believed.directory().peers.iter();
    peers.map(|peer| peer.name.as_str()).collect()
}

#[test]
fn a_link_for_one_that_is_used_at_two_servers_lets_in_whom_one_heard_first() {
    let (link, now) = (link_for(1), unix_time());
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    believed.apply(A, &listed(vec![by_link(2, &link)]), now);
    believed.apply(B, &listed(vec![by_link(3, &link)]), now);
    assert_eq!(names(&believed), ["node-2"]);
    let refused = believed.refused(now);
    let why = Objection::LinkUsedUp {
        uses: 1,
        by: vec!["node-2".to_owned()],
    };
    assert_eq!(refused, [("node-3".to_owned(), why)]);
    let made = believed.links().made_by(|maker| maker.is_none());
    let surplus: Vec<&str> = made
        .flat_map(|link| link.surplus())
        .map(|surplus| surplus.name.as_str())
        .collect();
    assert_eq!(surplus, ["node-3"]);
    // Nor when the first rests on it no more, or after a restart.
    believed.apply(A, &listed(vec![vouched_for(2, &link)]), now);
    let (cached, links) = (believed.directory().clone(), believed.links().clone());
    let mut believed = Believed::counting(keyed(), cached, links, now);
    believed.apply(B, &listed(vec![by_link(3, &link)]), now);
    assert_eq!(names(&believed), ["node-2"]);
}

#[test]
fn who_was_heard_second_is_let_in_when_the_links_maker_vouches_for_it() {
    let (link, now) = (link_for(1), unix_time());
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    believed.apply(B, &listed(vec![by_link(3, &link)]), now);
    believed.apply(A, &listed(vec![by_link(2, &link)]), now);
    assert_eq!(names(&believed), ["node-3"]);
    believed.apply(A, &listed(vec![vouched_for(2, &link)]), now);
    assert_eq!(names(&believed), ["node-2", "node-3"]);
    let third = by_link(3, &link).record.node_id;
    believed.revoke(&network().revoke(&third).unwrap());
    assert_eq!(names(&believed), ["node-2"]);
}

#[test]
fn a_link_for_two_lets_in_two_and_ones_own_machine_is_not_judged() {
    let (link, now) = (link_for(2), unix_time());
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    let others = (2..6).map(|number| by_link(number, &link)).collect();
    believed.apply(A, &listed(others), now);
    assert_eq!(names(&believed), ["node-2", "node-3"]);
    let own = by_link(99, &link);
    assert_eq!(own.record.node_id, keyed().node_id);
    believed.apply(B, &listed(vec![own]), now);
    assert_eq!(names(&believed), ["node-2", "node-3", "node-99"]);
}

#[test]
fn who_was_let_in_rests_on_the_link_until_it_shows_another_certificate() {
    let (link, now) = (link_for(1), unix_time());
    let key = link.invite.terms.key;
    let bob = by_link(2, &link);
    let node = bob.record.node_id;
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    assert!(believed.may_rest_on(&key, &node), "unknown");
    believed.apply(A, &listed(vec![bob]), now);
    assert!(believed.may_rest_on(&key, &node));
    believed.apply(A, &listed(vec![vouched_for(2, &link)]), now);
    assert!(!believed.may_rest_on(&key, &node));
}

/// Whether the maker of the link vouches for the member as it stands.
fn is_vouched_for(believed: &Believed, member: &PeerInfo, now: u64) -> bool {
    let certificate = member.record.stated_certificate().unwrap();
    let standing = believed.standing(&certificate, now);
    standing.is_some_and(|standing| standing.is_first)
}

fn contest(believed: &Believed) -> Vec<NodeId> {
    let made = believed.links().made_by(|maker| maker.is_none());
    let contests = made.flat_map(|link| link.contest(believed.is_revoked()));
    contests.collect()
}

fn joins(peer: PeerInfo) -> ServerMessage {
    ServerMessage::PeerJoined {
        revision: 2,
        peer: Box::new(peer),
    }
}

#[test]
fn of_two_in_the_first_lists_after_an_absence_neither_is_first_in_whichever_order_they_stand() {
    let (link, now) = (link_for(1), unix_time());
    let key = link.invite.terms.key;
    let (bob, mallory) = (by_link(2, &link), by_link(3, &link));
    for (first, second) in [(&bob, &mallory), (&mallory, &bob)] {
        for servers in [[A, A], [A, B]] {
            let mut believed = Believed::new(keyed(), Directory::default(), now);
            believed.expect(servers.into_iter());
            match servers[0] == servers[1] {
                true => {
                    let list = listed(vec![first.clone(), second.clone()]);
                    believed.apply(A, &list, now);
                }
                false => {
                    believed.apply(A, &listed(vec![first.clone()]), now);
                    // The other server has said nothing yet.
                    assert!(!is_vouched_for(&believed, first, now));
                    believed.apply(B, &listed(vec![second.clone()]), now);
                }
            }
            believed.review(now + 5);
            assert_eq!(names(&believed), [first.name.as_str()]);
            assert!(!is_vouched_for(&believed, first, now));
            let nodes = [first.record.node_id, second.record.node_id];
            assert_eq!(contest(&believed), nodes);
            // Its user puts out the one that it had let in: the other one has its place.
            believed.revoke(&network().revoke(&nodes[0]).unwrap());
            let rests_on = |node: &NodeId| believed.may_rest_on(&key, node);
            let made = believed.links().made_by(|_| true).next().unwrap();
            assert!(!made.is_to_end(rests_on, believed.is_revoked()));
            believed.review(now + 10);
            assert_eq!(names(&believed), [second.name.as_str()]);
            assert!(is_vouched_for(&believed, second, now));
            assert!(contest(&believed).is_empty());
        }
    }
}

#[test]
fn who_is_heard_of_alone_is_first_and_whoever_comes_then_is_later_also_over_a_restart() {
    let (link, now) = (link_for(1), unix_time());
    let (bob, mallory) = (by_link(2, &link), by_link(3, &link));
    for restarts in [false, true] {
        let mut believed = Believed::new(keyed(), Directory::default(), now);
        believed.expect([A, B].into_iter());
        for server in [A, B] {
            believed.apply(server, &listed(Vec::new()), now);
        }
        believed.apply(A, &joins(bob.clone()), now);
        assert!(is_vouched_for(&believed, &bob, now));
        if restarts {
            let (cached, links) = (believed.directory().clone(), believed.links().clone());
            believed = Believed::counting(keyed(), cached, links, now);
            believed.apply(B, &listed(vec![mallory.clone()]), now);
        } else {
            believed.apply(B, &joins(mallory.clone()), now);
        }
        assert!(contest(&believed).is_empty());
        assert!(is_vouched_for(&believed, &bob, now));
        assert_eq!(names(&believed), ["node-2"]);
    }
}

#[test]
fn while_a_server_is_away_nobody_is_heard_of_alone() {
    let (link, now) = (link_for(1), unix_time());
    let (bob, mallory) = (by_link(2, &link), by_link(3, &link));
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    believed.expect([A, B].into_iter());
    for server in [A, B] {
        believed.apply(server, &listed(Vec::new()), now);
    }
    believed.lost(B);
    believed.apply(A, &joins(mallory.clone()), now);
    assert!(!is_vouched_for(&believed, &mallory, now));
    believed.apply(B, &listed(vec![bob.clone()]), now + 60);
    let nodes = [mallory.record.node_id, bob.record.node_id];
    assert_eq!(contest(&believed), nodes);
    // A server that is used no more is not waited for.
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    believed.expect([A, B].into_iter());
    believed.apply(A, &listed(vec![bob.clone()]), now);
    assert!(!is_vouched_for(&believed, &bob, now));
    believed.expect([A].into_iter());
    believed.review(now);
    assert!(is_vouched_for(&believed, &bob, now));
}

#[test]
fn a_server_that_lists_only_some_members_does_not_say_who_came_first() {
    let (link, now) = (link_for(1), unix_time());
    let mut believed = Believed::new(keyed(), Directory::default(), now);
    let partial = ServerMessage::Snapshot {
        revision: 1,
        complete: false,
        peers: Vec::new(),
        revocations: Vec::new(),
    };
    believed.apply(A, &partial, now);
    for number in [3, 2] {
        believed.apply(A, &joins(by_link(number, &link)), now);
    }
    assert_eq!(contest(&believed).len(), 2);
}
