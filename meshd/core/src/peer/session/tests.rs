use std::net::SocketAddr;

use mesh_wire::wireguard::{DATA_HEADER, TAG};

use super::*;
use crate::wireguard::timers::REJECT_AFTER;
use crate::{
    peer::keys::{Addressee, KeyConfig},
    wireguard::keypair::{OVERHEAD, Uses},
};

const SECOND: Duration = Duration::from_secs(1);

/// One end of a session.
struct End {
    keys: SessionKeys,
    session: Session,
}

impl End {
    fn new(private: u8, peer: u8, psk: u8, now: Instant) -> Self {
        let config = |private, gcm| KeyConfig {
            private: [private; 32],
            uses: Uses { gcm, relay: false },
            unix_time: Duration::from_secs(1_700_000_000),
        };
        let peer = SessionKeys::new(config(peer, false), [0; 32], now).public();
        Self {
            keys: SessionKeys::new(config(private, true), [private; 32], now),
            session: Session::new(peer, PeerIdx::new(7), [psk; 32], 25 * SECOND),
        }
    }

    fn initiate(&mut self, now: Instant) -> Vec<u8> {
        let message = self.session.initiate(&mut self.keys, now);
        message.map(|message| message.to_vec()).unwrap_or_default()
    }

    /// What it sends back to a handshake message; `None` if it refuses it.
    fn take(&mut self, datagram: &[u8], now: Instant) -> Option<Vec<u8>> {
        let from = SocketAddr::from(([198, 51, 100, 1], 1));
        let message = Message::parse(datagram)?;
        match self.keys.addressee((from, datagram), &message, now) {
            Addressee::Initiator(responder, sender) => {
                let accepted = self
                    .session
                    .accept(&mut self.keys, (*responder, sender), now);
                Some(accepted?.to_vec())
            }
            Addressee::Session(index) => {
                assert_eq!(index, PeerIdx::new(7));
                let taken = self.session.finish(&self.keys, &message, now);
                taken.then(|| self.seal(b"", now))
            }
            Addressee::Prove(reply) => Some(reply.to_vec()),
            Addressee::Nobody => None,
        }
    }

    fn seal(&mut self, packet: &[u8], now: Instant) -> Vec<u8> {
        let mut buffer = vec![0xEE; packet.len() + OVERHEAD + 16];
        buffer[DATA_HEADER..DATA_HEADER + packet.len()].copy_from_slice(packet);
        let padded = packet.len().next_multiple_of(16);
        let written = self.session.seal(&mut buffer, (packet.len(), padded), now);
        buffer.truncate(written);
        buffer
    }

    fn open(&mut self, message: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut message = message.to_vec();
        let Some(Message::Data {
            receiver,
            counter,
            cipher,
        }) = Message::parse(&message)
        else {
            return None;
        };
        match self
            .session
            .open(&mut message, receiver, (counter, cipher), now)
        {
            Opened::Packet(place) => Some(message[place].to_vec()),
            Opened::Keepalive => Some(Vec::new()),
            Opened::Refused => None,
        }
    }

    /// Everything that is due, up to `now`.
    fn due(&mut self, now: Instant) -> Vec<SessionDue> {
        std::iter::from_fn(|| self.session.handle_timeout(now))
            .take(5)
            .collect()
    }
}

fn ends(psk: [u8; 2]) -> (End, End, Instant) {
    let now = Instant::now();
    (
        End::new(1, 2, psk[0], now),
        End::new(2, 1, psk[1], now),
        now,
    )
}

/// A handshake that `a` begins; what `a` sealed as confirmation has been opened.
fn handshake(a: &mut End, b: &mut End, now: Instant) -> bool {
    let initiation = a.initiate(now);
    let Some(response) = b.take(&initiation, now) else {
        return false;
    };
    let Some(confirmation) = a.take(&response, now) else {
        return false;
    };
    b.open(&confirmation, now) == Some(Vec::new())
}

#[test]
fn two_ends_with_the_same_psk_exchange_packets() {
    let (mut a, mut b, now) = ends([5, 5]);
    assert!(handshake(&mut a, &mut b, now));
    assert!(a.session.is_established(now) && b.session.is_established(now));
    for (from, to) in [(0, 1), (1, 0)] {
        let both = [&mut a, &mut b];
        let sealed = both[from].seal(&[9; 100], now);
        assert_eq!(sealed.len(), DATA_HEADER + 112 + TAG);
        let opened = both[to].open(&sealed, now).unwrap();
        assert_eq!(opened[..100], [9; 100]);
        assert_eq!(both[to].open(&sealed, now), None, "a replay");
    }
}

