use mesh_wire::discovery::MAX_FOLLOWED;

use super::*;

impl Inbox {
    fn take(&mut self) -> Option<Utf8Bytes> {
        self.0.try_recv().ok().map(|waiting| waiting.text)
    }
}

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn change(revision: u64) -> ServerMessage {
    ServerMessage::PeerLeft {
        revision,
        node_id: node(9),
    }
}

#[test]
fn revisions_rise_and_those_of_a_later_epoch_are_greater() {
    let mut hub = Hub::new(1);
    let mut attachment = hub.attach(Hears::Everybody).unwrap();
    let before = hub.revision();
    hub.publish(None, change);
    hub.publish(None, change);
    assert_eq!(hub.revision(), before + 2);
    assert_eq!(attachment.queue.take(), Some(encode(&change(before + 1))));
    assert!(Hub::new(2).revision() > hub.revision());
}

#[test]
fn presence_begins_with_a_claim_and_ends_with_its_connection() {
    let mut hub = Hub::new(0);
    let id = hub.attach(Hears::Everybody).unwrap().id;
    assert!(!hub.online(&node(1)));
    assert!(hub.claim(id, node(1), 7));
    assert!(hub.online(&node(1)));
    assert_eq!(hub.last_seen(&node(1)), Some(7));
    assert_eq!(hub.detach(id), Some(node(1)));
    assert!(!hub.online(&node(1)));
    assert_eq!(hub.counts(), (0, 0));
}

#[test]
fn a_newer_claim_replaces_the_older_connection_without_an_offline_gap() {
    let mut hub = Hub::new(0);
    let (old, mut new) = (
        hub.attach(Hears::Everybody).unwrap(),
        hub.attach(Hears::Everybody).unwrap(),
    );
    assert!(hub.claim(old.id, node(1), 0));
    assert!(hub.claim(new.id, node(1), 0), "it has come once more");
    assert!(!hub.claim(new.id, node(1), 0), "it says so again");
    assert_eq!(*old.ending.borrow(), Some(Ending::Replaced));
    assert_eq!(hub.detach(old.id), None);
    assert!(hub.online(&node(1)));
    assert!(hub.deliver(&node(1), &change(0)));
    assert!(new.queue.take().is_some());
}

#[test]
fn a_slow_connection_is_ended_and_the_others_lose_nothing() {
    let mut hub = Hub::new(0);
    let (slow, mut quick) = (
        hub.attach(Hears::Everybody).unwrap(),
        hub.attach(Hears::Everybody).unwrap(),
    );
    for _ in 0..=QUEUE {
        hub.publish(None, change);
        assert!(quick.queue.take().is_some());
    }
    assert_eq!(*slow.ending.borrow(), Some(Ending::Resync));
    assert_eq!(*quick.ending.borrow(), None);
}

#[test]
fn a_full_mailbox_is_undeliverable() {
    let mut hub = Hub::new(0);
    let member = hub.attach(Hears::Everybody).unwrap();
    assert!(!hub.deliver(&node(1), &change(0)));
    hub.claim(member.id, node(1), 0);
    let delivered = (0..=QUEUE).filter(|_| hub.deliver(&node(1), &change(0)));
    assert_eq!(delivered.count(), QUEUE);
    assert_eq!(*member.ending.borrow(), Some(Ending::Resync));
}

#[test]
fn long_letters_fill_a_mailbox_by_their_bytes_and_leave_room_when_taken() {
    let mut hub = Hub::new(0);
    let mut member = hub.attach(Hears::Everybody).unwrap();
    hub.claim(member.id, node(1), 0);
    let letter = ServerMessage::Signal {
        from: node(2),
        payload: "x".repeat(8_000),
    };
    for _ in 0..100 {
        assert!(hub.deliver(&node(1), &letter));
        assert!(member.queue.take().is_some());
    }
    let delivered = (0..100).filter(|_| hub.deliver(&node(1), &letter));
    assert_eq!(delivered.count(), 32);
    assert_eq!(*member.ending.borrow(), Some(Ending::Resync));
}

