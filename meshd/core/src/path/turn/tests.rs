mod streams;

use std::net::IpAddr;

use mesh_wire::discovery::TurnPassword;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use stun_types::{
    attribute::{
        Attribute as _, AttributeStaticType as _, AttributeType, ErrorCode, MessageIntegrity,
        Nonce, RawAttribute, Realm, XorSocketAddr,
    },
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite as _,
        MessageWriteExt as _, MessageWriteVec, Method,
    },
};

use super::{
    message::{data_indication, send_indication},
    stages::MAX_CHALLENGES,
    *,
};
use crate::{
    peer::table::PeerIdx,
    queue::transmit::{Route, StreamId},
};

const HOST: ([u8; 4], u16) = ([192, 168, 1, 10], 7081);
const PEER: ([u8; 4], u16) = ([203, 0, 113, 9], 40_000);
const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;

pub(crate) fn server(number: u8) -> SocketAddr {
    ([198, 51, 100, number], 3478).into()
}

pub(crate) fn relayed(number: u8) -> SocketAddr {
    ([198, 51, 100, number], 50_000).into()
}

pub(crate) fn access(number: u8, password: &str) -> TurnServer {
    TurnServer {
        address: server(number),
        transport: Transport::Udp,
        username: "ann".to_owned(),
        password: TurnPassword::new(password.to_owned()),
    }
}

/// What a server says to a request: error 401 or 438 with a challenge, another error, or success.
pub(crate) fn answer(request: &[u8], number: u8, code: Option<u16>, password: &str) -> Vec<u8> {
    let request = Message::from_bytes(request).unwrap();
    let Some(code) = code else {
        let mut answer = Message::builder_success(&request, MessageWriteVec::new());
        let address = XorSocketAddr::new(relayed(number), request.transaction_id());
        answer.push_attribute_unchecked(&address.to_raw(AttributeType::new(0x0016)));
        let key = LongTermKeyCredentials::new("ann".into(), password.into(), "lab".into())
            .make_key(IntegrityAlgorithm::Sha1);
        answer
            .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
            .unwrap();
        return answer.finish();
    };
    let mut answer = Message::builder_error(&request, MessageWriteVec::new());
    answer.push_attribute_unchecked(&ErrorCode::new(code, "").unwrap());
    if matches!(code, 401 | 438) {
        answer.push_attribute_unchecked(&Realm::new("lab").unwrap());
        answer.push_attribute_unchecked(&Nonce::new("fresh").unwrap());
    }
    answer.finish()
}

/// What came from `peer` as a server wraps it.
pub(crate) fn data_indication_of(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = send_indication(peer, data, &[3; 12]);
    // Method Data in place of Send.
    bytes[1] = 0x17;
    bytes
}

struct Client {
    turn: Turn,
    rng: ChaCha8Rng,
    now: Instant,
    used: bool,
}

impl Client {
    /// That wants an address of these servers.
    fn new(servers: &[TurnServer]) -> Self {
        let mut client = Self {
            turn: Turn::default(),
            rng: ChaCha8Rng::seed_from_u64(1),
            now: Instant::now(),
            used: true,
        };
        client.set_servers(servers);
        client.turn.want(client.now, &mut client.rng);
        client
    }

    fn set_servers(&mut self, servers: &[TurnServer]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut transmit = TransmitQueue::new();
        self.turn
            .set_servers(servers, self.now, &mut self.rng, &mut transmit);
        sent(&transmit)
    }

    /// What is sent now.
    fn sends(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut transmit = TransmitQueue::new();
        let used = self.used;
        self.turn
            .handle_timeout(self.now, &mut self.rng, |_| used, &mut transmit);
        sent(&transmit)
    }

    /// Lets time pass until the next request, which it returns.
    fn next(&mut self) -> (SocketAddr, u16, Vec<u8>) {
        self.now = self.turn.poll_timeout().unwrap().max(self.now);
        let (to, bytes) = self.sends().remove(0);
        let method = Message::from_bytes(&bytes).unwrap().method().value();
        (to, method, bytes)
    }

