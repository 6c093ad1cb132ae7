//! The machine in virtual time, with clients that have the right password.

use super::*;
use crate::turn::credential::{Credential, LIFETIME};
use mesh_wire::NodeId;
use std::time::{Duration, Instant};
use stun_types::{
    attribute::{AttributeType, ErrorCode, RawAttribute, XorSocketAddr},
    message::{
        Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
    },
};

const PEER: &str = "203.0.113.7:5000";

/// A machine, its time, and where it began.
struct Lab {
    machine: Machine<u32>,
    start: Instant,
    seconds: u64,
    sockets: u32,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(number: u16) -> Client {
    Client {
        transport: crate::turn::Transport::Udp,
        address: SocketAddr::from(([198, 51, 100, 7], number)),
    }
}

fn attribute(kind: u16, value: &[u8]) -> RawAttribute<'_> {
    RawAttribute::new(AttributeType::new(kind), value)
}

impl Lab {
    fn new() -> Self {
        let mut policy = Policy::new(false);
        let own = ["198.51.100.2", "198.51.100.3", "10.0.0.5"];
        policy.set_own(own.map(|text| text.parse().unwrap()));
        Self {
            machine: Machine::new(
                Arc::new(Issuer::new([1; 32], LIFETIME)),
                Nonces::new([2; 32]),
                policy,
                Quotas::new(100, super::super::quota::BYTES_PER_SECOND),
                Arc::new(TurnMetrics::default()),
            ),
            start: Instant::now(),
            seconds: 0,
            sockets: 0,
        }
    }

    fn now(&self) -> Moment {
        Moment {
            instant: self.start + Duration::from_secs(self.seconds),
            unix: 1_800_000_000 + self.seconds,
        }
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn mint(&self, number: u8) -> Credential {
        self.machine
            .issuer
            .mint(Self::node(number), self.now().unix)
    }

    fn request(
        &self,
        from: Client,
        with: &Credential,
        method: u16,
        attributes: impl Fn(TransactionId) -> Vec<(u16, Vec<u8>)>,
    ) -> Vec<u8> {
        let write = MessageWriteVec::new();
        let mut message = Message::builder_request(Method::new(method), write);
        for (kind, value) in attributes(message.transaction_id()) {
            message.add_attribute(&attribute(kind, &value)).unwrap();
        }
        let nonce = self.machine.nonces.issue(from, self.now().unix);
        let key = LongTermKeyCredentials::new(
            with.username.clone(),
            with.password.expose().to_owned(),
            REALM.to_owned(),
        )
        .make_key(IntegrityAlgorithm::Sha1);
        message
            .add_attribute(&Username::new(&with.username).unwrap())
            .unwrap();
        message.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        message.add_attribute(&Nonce::new(&nonce).unwrap()).unwrap();
        message
            .add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1)
            .unwrap();
        message.finish()
    }

    /// Hands in a request; the code of its answer, 0 for success.
    fn ask(&mut self, from: Client, bytes: &[u8]) -> u16 {
        let now = self.now();
        let step = match self.machine.receive(bytes, from, now) {
            Step::Bind(grant) => {
                self.sockets += 1;
                let port = 50_000 + u16::try_from(self.sockets).unwrap();
                let told = SocketAddr::from(([198, 51, 100, 2], port));
                self.machine.bound(*grant, Ok((self.sockets, told)), now)
            }
            step @ (Step::Nothing
            | Step::Garbage
            | Step::Reply(_)
            | Step::Relay { .. }
            | Step::Within { .. }) => step,
        };
        let Step::Reply(answer) = step else {
            panic!("no answer but {step:?}");
        };
        let answer = Message::from_bytes(&answer).unwrap();
        answer
            .attribute::<ErrorCode>()
            .map_or(0, |error| error.code())
    }

    fn allocate(&mut self, from: Client, member: u8) -> u16 {
        let bytes = self.request(from, &self.mint(member), 3, |_| {
            vec![(0x19, vec![17, 0, 0, 0])]
        });
        self.ask(from, &bytes)
    }

    fn permit(&mut self, from: Client, member: u8, peer: SocketAddr) -> u16 {
        let bytes = self.request(from, &self.mint(member), 8, |id| {
            vec![(0x12, xored(peer, id))]
        });
        self.ask(from, &bytes)
    }

    fn bind(&mut self, from: Client, member: u8, peer: SocketAddr) -> u16 {
        let bytes = self.request(from, &self.mint(member), 9, |id| {
            vec![(0x0C, vec![0x40, 1, 0, 0]), (0x12, xored(peer, id))]
        });
        self.ask(from, &bytes)
    }

