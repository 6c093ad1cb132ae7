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
    let surplus = believed.links().overused(|maker| maker.is_none());
    let surplus: Vec<&str> = surplus
        .flat_map(|link| link.surplus)
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
