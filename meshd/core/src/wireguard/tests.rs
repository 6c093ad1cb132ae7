//! Faults that other implementations of the protocol had, as far as a part alone can have them. `docs/TESTING.md` lists
//! them all.

use std::{
    net::SocketAddr,
    ops::Range,
    time::{Duration, Instant},
};

use mesh_wire::{
    WireGuardKey,
    wireguard::{
        Cipher, DATA_HEADER, Message, NOISE_INITIATION, NOISE_RESPONSE, TAG, data_header,
        initiation,
    },
};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{
    guard::{BUSY_PER_SECOND, Guard, Verdict},
    keypair::{Indices, Keypair, OVERHEAD, Uses},
    mac::{COOKIE_LIFE, Stamp},
    noise::{Initiator, Responder, TransportKeys, public_key},
    receiver::ReceiverIndices,
    replay::{ReplayWindow, WINDOW},
    timestamp::Timestamp,
};
use crate::peer::table::PeerIdx;

const US: WireGuardKey = WireGuardKey::from_bytes([7; 32]);
const CHACHA: Cipher = Cipher::ChaCha20Poly1305;

/// The points of small order of the curve and of its twist, with those that are not reduced; the first is the null key.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// All of them as keys.
fn low_order() -> impl Iterator<Item = WireGuardKey> {
    LOW_ORDER.iter().map(|point| {
        let bytes = data_encoding::HEXLOWER.decode(point.as_bytes()).unwrap();
        WireGuardKey::from_bytes(bytes.try_into().unwrap())
    })
}

fn keypair(now: Instant) -> Keypair {
    let keys = TransportKeys {
        send: [2; 32],
        receive: [1; 32],
    };
    let indices = Indices {
        local: 6,
        remote: 5,
    };
    Keypair::new(&keys, indices, (false, Uses::default()), now)
}

/// A message as a hostile member makes it that holds the keys, with any number that it likes.
fn crafted(counter: u64) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).unwrap());
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let mut packet = vec![7; 48];
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut packet)
        .unwrap();
    [&data_header(6, counter, CHACHA)[..], &packet].concat()
}

fn open(by: &mut Keypair, message: &[u8]) -> Option<Range<usize>> {
    let (now, mut message) = (by.created(), message.to_vec());
    let Some(Message::Data {
        counter, cipher, ..
    }) = Message::parse(&message)
    else {
        panic!("no data message")
    };
    by.open(&mut message, (counter, cipher), now)
}

#[test]
fn a_member_that_sends_the_last_counters_of_all_neither_ends_nor_resets_the_window() {
    let mut keys = keypair(Instant::now());
    let place = Some(DATA_HEADER..DATA_HEADER + 48);
    assert_eq!(open(&mut keys, &crafted(3)), place);
    // Reject-After-Messages is 2^64 - 2^13 - 1: nothing from there on is opened, though it is authentic.
    for beyond in [u64::MAX, u64::MAX - 1, u64::MAX - (1 << 13)] {
        assert_eq!(open(&mut keys, &crafted(beyond)), None, "{beyond:#x}");
    }
    assert_eq!(open(&mut keys, &crafted(3)), None, "still known");
    assert_eq!(open(&mut keys, &crafted(4)), place, "still wanted");
    let last = u64::MAX - (1 << 13) - 1;
    assert_eq!(open(&mut keys, &crafted(last)), place);
}

#[test]
fn a_counter_beyond_32_bits_counts_whole() {
    let mut keys = keypair(Instant::now());
    for counter in [1, (1 << 32) + 1, (1 << 33) + 1, (1 << 63) + 1] {
        let message = crafted(counter);
        assert!(open(&mut keys, &message).is_some(), "{counter:#x}");
        assert_eq!(open(&mut keys, &message), None, "{counter:#x} again");
    }
    // The same bytes under the number without its upper half are another message.
    let mut keys = keypair(Instant::now());
    let mut cut = crafted((1 << 32) + 9);
    cut[8..16].copy_from_slice(&9_u64.to_le_bytes());
    assert_eq!(open(&mut keys, &cut), None);
}