    fn refresh(&mut self, from: Client, member: u8) -> u16 {
        let bytes = self.request(from, &self.mint(member), 4, |_| {
            vec![(0x0D, 3_600_u32.to_be_bytes().to_vec())]
        });
        self.ask(from, &bytes)
    }

    fn send(&mut self, from: Client, peer: SocketAddr) -> Step<u32> {
        let write = MessageWriteVec::new();
        let mut message = Message::builder_indication(Method::new(6), write);
        let id = message.transaction_id();
        message
            .add_attribute(&attribute(0x12, &xored(peer, id)))
            .unwrap();
        message.add_attribute(&attribute(0x13, b"hello")).unwrap();
        let now = self.now();
        self.machine.receive(&message.finish(), from, now)
    }

    fn channel(&mut self, from: Client) -> Step<u32> {
        let now = self.now();
        let bytes = [0x40, 1, 0, 5, b'h', b'e', b'l', b'l', b'o'];
        self.machine.receive(&bytes, from, now)
    }
}

fn xored(peer: SocketAddr, id: TransactionId) -> Vec<u8> {
    let xored = XorSocketAddr::new(peer, id);
    let mut bytes = vec![0; usize::from(xored.length())];
    xored.write_into_unchecked(&mut bytes);
    bytes
}

#[test]
fn a_permission_lets_data_pass_both_ways_for_five_minutes() {
    let mut lab = Lab::new();
    let (own, peer) = (client(1), address(PEER));
    assert_eq!(lab.allocate(own, 1), 0);
    assert!(matches!(lab.send(own, peer), Step::Nothing));
    assert_eq!(lab.machine.hear((own, 0), peer, 5, lab.now()), None);
    assert_eq!(lab.permit(own, 1, peer), 0);
    for (seconds, passes) in [(0, true), (299, true), (300, false)] {
        lab.seconds = seconds;
        assert_eq!(
            matches!(lab.send(own, peer), Step::Relay { socket: 1, .. }),
            passes
        );
        let heard = lab.machine.hear((own, 0), peer, 5, lab.now());
        assert_eq!(heard, passes.then_some(Envelope::Indication));
    }
    // Another port of that address is as welcome, another address is not.
    lab.seconds = 299;
    let now = lab.now();
    let port = address("203.0.113.7:6000");
    assert!(lab.machine.hear((own, 0), port, 5, now).is_some());
    let other = address("203.0.113.8:5000");
    assert!(lab.machine.hear((own, 0), other, 5, now).is_none());
    // And only the allocation that the packet came for.
    assert!(lab.machine.hear((own, 1), peer, 5, now).is_none());
}

#[test]
fn a_channel_lasts_ten_minutes_if_its_permission_is_kept() {
    let mut lab = Lab::new();
    let (own, peer) = (client(1), address(PEER));
    assert_eq!(lab.allocate(own, 1), 0);
    assert_eq!(lab.refresh(own, 1), 0);
    assert_eq!(lab.bind(own, 1, peer), 0);
    let Step::Relay { peer: to, data, .. } = lab.channel(own) else {
        panic!("not relayed");
    };
    assert_eq!((to, data), (peer, 4..9));
    let heard = lab.machine.hear((own, 0), peer, 5, lab.now());
    assert_eq!(heard, Some(Envelope::Channel(0x4001)));
    lab.seconds = 300;
    assert!(matches!(lab.channel(own), Step::Nothing));
    assert_eq!(lab.permit(own, 1, peer), 0);
    lab.seconds = 599;
    assert!(matches!(lab.channel(own), Step::Relay { .. }));
    lab.seconds = 600;
    assert!(matches!(lab.channel(own), Step::Nothing));
}

#[test]
fn an_allocation_ends_with_its_time_and_gives_back_what_it_took() {
    let mut lab = Lab::new();
    let own = client(1);
    assert_eq!(lab.allocate(own, 1), 0);
    lab.seconds = 599;
    lab.machine.sweep(lab.now());
    assert!(lab.machine.has(own));
    assert_eq!(lab.allocate(own, 1), 437);
    lab.seconds = 600;
    lab.machine.sweep(lab.now());
    assert!(!lab.machine.has(own));
    assert_eq!(lab.machine.relayed.len(), 0);
    assert_eq!(lab.refresh(own, 1), 437);
    for number in 0..10 {
        assert_eq!(lab.allocate(client(number), 1), 0);
    }
    assert_eq!(lab.allocate(client(10), 1), 486);
}

