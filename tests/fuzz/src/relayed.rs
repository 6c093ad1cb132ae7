//! A node that has an address at a TURN server, and what that server, or whoever stands in its place, sends it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_core::{
    Arrival, Command, Node, PacketQueue, TransmitQueue, Transport, TurnServer, queue::ecn::Ecn,
};
use mesh_wire::discovery::TurnPassword;
use stun_types::{
    attribute::{AttributeType, ErrorCode, Nonce, RawAttribute, Realm, XorSocketAddr},
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType,
        MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method,
    },
};

use crate::node::{PEER, SELF, address, pieces, signalled};

const SERVER: ([u8; 4], u16) = ([198, 51, 100, 50], 3478);
const RELAYED: ([u8; 4], u16) = ([198, 51, 100, 50], 50_000);
/// The first channel that a node binds.
const CHANNEL: [u8; 2] = [0x40, 0];

/// Datagrams from the server, each behind its length in two bytes; as they are, and as answers to what was asked last.
pub fn datagrams(bytes: &[u8]) {
    feed(bytes);
}

/// Does what [`datagrams`] says and returns the node.
pub fn feed(bytes: &[u8]) -> Node {
    let mut now = Instant::now();
    let mut node = signalled(now);
    let (mut transmit, mut asked) = (TransmitQueue::new(), Vec::new());
    let servers = vec![TurnServer {
        address: SERVER.into(),
        transport: Transport::Udp,
        username: "ann".to_owned(),
        password: TurnPassword::new("x".to_owned()),
    }];
    node.handle_command(Command::SetTurnServers(servers), now, &mut transmit);
    for _ in 0..2 {
        node.handle_timeout(now, &mut transmit);
        for request in requests(&mut transmit) {
            hear(&mut node, &granted(&request), now, &mut transmit);
        }
    }
    let turn = node.status(now).turn;
    assert_eq!(turn[0].relayed, Some(RELAYED.into()), "the scene stands");
    let peer = node.peer_ids().next();
    for datagram in pieces(bytes) {
        let mut answer = datagram.to_vec();
        if let (Some(id), Some(asked)) = (answer.get_mut(8..20), asked.get(8..20)) {
            id.copy_from_slice(asked);
        }
        for datagram in [datagram, &answer] {
            hear(&mut node, datagram, now, &mut transmit);
        }
        let sent: usize = transmit
            .trains()
            .iter()
            .map(|t| t.datagrams().count())
            .sum();
        assert!(sent <= 20, "{sent} datagrams for two");
        now += Duration::from_millis(10);
        node.handle_timeout(now, &mut transmit);
        asked = requests(&mut transmit).pop().unwrap_or(asked);
        while node.poll_event().is_some() {}
        assert!(node.poll_timeout().0 > now);
    }
    assert_eq!(
        node.peer_ids().next(),
        peer,
        "no datagram changes who is a member"
    );
    node
}

fn hear(node: &mut Node, datagram: &[u8], now: Instant, transmit: &mut TransmitQueue) {
    let arrival = Arrival {
        from: SERVER.into(),
        to: address(SELF),
        ecn: Ecn::NotEct,
        stream: None,
    };
    let mut train = datagram.to_vec();
    let stride = train.len();
    let mut packets = PacketQueue::new();
    node.handle_train(arrival, (&mut train, stride), now, transmit, &mut packets);
}

/// What the server is asked.
fn requests(transmit: &mut TransmitQueue) -> Vec<Vec<u8>> {
    let to_server = |train: &&mesh_core::queue::transmit::Train| {
        train.route().dst == SocketAddr::from(SERVER) && train.route().channel.is_none()
    };
    let trains = transmit.trains().iter().filter(to_server);
    let requests = trains.flat_map(|train| train.datagrams().map(<[u8]>::to_vec));
    let requests = requests.collect();
    transmit.clear();
    requests
}

/// A challenge where there is no proof, else success.
fn granted(request: &[u8]) -> Vec<u8> {
    let request = Message::from_bytes(request).expect("a node's requests are well-formed");
    if request.attribute::<Nonce>().is_err() {
        let mut answer = Message::builder_error(&request, MessageWriteVec::new());
        answer.push_attribute_unchecked(&ErrorCode::new(401, "").expect("a code"));
        answer.push_attribute_unchecked(&Realm::new("lab").expect("short"));
        answer.push_attribute_unchecked(&Nonce::new("fresh").expect("short"));
        return answer.finish();
    }
    let mut answer = Message::builder_success(&request, MessageWriteVec::new());
    let relayed = XorSocketAddr::new(RELAYED.into(), request.transaction_id());
    answer.push_attribute_unchecked(&relayed.to_raw(AttributeType::new(0x0016)));
    let key = LongTermKeyCredentials::new("ann".into(), "x".into(), "lab".into())
        .make_key(IntegrityAlgorithm::Sha1);
    answer
        .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
        .expect("once");
    answer.finish()
}

/// A datagram of [`PEER`] in a Data indication.
pub fn indication(data: &[u8]) -> Vec<u8> {
    let kind = MessageType::from_class_method(MessageClass::Indication, Method::new(7));
    let id = 7_u128.into();
    let mut message = Message::builder(kind, id, MessageWriteVec::new());
    let peer = XorSocketAddr::new(address(PEER), id);
    message.push_attribute_unchecked(&peer.to_raw(AttributeType::new(0x0012)));
    message.push_attribute_unchecked(&RawAttribute::new(AttributeType::new(0x0013), data));
    message.finish()
}

/// A datagram on the first channel.
pub fn channel_data(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&CHANNEL[..], &length, data].concat()
}