#[test]
fn another_psk_gets_no_session() {
    let (mut a, mut b, now) = ends([5, 6]);
    assert!(!handshake(&mut a, &mut b, now));
    assert!(!a.session.is_established(now) && !b.session.is_established(now));
    assert!(a.seal(&[9; 100], now).is_empty());
}

#[test]
fn the_responder_sends_nothing_before_the_initiator_has_spoken() {
    let (mut a, mut b, now) = ends([5, 5]);
    let initiation = a.initiate(now);
    b.take(&initiation, now).unwrap();
    assert!(!b.session.is_established(now) && b.seal(&[9; 10], now).is_empty());
}

#[test]
fn an_initiation_works_once_and_an_older_one_never() {
    let (mut a, mut b, now) = ends([5, 5]);
    let first = a.initiate(now);
    let second = a.initiate(now + 6 * SECOND);
    assert!(b.take(&second, now).is_some());
    let later = now + SECOND;
    assert!(b.take(&second, later).is_none() && b.take(&first, later).is_none());
}

#[test]
fn a_response_to_an_attempt_that_was_given_up_is_refused() {
    let (mut a, mut b, now) = ends([5, 5]);
    let first = a.initiate(now);
    let response = b.take(&first, now).unwrap();
    a.initiate(now + 6 * SECOND);
    assert!(a.take(&response, now + 6 * SECOND).is_none());
}

#[test]
fn handshakes_that_cross_leave_both_sides_with_keys_that_work() {
    let (mut a, mut b, now) = ends([5, 5]);
    let (from_a, from_b) = (a.initiate(now), b.initiate(now));
    let (to_b, to_a) = (a.take(&from_b, now).unwrap(), b.take(&from_a, now).unwrap());
    let (of_a, of_b) = (a.take(&to_a, now).unwrap(), b.take(&to_b, now).unwrap());
    assert!(a.open(&of_b, now).is_some() && b.open(&of_a, now).is_some());
    for step in 0..4 {
        let sealed = a.seal(&[step; 20], now);
        assert!(b.open(&sealed, now).is_some());
        let sealed = b.seal(&[step; 20], now);
        assert!(a.open(&sealed, now).is_some());
    }
}

#[test]
fn keys_are_renewed_by_their_initiator_and_old_packets_still_open() {
    let (mut a, mut b, now) = ends([5, 5]);
    assert!(handshake(&mut a, &mut b, now));
    let late = a.seal(&[1; 20], now);
    let worn = now + 120 * SECOND;
    b.seal(&[9; 20], worn);
    assert!(!b.session.take_renewal(), "it is the initiator's business");
    a.seal(&[9; 20], worn);
    assert!(a.session.take_renewal());
    assert!(handshake(&mut a, &mut b, worn));
    assert_eq!(a.session.since_handshake(worn), Some(Duration::ZERO));
    assert!(
        b.open(&late, worn).is_some(),
        "it was under way during the renewal"
    );
}

#[test]
fn whoever_only_receives_renews_too() {
    let (mut a, mut b, now) = ends([5, 5]);
    assert!(handshake(&mut a, &mut b, now));
    for (age, renews) in [(164, false), (165, true)] {
        let at = now + age * SECOND;
        let sealed = b.seal(&[9; 20], at);
        a.open(&sealed, at).unwrap();
        assert_eq!(a.session.take_renewal(), renews, "{age}");
    }
}

#[test]
fn keys_end_after_three_minutes() {
    let (mut a, mut b, now) = ends([5, 5]);
    assert!(handshake(&mut a, &mut b, now));
    let end = now + REJECT_AFTER;
    let sealed = a.seal(&[9; 20], end - SECOND);
    assert_eq!(b.open(&sealed, end), None);
    assert!(a.seal(&[9; 20], end).is_empty());
    assert!(a.due(end).contains(&SessionDue::Over));
    assert_eq!(
        a.session.poll_timeout(),
        None,
        "nothing is left to wait for"
    );
}

#[test]
fn an_unanswered_initiation_is_repeated_quickly_then_slowly_then_given_up() {
    let (mut a, _, start) = ends([5, 5]);
    let (mut now, mut sent) = (start, vec![start]);
    assert!(!a.initiate(now).is_empty() && a.initiate(now).is_empty());
    while let Some(at) = a.session.poll_timeout() {
        now = at;
        while let Some(due) = a.session.handle_timeout(now) {
            assert_eq!(due, SessionDue::Handshake);
            assert!(!a.initiate(now).is_empty());
            sent.push(now);
        }
    }
    let gaps: Vec<_> = sent.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[..4].iter().all(|gap| *gap == FIRST_RETRY), "{gaps:?}");
    let slow = REKEY_TIMEOUT..REKEY_TIMEOUT + JITTER;
    assert!(gaps[4..].iter().all(|gap| slow.contains(gap)), "{gaps:?}");
    assert!((20..=23).contains(&sent.len()) && now < start + REKEY_ATTEMPT + 6 * SECOND);
}