#[test]
fn connections_are_bounded() {
    let mut hub = Hub::new(0);
    let held: Vec<Attachment> = std::iter::from_fn(|| hub.attach(Hears::Everybody)).collect();
    assert_eq!(held.len(), MAX_CONNECTIONS);
    hub.detach(held[0].id);
    assert!(hub.attach(Hears::Everybody).is_some());
}

#[test]
fn signs_of_life_are_taken_once() {
    let mut hub = Hub::new(0);
    hub.touch(node(1), 5);
    assert_eq!(hub.take_unsaved(false), [(node(1), 5)]);
    assert_eq!(hub.take_unsaved(false), []);
    hub.put_back_unsaved(&node(1));
    assert_eq!(hub.take_unsaved(false), [(node(1), 5)]);
    hub.touch(node(1), 6);
    assert_eq!(hub.take_unsaved(false), [(node(1), 6)]);
    // Who is online is written down when it is not any more, or at the end.
    let id = hub.attach(Hears::Everybody).unwrap().id;
    hub.claim(id, node(2), 7);
    assert_eq!(hub.take_unsaved(false), []);
    assert_eq!(hub.take_unsaved(true), [(node(2), 7)]);
    hub.touch(node(2), 8);
    hub.detach(id);
    assert_eq!(hub.take_unsaved(false), [(node(2), 8)]);
}

#[test]
fn a_deregistered_member_loses_its_connection() {
    let mut hub = Hub::new(0);
    let member = hub.attach(Hears::Everybody).unwrap();
    hub.claim(member.id, node(1), 0);
    hub.forget(&node(1));
    assert!(!hub.online(&node(1)));
    assert_eq!(*member.ending.borrow(), Some(Ending::Deregistered));
}

#[test]
fn who_follows_hears_of_those_only() {
    let mut hub = Hub::new(0);
    let mut all = hub.attach(Hears::Everybody).unwrap();
    let mut some = hub.attach(Hears::Followed).unwrap();
    assert_eq!(hub.follow(some.id, node(1)), Some(true));
    assert_eq!(hub.follow(some.id, node(1)), Some(false));
    assert_eq!(hub.follow(all.id, node(1)), Some(false));
    hub.publish(Some(&node(1)), change);
    hub.publish(Some(&node(2)), change);
    let count =
        |attachment: &mut Attachment| std::iter::from_fn(|| attachment.queue.take()).count();
    assert_eq!((count(&mut all), count(&mut some)), (2, 1));
    // What is about nobody is for all.
    hub.publish(None, change);
    assert_eq!((count(&mut all), count(&mut some)), (1, 1));
    hub.detach(some.id);
    assert_eq!(hub.follow(some.id, node(1)), None);
}

#[test]
fn a_connection_follows_so_many_and_no_more() {
    let mut hub = Hub::new(0);
    let id = hub.attach(Hears::Followed).unwrap().id;
    let other = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(bytes)
    };
    let followed = (0..2_000).filter(|n| hub.follow(id, other(*n)) == Some(true));
    assert_eq!(followed.count(), MAX_FOLLOWED);
}

#[test]
fn a_member_is_online_while_any_server_has_it() {
    let mut hub = Hub::new(0);
    assert!(hub.set_elsewhere(node(1), (7, true)));
    assert!(!hub.set_elsewhere(node(1), (9, true)));
    // The one that started last: the other may be dead.
    assert_eq!(hub.elsewhere(&node(1)), Some(9));
    let id = hub.attach(Hears::Everybody).unwrap().id;
    hub.claim(id, node(1), 0);
    assert!(!hub.set_elsewhere(node(1), (9, false)));
    assert!(!hub.set_elsewhere(node(1), (7, false)));
    assert_eq!(hub.elsewhere(&node(1)), None);
    hub.detach(id);
    assert!(!hub.online(&node(1)));
}
