use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn route(port: u16) -> Route {
    Route {
        channel: None,
        dst: SocketAddr::from(([198, 51, 100, 1], port)),
        src: None,
        stream: None,
        port: None,
    }
}

fn shape(queue: &TransmitQueue) -> Vec<(u16, Vec<usize>)> {
    queue
        .trains()
        .iter()
        .map(|train| {
            (
                train.route().dst.port(),
                train.datagrams().map(<[u8]>::len).collect(),
            )
        })
        .collect()
}

/// The ports of the trains that [`TransmitQueue::send_closed`] gives, which are then gone.
fn closed(queue: &mut TransmitQueue) -> Vec<u16> {
    let mut ports = Vec::new();
    assert!(queue.send_closed(|train| {
        ports.push(train.route().dst.port());
        train.contents().len()
    }));
    ports
}

#[test]
fn the_datagrams_of_a_channel_have_its_header_and_share_a_train() {
    let mut queue = TransmitQueue::new();
    let route = Route {
        channel: NonZeroU16::new(0x4001),
        ..route(1)
    };
    for byte in [1, 2] {
        queue.push(route, &[byte; 3]);
    }
    queue.push_with(route, MAX_TRAIN - CHANNEL_HEADER + 1, |_| {
        panic!("too long")
    });
    queue.push_with(route, 3, |buffer| {
        buffer[0] = 9;
        1
    });
    let train = &queue.trains()[0];
    assert_eq!(queue.trains().len(), 1);
    assert_eq!(train.segment_size(), 7);
    let header = [0x40, 1, 0, 3];
    let first = [&header[..], &[1; 3]].concat();
    let second = [&header[..], &[2; 3]].concat();
    let last = vec![0x40, 1, 0, 1, 9];
    assert_eq!(train.datagrams().collect::<Vec<_>>(), [first, second, last]);
}

#[test]
fn equal_datagrams_share_a_train_and_a_shorter_one_closes_it() {
    let mut queue = TransmitQueue::new();
    for len in [100, 100, 40, 40] {
        queue.push(route(1), &vec![0; len]);
    }
    assert_eq!(shape(&queue), [(1, vec![100, 100, 40]), (1, vec![40])]);
}

#[test]
fn a_longer_datagram_starts_a_new_train() {
    let mut queue = TransmitQueue::new();
    queue.push(route(1), &[0; 40]);
    queue.push(route(1), &[0; 100]);
    assert_eq!(shape(&queue), [(1, vec![40]), (1, vec![100])]);
}

#[test]
fn two_destinations_interleaved_keep_a_train_each() {
    let mut queue = TransmitQueue::new();
    for port in [1, 2, 1, 2] {
        queue.push(route(port), &[0; 50]);
    }
    assert_eq!(shape(&queue), [(1, vec![50, 50]), (2, vec![50, 50])]);
}

#[test]
fn datagrams_of_different_ecn_never_share_a_train() {
    let mut queue = TransmitQueue::new();
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect0, Ecn::Ce, Ecn::NotEct] {
        queue.push_marked_with((route(1), ecn), 60, |buffer| buffer.len());
    }
    let marks: Vec<(Ecn, usize)> = queue
        .trains()
        .iter()
        .map(|train| (train.ecn(), train.datagrams().count()))
        .collect();
    assert_eq!(
        marks,
        [
            (Ecn::NotEct, 1),
            (Ecn::Ect0, 2),
            (Ecn::Ce, 1),
            (Ecn::NotEct, 1)
        ],
        "and the order of arrival is kept"
    );
}

#[test]
fn a_hop_limit_is_for_one_datagram_alone() {
    let mut queue = TransmitQueue::new();
    queue.push(route(1), &[0; 60]);
    for hop_limit in [2, 2, 3] {
        queue.push_limited(route(1), hop_limit, &[0; 60]);
    }
    queue.push_limited(route(1), 4, &[]);
    queue.push(route(1), &[0; 60]);
    queue.push(route(1), &[0; 60]);
    let trains: Vec<(Option<u8>, usize)> = queue
        .trains()
        .iter()
        .map(|train| (train.hop_limit(), train.datagrams().count()))
        .collect();
    let alone = |hop_limit| (Some(hop_limit), 1);
    assert_eq!(trains, [(None, 1), alone(2), alone(2), alone(3), (None, 2)]);
    assert_eq!(closed(&mut queue), [1; 4], "they are sent at once");
    queue.push(route(1), &[0; 60]);
    assert!(
        queue
            .trains()
            .iter()
            .all(|train| train.hop_limit().is_none())
    );
}

#[test]
fn a_train_respects_the_limits_of_segmentation_offload() {
    let mut queue = TransmitQueue::new();
    for _ in 0..130 {
        queue.push(route(1), &[0; 100]);
    }
    let counts: Vec<usize> = queue
        .trains()
        .iter()
        .map(|t| t.datagrams().count())
        .collect();
    assert_eq!(counts, [64, 64, 2]);
    queue.clear();
    for _ in 0..64 {
        queue.push(route(1), &[0; 1432]);
    }
    let counts: Vec<usize> = queue
        .trains()
        .iter()
        .map(|t| t.datagrams().count())
        .collect();
    assert_eq!(counts, [45, 19], "45 x 1,432 is the most below 65,508");
}

#[test]
fn a_datagram_that_udp_cannot_carry_is_not_asked_for() {
    let mut queue = TransmitQueue::new();
    queue.push_with(route(1), MAX_TRAIN + 1, |_| panic!("must not be called"));
    assert!(queue.is_empty());
    queue.push_with(route(1), MAX_TRAIN, |buffer| buffer.len());
    assert_eq!(shape(&queue), [(1, vec![MAX_TRAIN])]);
}

