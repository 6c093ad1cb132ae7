use mesh_wire::relay::{Path, RelayFrame, RelayHeader};

use super::*;

const MESSAGE: [u8; 1432] = [0x5A; 1432];

/// `a` and `c` are linked to `b` and not to each other.
struct Line {
    a: Station,
    b: Station,
    c: Station,
    now: Instant,
}

impl Line {
    fn new() -> Self {
        let now = Instant::now();
        let pair = Pair::of([1, 2].map(|number| Station::carrying(number, now)), now);
        let Pair { a, mut b, now } = linked(pair);
        let mut c = Station::carrying(3, now);
        b.tell(Command::SetPeer(entry(3)), now);
        c.tell(Command::SetPeers(vec![entry(2)]), now);
        let mut second = Pair { now, a: c, b };
        second.a.tun(frame(3, 2), now);
        second.run(Duration::from_secs(1));
        assert_eq!(second.b.received.len(), 2, "both came through");
        let Pair { a: c, b, now } = second;
        Self { a, b, c, now }
    }

    /// What `b` sends on of frames with this header that `a` sends it.
    fn carried(&mut self, header: &RelayHeader, times: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        for _ in 0..times {
            let transmit = &mut self.a.transmit;
            self.a
                .node
                .relay(&node_id(2), (header, &MESSAGE), self.now, transmit);
        }
        for (to, bytes) in self.a.sent() {
            assert_eq!(to, address(2));
            self.b.datagram(1, &bytes, self.now);
        }
        self.b.sent()
    }
}

fn member(number: u8) -> u32 {
    u32::from_be_bytes([10, 100, 0, number])
}

fn header(destination: u8, hop_limit: u8) -> RelayHeader {
    RelayHeader {
        hop_limit,
        source: member(1),
        destination: member(destination),
        frame: 1,
        path: Path::new(&[]),
    }
}

#[test]
fn a_frame_goes_on_unchanged_but_for_its_hop_limit_and_its_tag() {
    let mut line = Line::new();
    let carried = line.carried(&header(3, 8), 1);
    let [(to, bytes)] = &carried[..] else {
        panic!("{} frames", carried.len())
    };
    assert_eq!(*to, address(3));
    let frame = RelayFrame::parse(bytes).unwrap();
    assert_eq!((frame.header, frame.message), (header(3, 7), &MESSAGE[..]));
    line.c.datagram(2, bytes, line.now);
    let refused = line.c.drops(DropReason::RefusedFrame, line.now);
    assert_eq!(refused, 0, "the next member knows its neighbour's tag");
}

#[test]
fn a_train_of_frames_stays_a_train() {
    let mut line = Line::new();
    for _ in 0..40 {
        let transmit = &mut line.a.transmit;
        let frame = (&header(3, 8), &MESSAGE[..]);
        line.a.node.relay(&node_id(2), frame, line.now, transmit);
    }
    let [train] = line.a.transmit.trains() else {
        panic!("more than one train")
    };
    let (mut bytes, stride) = (train.contents().to_vec(), train.segment_size());
    let arrival = Arrival {
        from: address(1),
        to: address(2),
        ecn: Ecn::Ect0,
        stream: None,
    };
    let (b, mut packets) = (&mut line.b, PacketQueue::new());
    let train = (&mut bytes[..], stride);
    b.node
        .handle_train(arrival, train, line.now, &mut b.transmit, &mut packets);
    let [train] = b.transmit.trains() else {
        panic!("the train was torn")
    };
    assert_eq!((train.datagrams().count(), train.ecn()), (40, Ecn::Ect0));
}

#[test]
fn a_frame_is_carried_once_and_only_as_the_neighbour_sent_it() {
    let mut line = Line::new();
    let transmit = &mut line.a.transmit;
    let frame = (&header(3, 8), &MESSAGE[..]);
    line.a.node.relay(&node_id(2), frame, line.now, transmit);
    let (_, bytes) = line.a.sent().remove(0);
    for at in [1, 8, 16, 47, bytes.len() - 1, bytes.len() - 9] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        line.b.datagram(1, &changed, line.now);
    }
    assert!(line.b.sent().is_empty());
    line.b.datagram(1, &bytes, line.now);
    assert_eq!(line.b.sent().len(), 1);
    line.b.datagram(1, &bytes, line.now);
    assert!(line.b.sent().is_empty(), "a replay");
    assert_eq!(line.b.drops(DropReason::RefusedFrame, line.now), 7);
}

#[test]
fn frames_without_a_way_on_are_counted() {
    let mut line = Line::new();
    assert!(line.carried(&header(3, 1), 1).is_empty());
    assert_eq!(line.b.drops(DropReason::HopLimit, line.now), 1);
    assert!(line.carried(&header(9, 8), 1).is_empty(), "nobody");
    assert!(
        line.carried(&header(1, 8), 1).is_empty(),
        "where it came from"
    );
    assert_eq!(line.b.drops(DropReason::NoRoute, line.now), 2);
}

#[test]
fn an_explicit_path_is_followed_whatever_the_destination() {
    let mut line = Line::new();
    let path = |members: &[u32]| Path::new(members);
    let header = RelayHeader {
        path: path(&[member(3)]),
        ..header(9, 8)
    };
    let carried = line.carried(&header, 1);
    let (to, bytes) = &carried[0];
    let frame = RelayFrame::parse(bytes).unwrap();
    assert_eq!((*to, frame.header.path), (address(3), path(&[])));
    line.c.datagram(2, bytes, line.now);
    assert!(line.c.sent().is_empty());
    assert_eq!(
        line.c.drops(DropReason::NoRoute, line.now),
        1,
        "no falling back"
    );
}

#[test]
fn what_the_network_brings_from_port_0_is_not_taken_for_what_members_carry() {
    let mut line = Line::new();
    line.b.tun(frame(2, 1), line.now);
    let (_, mut message) = line.b.sent().remove(0);
    let forged = Arrival {
        from: SocketAddr::new(address(2).ip(), 0),
        to: address(1),
        ecn: Ecn::NotEct,
        stream: None,
    };
    let (a, mut packets) = (&mut line.a, PacketQueue::new());
    let whole = (&mut message[..], usize::MAX);
    a.node
        .handle_train(forged, whole, line.now, &mut a.transmit, &mut packets);
    assert!(packets.is_empty());
    assert_eq!(a.drops(DropReason::UnknownDatagram, line.now), 1);
    assert_eq!(a.node.status(line.now).peers[0].endpoint, Some(address(2)));
}