#[test]
fn what_was_allowed_once_is_asked_again_when_data_comes() {
    let mut lab = Lab::new();
    let (own, peer) = (client(1), address(PEER));
    assert_eq!(lab.allocate(own, 1), 0);
    assert_eq!(lab.bind(own, 1, peer), 0);
    assert!(matches!(lab.channel(own), Step::Relay { .. }));
    // The host has been given the peer's address since.
    lab.machine.set_own([peer.ip()]);
    assert!(matches!(lab.channel(own), Step::Nothing));
    assert!(matches!(lab.send(own, peer), Step::Nothing));
    assert_eq!(lab.bind(own, 1, peer), 403);
    // A permission is for an address, and does not open the ports that flood.
    let other = address("203.0.113.8:5000");
    assert_eq!(lab.permit(own, 1, other), 0);
    assert!(matches!(
        lab.send(own, address("203.0.113.8:53")),
        Step::Nothing
    ));
    assert!(matches!(lab.send(own, other), Step::Relay { .. }));
}

#[test]
fn a_relayed_address_of_another_client_is_reached_within_and_no_other_port_of_the_host() {
    let mut lab = Lab::new();
    let (one, two) = (client(1), client(2));
    assert_eq!(lab.allocate(one, 1), 0);
    assert_eq!(lab.allocate(two, 2), 0);
    let (of_one, of_two) = (address("198.51.100.2:50001"), address("198.51.100.2:50002"));
    assert_eq!(lab.permit(one, 1, address("198.51.100.2:50003")), 403);
    assert_eq!(lab.permit(one, 1, of_two), 0);
    let Step::Within { to, from, data } = lab.send(one, of_two) else {
        panic!("not handed on");
    };
    assert_eq!((to, from, data.len()), ((two, 1), of_one, 5));
    assert_eq!(lab.machine.hear(to, from, 5, lab.now()), None);
    assert_eq!(lab.permit(two, 2, of_one), 0);
    assert!(lab.machine.hear(to, from, 5, lab.now()).is_some());
    for port in ["198.51.100.2:3478", "198.51.100.2:7080", "198.51.100.2:22"] {
        assert!(matches!(lab.send(one, address(port)), Step::Nothing));
    }
}

#[test]
fn a_permission_without_a_port_for_the_servers_own_address_is_for_relayed_ports_only() {
    let mut lab = Lab::new();
    let (one, two) = (client(1), client(2));
    assert_eq!(lab.allocate(one, 1), 0);
    assert_eq!(lab.allocate(two, 2), 0);
    let of_two = address("198.51.100.2:50002");
    // It does not show which addresses the server has beside the one that it relays at.
    for other in ["198.51.100.3:0", "10.0.0.5:0", "10.0.0.6:0"] {
        assert_eq!(lab.permit(one, 1, address(other)), 403, "{other}");
    }
    assert_eq!(lab.permit(one, 1, address("198.51.100.2:0")), 0);
    assert!(matches!(lab.send(one, of_two), Step::Within { .. }));
    for port in ["198.51.100.2:22", "198.51.100.2:50003", "198.51.100.2:0"] {
        assert!(matches!(lab.send(one, address(port)), Step::Nothing));
    }
    let now = lab.now();
    assert!(lab.machine.hear((one, 0), of_two, 5, now).is_some());
    // A program of the host that knows the relayed port.
    let local = address("198.51.100.2:40000");
    assert_eq!(lab.machine.hear((one, 0), local, 5, now), None);
    // Nor when the port was a relayed one.
    lab.machine.end(two);
    assert!(matches!(lab.send(one, of_two), Step::Nothing));
    assert_eq!(lab.machine.hear((one, 0), of_two, 5, now), None);
}

#[test]
fn a_member_that_was_put_out_loses_its_allocations_and_others_keep_theirs() {
    let mut lab = Lab::new();
    assert_eq!(lab.allocate(client(1), 1), 0);
    assert_eq!(lab.allocate(client(2), 2), 0);
    let (unix, old) = (lab.now().unix, lab.mint(1));
    lab.machine.issuer.put_out(Lab::node(1), unix);
    lab.machine.sweep(lab.now());
    assert!(!lab.machine.has(client(1)) && lab.machine.has(client(2)));
    let bytes = lab.request(client(1), &old, 3, |_| vec![(0x19, vec![17, 0, 0, 0])]);
    assert_eq!(lab.ask(client(1), &bytes), 401);
    // A credential that has merely expired ends nothing, and cannot be used again.
    lab.seconds = 599;
    assert_eq!(lab.refresh(client(2), 2), 0);
    lab.seconds = 3_700;
    lab.machine.sweep(lab.now());
    assert!(lab.machine.has(client(2)));
}

