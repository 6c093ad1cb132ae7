use super::*;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

fn pair(psk: [[u8; 32]; 2]) -> ((SessionKeys, Session), (SessionKeys, Session)) {
    let [a, b] = [SessionKeys::new([1; 32]), SessionKeys::new([2; 32])];
    let keepalive = Duration::from_secs(25);
    let to_b = Session::new(&a, b.public(), PeerIdx::new(7), psk[0], keepalive);
    let to_a = Session::new(&b, a.public(), PeerIdx::new(9), psk[1], keepalive);
    ((a, to_b), (b, to_a))
}

fn ip_packet() -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 100, 0, 0, 0, 0, 64, 1, 0, 0, 10, 100, 0, 1, 10, 100, 0, 2,
    ];
    packet.resize(100, 0xAB);
    packet
}

fn handshake(a: &mut Session, b: &mut Session) -> bool {
    let (mut out, mut back) = ([0; 256], [0; 256]);
    let len = a.initiate(Instant::now(), true, &mut out);
    let Opened::Reply(response) = b.open(FROM, &out[..len], &mut back) else {
        return false;
    };
    let Opened::Reply(keepalive) = a.open(FROM, &back[..response], &mut out) else {
        return false;
    };
    b.open(FROM, &out[..keepalive], &mut back) == Opened::Keepalive
}

#[test]
fn two_nodes_with_the_same_psk_exchange_packets() {
    let ((_, mut a), (_, mut b)) = pair([[5; 32]; 2]);
    assert!(handshake(&mut a, &mut b));
    assert!(a.is_established() && b.is_established());
    let (mut sealed, mut opened) = ([0; 256], [0; 256]);
    let Sealed::Message(len) = b.seal(&ip_packet(), &mut sealed) else {
        panic!("no session")
    };
    assert_eq!(
        a.open(FROM, &sealed[..len], &mut opened),
        Opened::Packet(100)
    );
    assert_eq!(&opened[..100], ip_packet());
    assert_eq!(
        a.open(FROM, &sealed[..len], &mut opened),
        Opened::Refused,
        "a replay"
    );
}

#[test]
fn another_psk_gets_no_session() {
    let ((_, mut a), (_, mut b)) = pair([[5; 32], [6; 32]]);
    assert!(!handshake(&mut a, &mut b));
    assert!(!a.is_established() && !b.is_established());
    assert_eq!(a.seal(&ip_packet(), &mut [0; 256]), Sealed::NoSession);
}

#[test]
fn messages_are_told_apart_by_key_and_index() {
    let ((a_keys, mut a), (b_keys, mut b)) = pair([[5; 32]; 2]);
    let (mut out, mut reply) = ([0; 256], [0; 256]);
    let len = a.initiate(Instant::now(), true, &mut out);
    assert_eq!(
        b_keys.addressee(FROM, &out[..len], &mut reply),
        Addressee::Initiator(a_keys.public())
    );
    assert_eq!(
        a_keys.addressee(FROM, &out[..len], &mut reply),
        Addressee::Nobody,
        "not for our key"
    );
    let Opened::Reply(len) = b.open(FROM, &out[..len], &mut reply) else {
        panic!("no response")
    };
    assert_eq!(
        a_keys.addressee(FROM, &reply[..len], &mut [0; 256]),
        Addressee::Session(PeerIdx::new(7))
    );
}

#[test]
fn a_flood_of_handshakes_is_answered_with_cookies() {
    let ((_, mut a), (b_keys, _)) = pair([[5; 32]; 2]);
    let mut out = [0; 256];
    let len = a.initiate(Instant::now(), true, &mut out);
    let answers: Vec<_> = (0..=HANDSHAKES_PER_SECOND)
        .map(|_| b_keys.addressee(FROM, &out[..len], &mut [0; 256]))
        .collect();
    assert!(matches!(answers.first(), Some(Addressee::Initiator(_))));
    assert!(matches!(answers.last(), Some(Addressee::Cookie(64))));
}

#[test]
fn an_authentic_counter_beyond_the_limit_is_refused_before_it_can_overflow() {
    let ((_, mut a), (_, mut b)) = pair([[5; 32]; 2]);
    assert!(handshake(&mut a, &mut b));
    let mut sealed = [0; 256];
    let Sealed::Message(len) = b.seal(&ip_packet(), &mut sealed) else {
        panic!("no session")
    };
    sealed[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(a.open(FROM, &sealed[..len], &mut [0; 256]), Opened::Refused);
}

proptest::proptest! {
    #[test]
    fn no_datagram_makes_it_panic(
        kind in 1..=4_u8,
        mut datagram in proptest::collection::vec(proptest::num::u8::ANY, 4..200),
    ) {
        datagram[0] = kind;
        datagram[1..4].fill(0);
        let ((keys, mut a), _) = pair([[5; 32]; 2]);
        keys.addressee(FROM, &datagram, &mut [0; 256]);
        proptest::prop_assert_eq!(a.open(FROM, &datagram, &mut [0; 256]), Opened::Refused);
    }
}
