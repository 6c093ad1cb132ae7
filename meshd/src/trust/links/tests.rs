use ed25519_dalek::SigningKey;
use mesh_wire::trust::Capability;

use super::*;
use crate::{
    discovery::scope::tests::root,
    trust::{
        anchor::tests::binding,
        authority::{Authority, Offer},
    },
};

fn link(uses: Option<u32>) -> Capability {
    let network = Authority::of_network(root(), SigningKey::from_bytes(&[1; 32]));
    let offer = Offer {
        uses,
        ..Offer::default()
    };
    network.invite(&offer).unwrap()
}

fn joined(link: &Capability, node: u8) -> Certificate {
    let roles = link.invite.terms.roles;
    link.certify(&root(), &binding(node, roles)).unwrap()
}

#[test]
fn whom_a_link_let_in_first_is_in_and_the_others_are_not_also_after_a_restart() {
    let (two, any) = (link(Some(2)), link(None));
    let mut links = Links::default();
    for node in [2, 3, 2] {
        assert_eq!(links.used_up(&joined(&two, node)), None);
        links.note(&joined(&two, node));
    }
    let text = serde_json::to_string(&links).unwrap();
    let links: Links = serde_json::from_str(&text).unwrap();
    assert!(!links.is_changed());
    let third = joined(&two, 4);
    let (uses, by) = links.used_up(&third).unwrap();
    assert_eq!((uses, by.len()), (2, 2));
    assert_eq!(links.used_up(&joined(&two, 3)), None, "known");
    let mut links = links;
    for node in 2..20 {
        assert_eq!(links.used_up(&joined(&any, node)), None);
        links.note(&joined(&any, node));
    }
    assert!(!links.is_changed(), "what has no number is not counted");
}

#[test]
fn the_maker_puts_out_whoever_is_too_many_and_at_last_the_link() {
    let one = link(Some(1));
    let mut links = Links::default();
    let bob = joined(&one, 2);
    links.note(&bob);
    let nobody = |_: &NodeId| false;
    assert_eq!(links.overused(|_| true).count(), 0);
    for node in 3..100 {
        let surplus = joined(&one, node);
        assert!(links.used_up(&surplus).is_some());
        links.note_surplus(&surplus, 5);
        links.note_surplus(&surplus, 6);
        let overused = links.overused(|maker| maker.is_none()).next().unwrap();
        let count = usize::from(node) - 2;
        let out = overused.sentence(|node| *node == bob.binding.node_id);
        assert_eq!(out.len(), count.min(MAX_SURPLUS), "bob rests on the link");
        let out = overused.sentence(nobody);
        assert_eq!(out.contains(&one.invite.terms.key), count >= MAX_SURPLUS);
        assert!(!out.contains(&bob.binding.node_id));
    }
    assert_eq!(links.overused(|maker| maker.is_some()).count(), 0);
}

#[test]
fn no_more_links_are_kept_than_some() {
    let mut links = Links::default();
    let made = joined(&link(Some(1)), 2);
    let (invite, _) = counted(&made).unwrap();
    for number in 0..MAX_LINKS {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        links.note(&made);
        let known = links.known.remove(&invite.terms.key).unwrap();
        let until = 10 + number as u64;
        links
            .known
            .insert(NodeId::from_bytes(bytes), Link { until, ..known });
    }
    links.note(&made);
    assert_eq!(links.known.len(), MAX_LINKS);
    assert!(links.known.values().all(|link| link.until > 10));
}