    fn hear(&mut self, from: SocketAddr, bytes: &[u8]) -> bool {
        self.hear_on(None, from, bytes)
    }

    fn hear_on(&mut self, stream: Option<StreamId>, from: SocketAddr, bytes: &[u8]) -> bool {
        let id = bytes[8..20].try_into().unwrap();
        let way = (
            Contact {
                address: from,
                stream,
            },
            HOST.into(),
        );
        self.turn
            .handle_answer(way, (&id, bytes), &mut self.rng, self.now)
    }

    /// Answers the next request.
    fn reply(&mut self, code: Option<u16>) -> u16 {
        let (to, method, request) = self.next();
        let number = match to.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => panic!("not here"),
        };
        assert!(self.hear(to, &answer(&request, number, code, "right")));
        method
    }

    fn allocated() -> Self {
        let mut client = Self::new(&[access(2, "right")]);
        assert_eq!(client.reply(Some(401)), ALLOCATE);
        assert_eq!(client.reply(None), ALLOCATE);
        assert_eq!(client.turn.relayed(), Some(relayed(2)));
        client
    }

    fn permit(&mut self, ip: IpAddr, owner: u32) {
        let named = (ip, PeerIdx::new(owner));
        self.turn.permit(named, &mut self.rng, self.now);
    }

    fn bind(&mut self, peer: SocketAddr, owner: u32) -> Option<Route> {
        let peer = (peer, PeerIdx::new(owner));
        self.turn.bind(peer, &mut self.rng, self.now)
    }

    fn disown(&mut self, owner: u32) {
        self.turn.disown(PeerIdx::new(owner));
    }

    fn trouble(&self) -> Option<Trouble> {
        self.turn.status()[0].trouble
    }
}

fn at(number: u8) -> Contact {
    Contact {
        address: server(number),
        stream: None,
    }
}

fn sent(transmit: &TransmitQueue) -> Vec<(SocketAddr, Vec<u8>)> {
    let all = transmit.trains().iter();
    all.flat_map(|train| {
        let to = train.route().dst;
        train.datagrams().map(move |bytes| (to, bytes.to_vec()))
    })
    .collect()
}

#[test]
fn the_server_that_answers_first_is_asked_for_the_address() {
    let servers = [access(2, "right"), access(3, "right")];
    let mut client = Client::new(&servers);
    let asked = client.sends();
    assert_eq!(asked.len(), 2);
    let request = Message::from_bytes(&asked[0].1).unwrap();
    assert!(!request.has_attribute(MessageIntegrity::TYPE));
    client.now += Duration::from_millis(10);
    assert!(client.hear(server(3), &answer(&asked[1].1, 3, Some(401), "right")));
    client.now += Duration::from_millis(10);
    assert!(client.hear(server(2), &answer(&asked[0].1, 2, Some(401), "right")));
    let (to, method, request) = client.next();
    assert_eq!((to, method), (server(3), ALLOCATE));
    assert!(client.hear(to, &answer(&request, 3, None, "right")));
    assert_eq!(client.turn.relayed(), Some(relayed(3)));
    let status = client.turn.status();
    assert_eq!(status[0].rtt, Some(Duration::from_millis(20)));
    assert_eq!(
        (status[0].relayed, status[1].relayed),
        (None, Some(relayed(3)))
    );
}

#[test]
fn a_success_that_does_not_prove_to_be_the_servers_is_not_believed() {
    let mut client = Client::new(&[access(2, "right")]);
    client.reply(Some(401));
    let (to, _, request) = client.next();
    assert!(client.hear(to, &answer(&request, 2, None, "wrong")));
    assert_eq!(client.turn.relayed(), None);
    let unproven = Message::from_bytes(&request).unwrap();
    let unproven = Message::builder_success(&unproven, MessageWriteVec::new()).finish();
    assert!(client.hear(to, &unproven));
    assert!(
        !client.hear(server(3), &answer(&request, 2, None, "right")),
        "another's"
    );
    assert_eq!(client.turn.relayed(), None);
    assert!(client.hear(to, &answer(&request, 2, None, "right")));
    assert_eq!(client.turn.relayed(), Some(relayed(2)));
}