#[test]
fn an_answer_is_waited_for_as_long_as_one_takes() {
    let ms = Duration::from_millis;
    for (round_trip, answered) in [
        (0, 300),
        (0, 499),
        (600, 600),
        (1_500, 2_200),
        (9_000, 9_000),
    ] {
        let (mut a, mut b, now) = ends([5, 5]);
        a.session.timers.round_trip = ms(round_trip);
        let first = a.initiate(now);
        let response = b.take(&first, now + ms(answered / 2)).unwrap();
        let then = now + ms(answered);
        let again = a.due(then);
        assert_eq!(
            again,
            [],
            "{round_trip} ms: not repeated before {answered} ms"
        );
        let confirmation = a.take(&response, then).unwrap();
        assert!(b.open(&confirmation, then).is_some());
    }
}

#[test]
fn silence_after_data_asks_for_a_handshake_once() {
    let (mut a, mut b, now) = ends([5, 5]);
    assert!(handshake(&mut a, &mut b, now));
    a.seal(&[9; 20], now);
    assert_eq!(a.due(now + 14 * SECOND), []);
    assert_eq!(a.due(now + 15 * SECOND), [SessionDue::Handshake]);
}

#[test]
fn aes_is_used_under_the_keys_for_which_the_peer_asked() {
    let (mut a, mut b, now) = ends([5, 5]);
    assert!(handshake(&mut a, &mut b, now));
    assert_eq!(a.session.cipher(), Some(Cipher::ChaCha20Poly1305));
    let sealed = b.seal(&[9; 20], now);
    let Some(Message::Data { receiver, .. }) = Message::parse(&sealed) else {
        panic!("no data message")
    };
    a.session
        .peer_can(receiver, mesh_wire::carrier::FEATURE_AES_256_GCM);
    assert_eq!(a.session.cipher(), Some(Cipher::Aes256Gcm));
    let sealed = a.seal(&[9; 20], now);
    assert!(b.open(&sealed, now).is_some());
    assert!(handshake(&mut a, &mut b, now + 121 * SECOND));
    assert_eq!(
        a.session.cipher(),
        Some(Cipher::ChaCha20Poly1305),
        "to be asked for again"
    );
}

#[test]
fn a_cookie_is_taken_for_the_attempt_that_it_answers() {
    let (mut a, mut b, now) = ends([5, 5]);
    let from = SocketAddr::from(([198, 51, 100, 1], 1));
    let mut flood = End::new(9, 2, 5, now);
    for second in 0..=crate::wireguard::guard::BUSY_PER_SECOND {
        let datagram = flood.initiate(now + second * 7 * SECOND);
        let message = Message::parse(&datagram).unwrap();
        b.keys.addressee((from, &datagram), &message, now);
    }
    let initiation = a.initiate(now);
    let reply = b.take(&initiation, now).unwrap();
    let reply = Message::parse(&reply).unwrap();
    assert!(a.session.take_cookie(&reply, now));
    assert!(!a.session.take_cookie(&reply, now), "once");
    // With that it need not wait as one that was lost.
    let due = a.session.poll_timeout().unwrap();
    assert!(due <= now + PROVEN_RETRY, "{:?}", due - now);
    let again = a.initiate(due);
    let response = b.take(&again, due).unwrap();
    assert!(matches!(
        Message::parse(&response),
        Some(Message::Response { .. })
    ));
}

proptest::proptest! {
    #[test]
    fn no_datagram_makes_it_panic(
        kind in 1..=4_u8,
        flag in 0..=2_u8,
        mut datagram in proptest::collection::vec(proptest::num::u8::ANY, 4..200),
    ) {
        datagram[..4].copy_from_slice(&[kind, flag, 0, 0]);
        let (mut a, mut b, now) = ends([5, 5]);
        handshake(&mut a, &mut b, now);
        let from = SocketAddr::from(([198, 51, 100, 1], 1));
        if let Some(message) = Message::parse(&datagram) {
            let addressee = a.keys.addressee((from, &datagram), &message, now);
            proptest::prop_assert!(matches!(addressee, Addressee::Nobody | Addressee::Session(_)));
        }
        proptest::prop_assert_eq!(a.open(&datagram, now), None);
    }
}