#[test]
fn the_window_is_as_wide_as_in_the_kernels_implementation() {
    assert_eq!(WINDOW, 8192 - 64);
    for (behind, accepted) in [(1, true), (WINDOW - 1, true), (WINDOW, false)] {
        let mut window = ReplayWindow::default();
        assert!(window.accept(20_000) && !window.accept(20_000));
        assert_eq!(window.accept(20_000 - behind), accepted, "{behind} behind");
        assert!(!window.accept(20_000 - behind), "{behind} behind, again");
    }
}

#[test]
fn no_length_of_a_buffer_or_a_message_makes_it_panic() {
    let now = Instant::now();
    for room in 0..200 {
        let mut keys = keypair(now);
        let mut buffer = vec![0xEE; room];
        let written = keys.seal(&mut buffer, 50, 64);
        let fits = room >= 64 + OVERHEAD;
        assert_eq!(written, if fits { 64 + OVERHEAD } else { 0 }, "{room}");
        assert!(fits || buffer.iter().all(|byte| *byte == 0xEE), "{room}");
        // A packet that is longer than what is to be made of it.
        assert_eq!(keys.seal(&mut [0; 400], 65, 64), 0);
    }
    let whole = crafted(0);
    for len in 0..=whole.len() {
        let mut keys = keypair(now);
        let opened = keys.open(&mut whole[..len].to_vec(), (0, CHACHA), now);
        assert_eq!(opened.is_some(), len == whole.len(), "{len}");
    }
    assert_eq!(whole.len(), DATA_HEADER + 48 + TAG);
}

#[test]
fn indices_say_nothing_of_peer_or_order() {
    let indices = ReceiverIndices::new(&mut ChaCha12Rng::from_seed([3; 32]));
    let of = |place, serial| indices.encode(PeerIdx::new(place), serial);
    let steps: Vec<u32> = (0..255)
        .map(|serial| of(1, serial) ^ of(1, serial + 1))
        .collect();
    // Numbers that follow each other differ in half of all bits, as random ones do, and so do neighbours in the table.
    let bits: u32 = steps.iter().map(|step| step.count_ones()).sum();
    let mean = f64::from(bits) / 255.0;
    assert!((13.0..19.0).contains(&mean), "{mean} bits of 32");
    let neighbours: u32 = (0..255)
        .map(|place| (of(place, 0) ^ of(place + 1, 0)).count_ones())
        .sum();
    let mean = f64::from(neighbours) / 255.0;
    assert!((13.0..19.0).contains(&mean), "{mean} bits of 32");
}

#[test]
fn nobody_gets_an_answer_with_a_key_of_low_order() {
    let (us, psk) = ([2; 32], [5; 32]);
    let timestamp = Timestamp::from_unix(Duration::from_secs(1_700_000_000));
    for point in low_order() {
        let begun = Initiator::start(&us, (&point, &psk), timestamp, [3; 32]);
        assert!(begun.is_none(), "{point}: as a peer's key");
        let to_us = Initiator::start(&[1; 32], (&public_key(&us), &psk), timestamp, [3; 32]);
        let (mut waiting, mut message) = to_us.unwrap();
        message[..32].copy_from_slice(point.as_bytes());
        let read = Responder::read(&us, &message, [4; 32]);
        assert!(read.is_none(), "{point}: as the key of an initiation");
        let mut answer = [0; NOISE_RESPONSE];
        answer[..32].copy_from_slice(point.as_bytes());
        assert!(waiting.finish(&answer).is_none(), "{point}: of a response");
    }
}

#[test]
fn a_private_key_means_the_same_whether_its_fixed_bits_are_set_or_not() {
    let plain = [0b0111_1111; 32];
    let mut clamped = plain;
    clamped[0] &= 248;
    clamped[31] = clamped[31] & 127 | 64;
    assert_ne!(plain, clamped);
    assert_eq!(public_key(&plain), public_key(&clamped));
    let timestamp = Timestamp::from_unix(Duration::from_secs(1_700_000_000));
    let to = (&public_key(&clamped), &[5; 32]);
    let (_, message) = Initiator::start(&[1; 32], to, timestamp, [3; 32]).unwrap();
    assert!(Responder::read(&plain, &message, [4; 32]).is_some());
}