#[test]
fn what_a_server_refuses_is_not_asked_for_again_at_once() {
    for code in [300, 401, 403, 441, 442, 486, 508] {
        let mut client = Client::new(&[access(2, "right")]);
        client.reply(Some(401));
        client.reply(Some(code));
        assert_eq!(client.trouble(), Some(Trouble::Refused(code)));
        let began = client.now;
        let (_, method, _) = client.next();
        assert_eq!(method, ALLOCATE);
        assert!(client.now >= began + Duration::from_secs(30), "{code}");
    }
}

#[test]
fn another_server_is_asked_when_the_nearest_refuses() {
    let mut client = Client::new(&[access(2, "right"), access(3, "right")]);
    let asked = client.sends();
    client.hear(server(2), &answer(&asked[0].1, 2, Some(401), "right"));
    assert_eq!(client.reply(Some(486)), ALLOCATE);
    let (to, _, request) = client.next();
    assert_eq!(to, server(3));
    client.hear(to, &answer(&request, 3, Some(401), "right"));
    client.reply(None);
    assert_eq!(client.turn.relayed(), Some(relayed(3)));
}

#[test]
fn an_address_that_is_left_from_an_earlier_run_is_released_first() {
    let mut client = Client::new(&[access(2, "right")]);
    client.reply(Some(401));
    assert_eq!(client.reply(Some(437)), ALLOCATE);
    assert_eq!(client.reply(None), REFRESH);
    assert_eq!(client.reply(None), ALLOCATE);
    assert_eq!(client.turn.relayed(), Some(relayed(2)));
}

#[test]
fn a_stale_nonce_is_replaced_and_not_for_ever() {
    let mut client = Client::new(&[access(2, "right")]);
    client.reply(Some(401));
    for _ in 0..MAX_CHALLENGES {
        client.reply(Some(438));
    }
    client.reply(Some(438));
    assert_eq!(client.trouble(), Some(Trouble::Refused(438)));
}

#[test]
fn a_silent_server_is_given_up_after_ten_seconds_and_asked_again() {
    let mut client = Client::new(&[access(2, "right")]);
    let (began, mut asked) = (client.now, 0);
    while client.trouble().is_none() {
        client.now = client.turn.poll_timeout().unwrap().max(client.now);
        asked += client.sends().len();
    }
    assert_eq!(asked, 7);
    let gave_up = client.now - began;
    assert!(gave_up < Duration::from_secs(11), "{gave_up:?}");
    assert_eq!(client.next().1, ALLOCATE);
    assert_eq!(client.now - began, gave_up + Duration::from_secs(5));
}

#[test]
fn an_allocation_is_refreshed_and_lost_when_the_server_does_not_know_it() {
    let mut client = Client::allocated();
    assert!(matches!(
        client.turn.poll_event(),
        Some(TurnEvent::Allocated(_))
    ));
    for _ in 0..3 {
        let began = client.now;
        assert_eq!(client.reply(None), REFRESH);
        assert_eq!(client.now - began, Duration::from_secs(25));
    }
    assert_eq!(client.reply(Some(437)), REFRESH);
    assert!(matches!(client.turn.poll_event(), Some(TurnEvent::Lost(_))));
    assert_eq!(client.reply(Some(401)), ALLOCATE, "made anew at once");
}