#[test]
fn a_fill_that_writes_less_or_nothing_is_taken_at_its_word() {
    let mut queue = TransmitQueue::new();
    queue.push_with(route(1), 148, |_| 0);
    assert!(queue.is_empty());
    queue.push_with(route(1), 148, |_| 92);
    queue.push_with(route(1), 92, |_| 0);
    queue.push_with(route(1), 92, |_| 92);
    assert_eq!(shape(&queue), [(1, vec![92, 92])]);
}

#[test]
fn the_buffer_to_fill_has_exactly_the_length_that_was_asked_for() {
    let mut queue = TransmitQueue::new();
    for len in [1432, 1432, 77, 1, MAX_TRAIN] {
        queue.push_with(route(1), len, |buffer| {
            assert_eq!(buffer.len(), len);
            buffer.len()
        });
    }
}

#[test]
fn trains_that_can_grow_no_more_leave_first_and_the_open_one_stays() {
    let mut queue = TransmitQueue::new();
    for (port, len) in [(1, 100), (2, 50), (1, 40), (1, 100)] {
        queue.push(route(port), &vec![0; len]);
    }
    assert_eq!(closed(&mut queue), [1], "the shorter one closed it");
    assert_eq!(shape(&queue), [(2, vec![50]), (1, vec![100])]);
    for _ in 0..63 {
        queue.push(route(2), &[0; 50]);
    }
    assert_eq!(
        closed(&mut queue),
        [2],
        "64 datagrams are all that it takes"
    );
    queue.push(route(1), &[0; 200]);
    assert_eq!(closed(&mut queue), [1], "a newer one goes the same way");
    assert_eq!(shape(&queue), [(1, vec![200])]);
}

#[test]
fn what_is_not_sent_whole_stays_in_front_and_grows_no_more() {
    let mut queue = TransmitQueue::new();
    for port in [1, 1, 1, 2] {
        queue.push(route(port), &[9; 100]);
    }
    assert!(!queue.send_all(|train| {
        assert_eq!(train.route().dst.port(), 1, "no later train is given");
        100
    }));
    assert_eq!(shape(&queue), [(1, vec![100, 100]), (2, vec![100])]);
    queue.push(route(1), &[7; 100]);
    assert_eq!(
        shape(&queue),
        [(1, vec![100, 100]), (2, vec![100]), (1, vec![100])]
    );
    assert!(!queue.send_all(|_| 0), "nothing went out, nothing is lost");
    assert_eq!(shape(&queue).len(), 3);
}

#[test]
fn the_memory_of_sent_trains_is_used_again_and_bounded() {
    let mut queue = TransmitQueue::new();
    queue.push(route(1), &[7; 100]);
    let before = queue.trains()[0].contents().as_ptr();
    queue.clear();
    queue.push(route(2), &[7; 100]);
    assert_eq!(queue.trains()[0].contents().as_ptr(), before);
    for port in 0..200 {
        queue.push(route(port), &[7; 100]);
    }
    queue.clear();
    assert_eq!(queue.spare.len(), MAX_SPARE);
}

proptest! {
    /// Whatever is pushed and whenever trains are sent: each route sees its datagrams whole, in order, with their marks,
    /// in trains that segmentation offload takes.
    #[test]
    fn each_route_sees_its_datagrams_in_order_with_their_marks(
        steps in proptest::collection::vec(
            (0_u16..7, 0_u8..4, prop_oneof![3 => Just(60_usize), 2 => 1_usize..120, 1 => Just(9_000)], 0_u8..8),
            0..400,
        ),
        patience in 1_usize..5,
    ) {
        let mut queue = TransmitQueue::new();
        let mut pushed: BTreeMap<u16, Vec<(Ecn, Vec<u8>)>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for (number, (port, mark, len, then)) in steps.iter().enumerate() {
            let ecn = if *mark == 3 { Ecn::Ce } else { Ecn::NotEct };
            let datagram: Vec<u8> = (0..*len).map(|i| (i + number) as u8).collect();
            queue.push_marked_with((route(*port), ecn), *len, |buffer| {
                buffer.copy_from_slice(&datagram);
                *len
            });
            pushed.entry(*port).or_default().push((ecn, datagram));
            match then {
                0 => { queue.send_all(|train| take(train, patience, &mut seen)); }
                1..4 => { queue.send_closed(|train| take(train, patience, &mut seen)); }
                _ => {}
            }
        }
        while !queue.send_all(|train| take(train, patience, &mut seen)) {}
        prop_assert!(queue.is_empty());
        prop_assert_eq!(seen, pushed);
    }
}

/// Takes up to `patience` datagrams of a train, as a socket whose buffer fills up does.
fn take(train: &Train, patience: usize, seen: &mut BTreeMap<u16, Vec<(Ecn, Vec<u8>)>>) -> usize {
    let whole: Vec<&[u8]> = train.datagrams().collect();
    assert!(!whole.is_empty() && whole.len() <= MAX_SEGMENTS);
    assert!(train.contents().len() <= MAX_TRAIN);
    let (last, full) = whole.split_last().expect("it is not empty");
    assert!(
        full.iter()
            .all(|datagram| datagram.len() == train.segment_size())
    );
    assert!(last.len() <= train.segment_size());
    let taken = &whole[..whole.len().min(patience * 16)];
    let list = seen.entry(train.route().dst.port()).or_default();
    list.extend(
        taken
            .iter()
            .map(|datagram| (train.ecn(), datagram.to_vec())),
    );
    taken.iter().map(|datagram| datagram.len()).sum()
}
