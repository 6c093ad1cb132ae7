use super::*;
use std::num::NonZeroU32;

use crate::{StreamId, TurnServer, path::turn::tests as relay};

const RELAY: u8 = 50;

fn server() -> SocketAddr {
    relay::server(RELAY)
}

impl Station {
    /// What the server sends it.
    fn hear(&mut self, bytes: &[u8], now: Instant) {
        self.hear_on(None, bytes, now);
    }

    fn hear_on(&mut self, stream: Option<StreamId>, bytes: &[u8], now: Instant) {
        let arrival = Arrival {
            from: server(),
            to: address(self.number),
            ecn: Ecn::NotEct,
            stream,
        };
        let (mut packets, mut train) = (PacketQueue::new(), bytes.to_vec());
        let whole = (&mut train[..], bytes.len());
        self.node
            .handle_train(arrival, whole, now, &mut self.transmit, &mut packets);
        self.received
            .extend(packets.iter(&train).map(<[u8]>::to_vec));
    }

    /// Gets it an address at the server; what it sends to others meanwhile is lost.
    fn allocate(&mut self, now: Instant) {
        let servers: Vec<TurnServer> = vec![relay::access(RELAY, "right")];
        self.tell(Command::SetTurnServers(servers), now);
        for code in [Some(401), None] {
            self.node.handle_timeout(now, &mut self.transmit);
            for (to, request) in self.sent() {
                if to == server() {
                    let answer = relay::answer(&request, RELAY, code, "right");
                    self.hear(&answer, now);
                }
            }
        }
        let status = self.node.status(now);
        assert_eq!(status.turn[0].relayed, Some(relay::relayed(RELAY)));
    }
}

/// Two connected nodes, the first of which has a relayed address.
fn relayed() -> Pair {
    let mut pair = connected();
    pair.a
        .node
        .gatherer
        .turn
        .want(pair.now, &mut pair.a.node.rng);
    pair.a.allocate(pair.now);
    pair
}

#[test]
fn channel_data_of_a_stranger_is_counted_and_dropped() {
    let mut pair = connected();
    let looks_like_it = [0x40, 0, 0, 3, 1, 2, 3];
    pair.a.hear(&looks_like_it, pair.now);
    pair.a.datagram(9, &looks_like_it, pair.now);
    let indication = relay::data_indication_of(address(2), &[4; 32]);
    pair.a.hear(&indication, pair.now);
    assert_eq!(pair.a.drops(DropReason::UnknownDatagram, pair.now), 3);
    assert!(pair.a.sent().is_empty());
}

#[test]
fn what_a_relay_wraps_twice_is_dropped() {
    let mut pair = relayed();
    let inner = relay::data_indication_of(address(2), &[4; 32]);
    let before = pair.a.drops(DropReason::UnknownDatagram, pair.now);
    pair.a
        .hear(&relay::data_indication_of(address(2), &inner), pair.now);
    let after = pair.a.drops(DropReason::UnknownDatagram, pair.now);
    assert_eq!(after, before + 1);
}

#[test]
fn a_server_that_wraps_what_claims_to_come_from_inside_the_mesh_is_not_heard() {
    let mut pair = relayed();
    let inside = SocketAddr::new(virtual_ip(2), 7081);
    pair.a
        .hear(&relay::data_indication_of(inside, &[4; 32]), pair.now);
    assert_eq!(pair.a.drops(DropReason::InsideTunnel, pair.now), 1);
}

#[test]
fn on_a_connection_a_server_can_only_answer_and_relay() {
    let mut pair = connected();
    let stream = Some(StreamId(NonZeroU32::MIN));
    pair.b.tun(frame(2, 1), pair.now);
    let (_, message) = pair.b.sent().remove(0);
    pair.a.received.clear();
    pair.a.hear_on(stream, &message, pair.now);
    assert_eq!(pair.a.drops(DropReason::UnknownDatagram, pair.now), 1);
    let mut check = [0; 20];
    check[1] = 1;
    check[4..8].copy_from_slice(&0x2112_A442_u32.to_be_bytes());
    let before = pair.a.drops(DropReason::RefusedStun, pair.now);
    pair.a.hear_on(stream, &check, pair.now);
    assert_eq!(pair.a.drops(DropReason::RefusedStun, pair.now), before + 1);
    assert!(pair.a.received.is_empty() && pair.a.sent().is_empty());
}

#[test]
fn a_message_by_way_of_the_relay_is_opened_and_moves_no_direct_link() {
    let mut pair = relayed();
    pair.b.tun(frame(2, 1), pair.now);
    let (_, message) = pair.b.sent().remove(0);
    pair.a.received.clear();
    let wrapped = relay::data_indication_of(address(2), &message);
    pair.a.hear(&wrapped, pair.now);
    assert_eq!(pair.a.received, [frame(2, 1)[VNET..].to_vec()]);
    let peer = &pair.a.node.status(pair.now).peers[0];
    assert_eq!((peer.endpoint, peer.relayed), (Some(address(2)), false));
    // Once the direct path has been silent for a while it does.
    pair.now += Duration::from_secs(5);
    pair.b.tun(frame(2, 1), pair.now);
    let (_, message) = pair.b.sent().remove(0);
    let wrapped = relay::data_indication_of(address(2), &message);
    pair.a.hear(&wrapped, pair.now);
    let peer = &pair.a.node.status(pair.now).peers[0];
    assert_eq!((peer.endpoint, peer.relayed), (Some(server()), true));
    // And what goes back is sealed behind the header of a channel.
    pair.a.sent();
    pair.a.tun(frame(1, 2), pair.now);
    let (to, bytes) = pair.a.sent().remove(0);
    assert_eq!((to, bytes[0], bytes.len()), (server(), 0x40, 4 + 48 + 32));
    pair.b.received.clear();
    pair.b.datagram(1, &bytes[4..], pair.now);
    assert_eq!(pair.b.received, [frame(1, 2)[VNET..].to_vec()]);
}