#[test]
fn new_credentials_are_used_at_once_and_those_of_another_user_are_not_needed() {
    let mut client = Client::allocated();
    client.set_servers(&[access(2, "newer")]);
    let (to, method, request) = client.next();
    assert_eq!(method, REFRESH);
    assert!(client.hear(to, &answer(&request, 2, None, "newer")));
    assert_eq!(client.trouble(), None);
    client.set_servers(&[access(2, "right")]);
    assert_eq!(client.reply(Some(441)), REFRESH);
    assert_eq!(client.trouble(), Some(Trouble::Refused(441)));
    let (to, method, request) = client.next();
    assert_eq!(method, REFRESH, "with the former ones");
    assert!(client.hear(to, &answer(&request, 2, None, "newer")));
    assert_eq!(client.turn.relayed(), Some(relayed(2)));
    assert_eq!(client.trouble(), None);
}

#[test]
fn permissions_and_channels_are_renewed_while_they_are_used_and_lapse_after() {
    let mut client = Client::allocated();
    let peer = SocketAddr::from(PEER);
    client.permit(peer.ip(), 1);
    let route = client.bind(peer, 1).unwrap();
    assert!(client.turn.leads_to(route, peer));
    let mut asked = [0; 2];
    let mut run = |client: &mut Client, time: Duration| {
        let end = client.now + time;
        while client.turn.poll_timeout().is_some_and(|at| at <= end) {
            client.now = client.turn.poll_timeout().unwrap().max(client.now);
            client.turn.want(client.now, &mut client.rng);
            for (to, request) in client.sends() {
                let method = Message::from_bytes(&request).unwrap().method();
                asked[0] += usize::from(method == Method::new(CREATE_PERMISSION));
                asked[1] += usize::from(method == Method::new(CHANNEL_BIND));
                client.hear(to, &answer(&request, 2, None, "right"));
            }
        }
        std::mem::take(&mut asked)
    };
    assert_eq!(run(&mut client, Duration::from_secs(1)), [1, 1]);
    // Each minute before their 5 and 10 are over.
    assert_eq!(run(&mut client, Duration::from_secs(3600)), [15, 6]);
    client.used = false;
    assert_eq!(run(&mut client, Duration::from_secs(3600)), [0, 0]);
    assert!(!client.turn.leads_to(route, peer), "forgotten");
}

#[test]
fn a_peer_that_the_server_refuses_is_not_asked_for_over_and_over() {
    let mut client = Client::allocated();
    client.permit(PEER.0.into(), 1);
    assert_eq!(client.reply(Some(403)), CREATE_PERMISSION);
    for _ in 0..1000 {
        client.permit(PEER.0.into(), 1);
    }
    assert_eq!(client.next().1, REFRESH);
    let private = IpAddr::from([192, 168, 1, 3]);
    client.permit(private, 1);
    assert!(
        client.sends().is_empty(),
        "no server relays into private networks"
    );
}

#[test]
fn channels_are_bounded_and_no_number_is_given_out_twice() {
    let mut client = Client::allocated();
    let mut routes = std::collections::BTreeSet::new();
    for port in 1..=1000 {
        let peer = SocketAddr::from((PEER.0, port));
        routes.extend(client.bind(peer, u32::from(port % 50)));
    }
    assert_eq!(routes.len(), 200);
    assert!(routes.iter().all(|route| route.dst == server(2)));
}

#[test]
fn one_peer_has_a_share_of_the_channels_and_permissions_and_leaves_the_others_theirs() {
    let mut client = Client::allocated();
    let greedy = (1..=1000).filter(|port| {
        let peer = SocketAddr::from((PEER.0, *port));
        client.bind(peer, 1).is_some()
    });
    assert_eq!(greedy.count(), 20);
    // What it has it keeps, and another one has its own.
    assert!(client.bind(SocketAddr::from((PEER.0, 1)), 1).is_some());
    assert!(client.bind(SocketAddr::from((PEER.0, 5000)), 2).is_some());
    let _channels = client.sends();
    for number in 0..1000_u32 {
        client.permit((0xC633_6400 + number).to_be_bytes().into(), 1);
    }
    client.permit([203, 0, 113, 200].into(), 2);
    let asked = client.sends();
    let permissions = asked.iter().filter(|(_, request)| {
        Message::from_bytes(request).unwrap().method() == Method::new(CREATE_PERMISSION)
    });
    assert_eq!(permissions.count(), 21);
    // Whoever gets the place of one that is gone begins with a share of its own.
    assert!(client.bind(SocketAddr::from((PEER.0, 2000)), 1).is_none());
    client.disown(1);
    assert!(client.bind(SocketAddr::from((PEER.0, 2000)), 1).is_some());
}