#[test]
fn data_is_limited_per_member_whichever_allocation_it_takes() {
    let mut lab = Lab::new();
    let peer = address(PEER);
    for number in 1..=2 {
        assert_eq!(lab.allocate(client(number), 1), 0);
        assert_eq!(lab.permit(client(number), 1, peer), 0);
    }
    let now = lab.now();
    while lab.machine.hear((client(1), 0), peer, 1_000, now).is_some() {}
    assert!(lab.machine.hear((client(2), 1), peer, 1_000, now).is_none());
    lab.seconds = 1;
    let now = lab.now();
    assert!(lab.machine.hear((client(2), 1), peer, 1_000, now).is_some());
}

/// A client of its own at each place that a member has moved to.
fn moved_to(place: u8) -> Client {
    Client {
        address: SocketAddr::from(([198, 51, 100, 100 + place], 7_081)),
        ..client(0)
    }
}

#[test]
fn who_moves_more_often_than_ten_times_is_relayed_all_the_same() {
    let mut lab = Lab::new();
    for place in 0..30 {
        assert_eq!(lab.allocate(moved_to(place), 1), 0, "move {place}");
        lab.seconds += 20;
        assert_eq!(lab.refresh(moved_to(place), 1), 0);
        lab.seconds += 1;
    }
    // The last ten stand, and what was ended can ask anew.
    assert_eq!(lab.machine.len(), 10);
    assert!((20..30).all(|place| lab.machine.has(moved_to(place))));
    assert_eq!(lab.refresh(moved_to(19), 1), 437);
}

#[test]
fn allocations_in_use_and_those_at_the_same_address_are_ended_for_nobody() {
    let mut lab = Lab::new();
    let peer = address(PEER);
    for place in 0..9 {
        assert_eq!(lab.allocate(moved_to(place), 1), 0);
    }
    assert_eq!(lab.allocate(client(1), 1), 0);
    assert_eq!(lab.permit(client(1), 1, peer), 0);
    // Another member has nothing to give.
    assert_eq!(lab.allocate(moved_to(50), 2), 0);
    lab.seconds = 59;
    assert_eq!(lab.allocate(moved_to(20), 1), 486, "nobody is silent yet");
    for place in 0..9 {
        assert_eq!(lab.refresh(moved_to(place), 1), 0);
    }
    lab.seconds = 60;
    // Of the ten one alone was silent, and it is at the address that asks.
    assert_eq!(lab.allocate(client(2), 1), 486);
    assert!(matches!(lab.send(client(1), peer), Step::Relay { .. }));
    lab.seconds = 118;
    assert_eq!(lab.allocate(moved_to(20), 1), 486, "data counts");
    lab.seconds = 119;
    assert_eq!(lab.refresh(moved_to(0), 1), 0);
    // The eight others are silent for a minute now: the first of these goes, and no other.
    assert_eq!(lab.allocate(moved_to(20), 1), 0);
    assert!(lab.machine.has(moved_to(0)) && lab.machine.has(client(1)));
    assert!(!lab.machine.has(moved_to(1)) && lab.machine.has(moved_to(2)));
    assert!(lab.machine.has(moved_to(50)));
}

#[test]
fn no_changed_byte_of_a_request_panics_or_changes_anything() {
    let mut lab = Lab::new();
    let (own, peer) = (client(1), address(PEER));
    assert_eq!(lab.allocate(own, 1), 0);
    for method in [3, 4, 8, 9] {
        let good = lab.request(own, &lab.mint(1), method, |id| {
            vec![
                (0x19, vec![17, 0, 0, 0]),
                (0x0C, vec![0x40, 1, 0, 0]),
                (0x0D, vec![0, 0, 0, 0]),
                (0x12, xored(peer, id)),
            ]
        });
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[at] ^= 1 << bit;
                let now = lab.now();
                match lab.machine.receive(&changed, own, now) {
                    Step::Nothing | Step::Garbage => {}
                    Step::Reply(answer) => {
                        assert!(answer.len() <= 3 * changed.len());
                        let answer = Message::from_bytes(&answer).unwrap();
                        answer.attribute::<ErrorCode>().unwrap();
                    }
                    step @ (Step::Bind(_) | Step::Relay { .. } | Step::Within { .. }) => {
                        panic!("{step:?}")
                    }
                }
            }
        }
    }
    assert!(lab.machine.has(own));
    assert!(matches!(lab.send(own, peer), Step::Nothing));
}