/// A node that others flood with initiations.
struct Busy {
    guard: Guard,
    rng: ChaCha12Rng,
    now: Instant,
}

impl Busy {
    fn new() -> Self {
        let mut busy = Self {
            guard: Guard::new(&US),
            rng: ChaCha12Rng::from_seed([1; 32]),
            now: Instant::now(),
        };
        for port in 0..=BUSY_PER_SECOND {
            let port = u16::try_from(port).unwrap();
            let flood = stamped(&mut Stamp::new(&US), busy.now);
            busy.judge(&flood, ([9, 9, 9, 9], port).into());
        }
        busy
    }

    fn judge(&mut self, message: &[u8], from: SocketAddr) -> Verdict {
        self.guard
            .judge(message, (from, 9), self.now, &mut self.rng)
    }

    /// Somebody that proves its address.
    fn prove(&mut self, from: SocketAddr) -> Stamp {
        let mut stamp = Stamp::new(&US);
        let Verdict::Prove(reply) = self.judge(&stamped(&mut stamp, self.now), from) else {
            panic!("not busy")
        };
        let Some(Message::CookieReply { nonce, sealed, .. }) = Message::parse(&reply) else {
            panic!("no cookie")
        };
        assert!(stamp.take_cookie(sealed, nonce, self.now));
        stamp
    }
}

fn stamped(stamp: &mut Stamp, now: Instant) -> [u8; 148] {
    let mut message = initiation(9, &[0; NOISE_INITIATION]);
    stamp.stamp(&mut message, now);
    message
}

#[test]
fn one_source_that_uses_up_its_share_leaves_others_theirs() {
    let mut busy = Busy::new();
    let all = [[1, 1, 1, 1], [1, 1, 1, 2]].map(|ip| SocketAddr::from((ip, 7081)));
    let [mut greedy, mut honest] = all.map(|from| busy.prove(from));
    let passed = (0..1000)
        .filter(|_| busy.judge(&stamped(&mut greedy, busy.now), all[0]) == Verdict::Pass)
        .count();
    assert!(passed < 10, "{passed}");
    let message = stamped(&mut honest, busy.now);
    assert_eq!(busy.judge(&message, all[1]), Verdict::Pass);
    // Nor is a neighbour in the same IPv6 network another source.
    let v6 = |last| SocketAddr::from(([0x2001, 0xdb8, 0, 1, 0, 0, 0, last], 7081));
    let passed = (0..100)
        .filter(|last| {
            let message = stamped(&mut busy.prove(v6(*last)), busy.now);
            busy.judge(&message, v6(*last)) == Verdict::Pass
        })
        .count();
    assert!(passed < 10, "{passed}");
}

#[test]
fn so_many_honest_handshakes_in_each_second_are_asked_for_no_proof() {
    let mut busy = Busy::new();
    for second in 1..5 {
        busy.now += Duration::from_secs(1);
        for number in 0..BUSY_PER_SECOND {
            let from = ([1, 1, 1, 1], u16::try_from(number).unwrap()).into();
            let message = stamped(&mut Stamp::new(&US), busy.now);
            let verdict = busy.judge(&message, from);
            assert_eq!(verdict, Verdict::Pass, "second {second}, {number}");
        }
    }
}

#[test]
fn a_cookie_of_yesterday_proves_nothing() {
    let mut busy = Busy::new();
    let from = SocketAddr::from(([1, 1, 1, 1], 7081));
    let mut honest = busy.prove(from);
    let message = stamped(&mut honest, busy.now);
    assert_eq!(busy.judge(&message, from), Verdict::Pass);
    busy.now += COOKIE_LIFE;
    for port in 0..=BUSY_PER_SECOND {
        let flood = stamped(&mut Stamp::new(&US), busy.now);
        let port = u16::try_from(port).unwrap();
        busy.judge(&flood, ([9, 9, 9, 9], port).into());
    }
    // Sent again as it was: the secret behind the cookie is another one now.
    assert!(matches!(busy.judge(&message, from), Verdict::Prove(_)));
}