#[test]
fn a_channel_that_was_refused_is_not_offered_again_until_it_is_granted() {
    let mut client = Client::allocated();
    let peer = SocketAddr::from(PEER);
    assert!(client.bind(peer, 1).is_some(), "it may well be granted");
    assert_eq!(client.reply(Some(403)), CHANNEL_BIND);
    // It is asked for once a minute while it is wanted, and stands for nothing meanwhile.
    for _ in 0..3 {
        let mut asked = CHANNEL_BIND + 1;
        let begin = client.now;
        while asked != CHANNEL_BIND {
            assert_eq!(client.bind(peer, 1), None);
            let (from, method, request) = client.next();
            asked = method;
            let code = (method == CHANNEL_BIND).then_some(403);
            client.hear(from, &answer(&request, 2, code, "right"));
        }
        let pause = client.now - begin;
        assert!(pause >= Duration::from_secs(59), "{pause:?}");
    }
    assert_eq!(client.bind(peer, 1), None);
    let mut asked = 0;
    while asked != CHANNEL_BIND {
        assert_eq!(client.bind(peer, 1), None);
        let (from, method, request) = client.next();
        asked = method;
        client.hear(from, &answer(&request, 2, None, "right"));
    }
    assert!(client.bind(peer, 1).is_some(), "granted");
}

#[test]
fn only_the_server_that_relays_for_us_wraps() {
    let mut client = Client::allocated();
    let peer = SocketAddr::from(PEER);
    let route = client.bind(peer, 1).unwrap();
    let [high, low] = route.channel.unwrap().get().to_be_bytes();
    let message = [high, low, 0, 3, 1, 2, 3, 9];
    assert_eq!(client.turn.unwrap(at(2), &message), Some((peer, 4..7)));
    assert_eq!(client.turn.unwrap(at(3), &message), None);
    let other = [high, low ^ 1, 0, 3, 1, 2, 3];
    assert_eq!(client.turn.unwrap(at(2), &other), None);
    assert_eq!(client.turn.unwrap(at(2), &[high, low, 0, 4, 1, 2, 3]), None);
}

#[test]
fn an_indication_is_read_by_the_codec_as_it_was_written_and_the_other_way_round() {
    for peer in ["203.0.113.9:40000", "[2001:db8::9]:40000"] {
        let peer: SocketAddr = peer.parse().unwrap();
        let mut bytes = send_indication(peer, &[7; 5], &[3; 12]);
        let message = Message::from_bytes(&bytes).unwrap();
        let address = message.raw_attribute(AttributeType::new(0x0012)).unwrap();
        let address = XorSocketAddr::from_raw(&address).unwrap();
        assert_eq!(address.addr(message.transaction_id()), peer);
        let data = RawAttribute::new(AttributeType::new(0x0013), &[7; 5]);
        assert_eq!(message.raw_attribute(data.get_type()).unwrap(), data);
        bytes = data_indication_of(peer, &[7; 5]);
        let (from, place) = data_indication(&bytes).unwrap();
        assert_eq!((from, &bytes[place]), (peer, &[7; 5][..]));
        bytes.push(0);
        assert_eq!(data_indication(&bytes), None);
    }
}

#[test]
fn an_address_that_nobody_needs_is_given_back() {
    let mut client = Client::allocated();
    client.used = false;
    let began = client.now;
    while client.turn.relayed().is_some() {
        client.now = client.turn.poll_timeout().unwrap().max(client.now);
        for (to, request) in client.sends() {
            client.hear(to, &answer(&request, 2, None, "right"));
        }
    }
    assert_eq!(client.now - began, KEEP);
    assert_eq!(client.turn.poll_timeout(), None);
}
