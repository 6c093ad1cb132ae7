use ed25519_dalek::SigningKey;
use mesh_wire::trust::{Binding, Capability, Span};

use super::*;
use crate::{
    discovery::scope::tests::root,
    trust::{
        anchor::tests::binding,
        authority::{Authority, Offer},
        unix_time,
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

/// As [`joined`], with the date that its holder gives it.
fn joined_at(link: &Capability, node: u8, from: u64) -> Certificate {
    let binding = binding(node, link.invite.terms.roles);
    let span = Span {
        from,
        ..binding.span
    };
    let binding = Binding { span, ..binding };
    link.certify(&root(), &binding).unwrap()
}

fn id(certificate: &Certificate) -> NodeId {
    certificate.binding.node_id
}

fn nobody(_: &NodeId) -> bool {
    false
}

fn ours(links: &Links) -> Counted<'_> {
    links.made_by(|maker| maker.is_none()).next().unwrap()
}

fn is_first(links: &Links, certificate: &Certificate, now: u64) -> bool {
    links.standing(certificate, nobody, now).unwrap().is_first
}

fn orders(links: &Links) -> Vec<Order> {
    let surplus = ours(links).surplus().iter();
    surplus.map(|other| other.order).collect()
}

#[test]
fn whom_a_link_let_in_first_is_in_and_the_others_are_not_also_after_a_restart() {
    let (two, any) = (link(Some(2)), link(None));
    let mut links = Links::default();
    for node in [2, 3, 2] {
        assert_eq!(links.used_up(&joined(&two, node), nobody), None);
        links.note(&joined(&two, node), nobody, 7);
    }
    links.settle(nobody);
    let text = serde_json::to_string(&links).unwrap();
    let mut read: Links = serde_json::from_str(&text).unwrap();
    assert!(!read.is_changed());
    links.saved();
    assert_eq!(read, links);
    let third = joined(&two, 4);
    let (uses, by) = read.used_up(&third, nobody).unwrap();
    assert_eq!((uses, by.len()), (2, 2));
    assert_eq!(read.used_up(&joined(&two, 3), nobody), None, "known");
    for node in 2..20 {
        assert_eq!(read.used_up(&joined(&any, node), nobody), None);
        read.note(&joined(&any, node), nobody, 7);
    }
    assert!(!read.is_changed(), "what has no number is not counted");
}

#[test]
fn the_maker_ends_a_used_link_once_nobody_rests_on_it_and_takes_no_machine_its_key() {
    let (one, now) = (link(Some(1)), unix_time());
    let mut links = Links::default();
    let bob = joined(&one, 2);
    links.note(&bob, nobody, now);
    links.settle(nobody);
    let rests = |node: &NodeId| *node == id(&bob);
    assert!(!ours(&links).is_to_end(nobody, nobody));
    for node in 3..100 {
        let surplus = joined_at(&one, node, now + 1);
        assert!(links.used_up(&surplus, nobody).is_some());
        links.note_surplus(&surplus, nobody, now + 200);
        links.note_surplus(&surplus, nobody, now + 300);
        let count = usize::from(node) - 2;
        assert_eq!(ours(&links).surplus().len(), count.min(MAX_SURPLUS));
        assert!(!ours(&links).is_to_end(rests, nobody), "bob rests on it");
        assert!(ours(&links).is_to_end(nobody, nobody));
    }
    assert_eq!(links.made_by(|maker| maker.is_some()).count(), 0);
}

#[test]
fn of_too_many_that_came_too_late_those_that_are_put_out_make_room_for_others() {
    let (one, now) = (link(Some(1)), unix_time());
    let mut links = Links::default();
    links.note(&joined(&one, 2), nobody, now);
    for node in 0..MAX_SURPLUS {
        links.note_surplus(&joined(&one, 3 + node as u8), nobody, now);
    }
    let bob = joined(&one, 100);
    links.note_surplus(&bob, nobody, now);
    assert!(!ours(&links).contest(nobody).contains(&id(&bob)));
    let out = id(&joined(&one, 5));
    links.note_surplus(&bob, |node| *node == out, now);
    assert!(ours(&links).contest(nobody).contains(&id(&bob)));
    let surplus = ours(&links).surplus();
    assert_eq!(surplus.len(), MAX_SURPLUS);
    assert!(surplus.iter().all(|other| other.node != out));
}

#[test]
fn what_a_machine_says_of_when_it_came_decides_nothing() {
    for (says, heard) in [(10, 200), (-10, 200), (0, 200), (10, 119)] {
        let (one, now) = (link(Some(1)), unix_time() + 100);
        let mut links = Links::default();
        let bob = joined_at(&one, 2, now);
        links.note(&bob, nobody, now);
        links.settle(nobody);
        let mallory = joined_at(&one, 3, now.saturating_add_signed(says));
        links.note_surplus(&mallory, nobody, now + heard);
        assert_eq!(orders(&links), [Order::Later], "says {says}, heard {heard}");
        assert!(is_first(&links, &bob, now));
    }
}

#[test]
fn of_those_who_came_in_the_same_lists_none_is_put_out_or_vouched_for_until_its_user_says() {
    for keeps_the_one_inside in [true, false] {
        let (one, now) = (link(Some(1)), unix_time());
        let (bob, mallory) = (joined(&one, 2), joined(&one, 3));
        let mut links = Links::default();
        links.note(&bob, nobody, now);
        links.note_surplus(&mallory, nobody, now);
        for round in 0..100 {
            links.settle(nobody);
            let text = serde_json::to_string(&links).unwrap();
            links = serde_json::from_str(&text).unwrap();
            links.runs_for(round * MISSING);
            assert!(!is_first(&links, &bob, now));
            assert_eq!(ours(&links).contest(nobody), [id(&bob), id(&mallory)]);
            assert!(!ours(&links).is_to_end(nobody, nobody));
        }
        let (stays, out) = match keeps_the_one_inside {
            true => (&bob, id(&mallory)),
            false => (&mallory, id(&bob)),
        };
        let is_out = |node: &NodeId| *node == out;
        links.settle(is_out);
        assert!(ours(&links).contest(is_out).is_empty(), "it is decided");
        // The link is kept until the one that stays is in.
        assert!(!ours(&links).is_to_end(|node| *node == id(stays), is_out));
        let newcomer = joined(&one, 4);
        assert!(
            links.used_up(&newcomer, is_out).is_some(),
            "no place is free"
        );
        assert_eq!(links.used_up(stays, is_out), None);
        links.note(stays, is_out, now + 5);
        links.settle(is_out);
        assert!(is_first(&links, stays, now + 5));
        assert!(links.used_up(&newcomer, is_out).is_some());
        let others = links.others(stays).unwrap();
        assert_eq!(others, (1, vec![out]));
        assert!(ours(&links).is_to_end(nobody, is_out), "for all others");
    }
}

#[test]
fn who_was_there_before_is_no_part_of_a_contest_for_the_last_place() {
    let (two, now) = (link(Some(2)), unix_time());
    let [ann, bob, mallory, trudy] = [2, 3, 4, 5].map(|node| joined(&two, node));
    let mut links = Links::default();
    links.note(&ann, nobody, now);
    links.settle(nobody);
    links.note(&bob, nobody, now + 500);
    for rival in [&mallory, &trudy] {
        links.note_surplus(rival, nobody, now + 500);
    }
    links.settle(nobody);
    assert!(is_first(&links, &ann, now) && !is_first(&links, &bob, now));
    let contest = ours(&links).contest(nobody);
    assert_eq!(contest, [id(&bob), id(&mallory), id(&trudy)]);
    // The next of them has the place, and it goes on until one is left.
    let is_out = |node: &NodeId| *node == id(&bob);
    assert_eq!(links.used_up(&trudy, is_out), None);
    links.note(&trudy, is_out, now + 600);
    assert!(links.used_up(&mallory, is_out).is_some());
    assert_eq!(ours(&links).contest(is_out), [id(&trudy), id(&mallory)]);
}

#[test]
fn whoever_put_out_one_that_a_link_let_in_lets_nobody_else_in_by_it() {
    let (one, now) = (link(Some(1)), unix_time());
    let (contractor, again) = (joined(&one, 2), joined(&one, 3));
    let mut links = Links::default();
    links.note(&contractor, nobody, now);
    links.settle(nobody);
    let is_out = |node: &NodeId| *node == id(&contractor);
    assert!(!ours(&links).is_to_end(nobody, nobody));
    assert!(ours(&links).is_to_end(nobody, is_out));
    assert!(links.used_up(&again, is_out).is_some());
    links.note_surplus(&again, is_out, now);
    assert!(links.used_up(&again, is_out).is_some(), "it came later");
    assert!(ours(&links).contest(is_out).is_empty());
}

#[test]
fn who_was_put_out_of_a_used_link_does_not_come_again_by_it_while_others_rest_on_it() {
    let (two, now) = (link(Some(2)), unix_time());
    let [alice, bob] = [2, 3].map(|node| joined(&two, node));
    let mut links = Links::default();
    for machine in [&alice, &bob] {
        links.note(machine, nobody, now);
        links.settle(nobody);
    }
    let rests = |node: &NodeId| *node == id(&alice);
    assert!(!ours(&links).is_to_end(rests, nobody));
    let is_out = |node: &NodeId| *node == id(&bob);
    assert!(ours(&links).is_to_end(rests, is_out));
    let text = serde_json::to_string(&links).unwrap();
    let read: Links = serde_json::from_str(&text).unwrap();
    assert!(ours(&read).is_to_end(rests, is_out));
}

#[test]
fn who_comes_by_a_place_that_was_left_is_not_put_out_for_one_revoked_before() {
    let (three, now) = (link(Some(3)), unix_time());
    let [alice, bob, carol] = [2, 3, 4].map(|node| joined(&three, node));
    let mut links = Links::default();
    links.note(&alice, nobody, now);
    links.note(&bob, nobody, now);
    links.settle(nobody);
    let is_out = |node: &NodeId| *node == id(&bob);
    let rests = |node: &NodeId| *node == id(&carol);
    assert!(!ours(&links).is_to_end(nobody, is_out), "a place is left");
    assert_eq!(links.used_up(&carol, is_out), None);
    links.note(&carol, is_out, now);
    links.settle(is_out);
    let text = serde_json::to_string(&links).unwrap();
    let links: Links = serde_json::from_str(&text).unwrap();
    assert!(!ours(&links).is_to_end(rests, is_out), "carol rests on it");
    assert!(ours(&links).is_to_end(nobody, is_out));
    let are_out = |node: &NodeId| [id(&alice), id(&bob)].contains(node);
    assert!(ours(&links).is_to_end(rests, are_out), "it was full");
}

#[test]
fn a_server_that_is_away_for_good_delays_a_certificate_by_an_hour_of_one_run() {
    let (one, now) = (link(Some(1)), unix_time());
    let (bob, second) = (joined(&one, 2), Duration::from_secs(1));
    let mut links = Links::default();
    links.runs_for(MISSING);
    links.note(&bob, nobody, now);
    // A clock that is set forward, or a time without us, is no time in which the server was missed.
    assert!(!is_first(&links, &bob, now + LONG));
    links.runs_for(2 * MISSING - second);
    assert!(!is_first(&links, &bob, now + LONG));
    links.runs_for(2 * MISSING);
    assert!(is_first(&links, &bob, now));
    let text = serde_json::to_string(&links).unwrap();
    let mut links: Links = serde_json::from_str(&text).unwrap();
    links.runs_for(MISSING - second);
    assert!(!is_first(&links, &bob, now + LONG), "another run");
    links.runs_for(MISSING);
    assert!(is_first(&links, &bob, now));
    // Whom that server shows later may have been first all the same.
    links.note_surplus(&joined(&one, 3), nobody, now);
    assert!(!is_first(&links, &bob, now));
    assert_eq!(orders(&links), [Order::Unknown]);
}

#[test]
fn another_admin_renews_who_was_known_for_long_without_a_rival_whatever_dates_it_claims() {
    let (one, now) = (link(Some(1)), unix_time());
    let bob = joined_at(&one, 2, now);
    let is_long_known = |links: &Links, is_out: fn(&NodeId) -> bool, at: u64| {
        links.standing(&bob, is_out, at).unwrap().is_long_known
    };
    let mut links = Links::default();
    assert_eq!(links.standing(&bob, nobody, now), None, "unknown");
    links.note(&bob, nobody, now);
    assert!(!is_long_known(&links, nobody, now + LONG), "not settled");
    links.settle(nobody);
    assert!(!is_long_known(&links, nobody, now + LONG - 1));
    assert!(is_long_known(&links, nobody, now + LONG));
    links.note_surplus(&joined(&one, 3), nobody, now);
    assert!(!is_long_known(&links, nobody, now + LONG));
    assert!(is_long_known(&links, |_| true, now + LONG), "it is out");
}

#[test]
fn who_was_heard_of_while_its_link_held_came_in_time() {
    let one = link(Some(1));
    let until = one.invite.terms.span.until;
    for (at, in_time) in [(until, true), (until + 1, false)] {
        let mut links = Links::default();
        links.note(&joined(&one, 2), nobody, at);
        let standing = links.standing(&joined(&one, 2), nobody, at).unwrap();
        assert_eq!(standing.came_in_time, in_time);
    }
}

#[test]
fn what_earlier_versions_wrote_is_read() {
    let (one, now) = (link(Some(1)), unix_time());
    let (bob, mallory) = (joined(&one, 2), joined(&one, 3));
    let (key, trudy) = (one.invite.terms.key, joined(&one, 4));
    let text = format!(
        r#"{{"{key}": {{"uses": 1, "until": 9, "maker": null, "let_in": ["{}"],
            "surplus": [{{"node": "{}", "name": "mallory", "at": 5}},
                {{"node": "{}", "name": "trudy", "at": 6, "order": "clearly-later"}}]}}}}"#,
        id(&bob),
        id(&mallory),
        id(&trudy),
    );
    let mut links: Links = serde_json::from_str(&text).unwrap();
    assert!(is_first(&links, &bob, now));
    assert_eq!(orders(&links), [Order::Later; 2]);
    assert!(links.used_up(&mallory, nobody).is_some());
    assert!(ours(&links).is_to_end(nobody, nobody));
    // When it came was not written down; that it is there now is.
    links.note(&bob, nobody, now);
    let standing = links.standing(&bob, nobody, now + LONG).unwrap();
    assert!(links.is_changed() && !standing.came_in_time && !standing.is_long_known);
}

#[test]
fn no_more_links_are_kept_than_some() {
    let mut links = Links::default();
    let made = joined(&link(Some(1)), 2);
    let (invite, _) = counted(&made).unwrap();
    for number in 0..MAX_LINKS {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        links.note(&made, nobody, 7);
        let known = links.known.remove(&invite.terms.key).unwrap();
        let until = 10 + number as u64;
        links
            .known
            .insert(NodeId::from_bytes(bytes), Link { until, ..known });
    }
    links.note(&made, nobody, 7);
    assert_eq!(links.known.len(), MAX_LINKS);
    assert!(links.known.values().all(|link| link.until > 10));
}
