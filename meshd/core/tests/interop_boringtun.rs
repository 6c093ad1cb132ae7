//! Does an implementation that others wrote understand our handshake and our messages, and we its?
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test may stop at what it does not expect, and needs some instant to start from"
)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519::{PublicKey, StaticSecret},
};
use mesh_core::{
    peer::{
        keys::{Addressee, KeyConfig, SessionKeys},
        session::{Opened, Session},
        table::PeerIdx,
    },
    wireguard::{
        keypair::{OVERHEAD, Uses},
        noise::public_key,
    },
};
use mesh_wire::wireguard::{DATA_HEADER, Message};

const PSK: [u8; 32] = [9; 32];
const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];
const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

struct Both {
    keys: SessionKeys,
    ours: Session,
    theirs: Tunn,
    now: Instant,
}

impl Both {
    /// `handshakes` per second from which on they ask for cookies.
    fn new(handshakes: u64) -> Self {
        let now = Instant::now();
        let config = KeyConfig {
            private: OURS,
            uses: Uses {
                gcm: true,
                relay: true,
            },
            unix_time: Duration::from_secs(1_700_000_000),
        };
        let public = PublicKey::from(&StaticSecret::from(THEIRS));
        let theirs = Tunn::new(
            StaticSecret::from(THEIRS),
            PublicKey::from(*public_key(&OURS).as_bytes()),
            Some(PSK),
            None,
            7,
            Some(Arc::new(RateLimiter::new(&public, handshakes))),
        );
        Self {
            keys: SessionKeys::new(config, [3; 32], now),
            ours: Session::new(public_key(&THEIRS), PeerIdx::new(5), PSK, Duration::ZERO),
            theirs,
            now,
        }
    }

    /// What they send back to a message of ours.
    fn they_take(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.theirs.decapsulate(Some(FROM), message, &mut out) {
            TunnResult::WriteToNetwork(reply) => reply.to_vec(),
            TunnResult::WriteToTunnelV4(packet, _) => packet.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Takes their answer to our initiation.
    fn answered(&mut self, reply: &[u8]) {
        let message = Message::parse(reply).unwrap();
        let from = SocketAddr::new(FROM, 1);
        let addressee = self.keys.addressee((from, reply), &message, self.now);
        assert!(matches!(addressee, Addressee::Session(index) if index == PeerIdx::new(5)));
        assert!(self.ours.finish(&self.keys, &message, self.now));
    }

    fn sealed(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; packet.len() + 16 + OVERHEAD];
        buffer[DATA_HEADER..DATA_HEADER + packet.len()].copy_from_slice(packet);
        let padded = packet.len().next_multiple_of(16);
        let len = self
            .ours
            .seal(&mut buffer, (packet.len(), padded), self.now);
        buffer.truncate(len);
        buffer
    }

    fn opened(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        let Some(Message::Data {
            receiver,
            counter,
            cipher,
        }) = Message::parse(&message)
        else {
            panic!("no data message")
        };
        match self
            .ours
            .open(&mut message, receiver, (counter, cipher), self.now)
        {
            Opened::Packet(place) => message[place].to_vec(),
            Opened::Keepalive => Vec::new(),
            Opened::Refused => panic!("refused"),
        }
    }

    fn their_packet(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.theirs.encapsulate(packet, &mut out) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn packets_pass(&mut self) {
        for len in [20, 21, 100, 1400] {
            let packet = ip_packet(len);
            let sealed = self.sealed(&packet);
            assert_eq!(
                self.they_take(&sealed),
                packet,
                "they open {len} bytes and cut the padding"
            );
            let message = self.their_packet(&packet);
            assert_eq!(self.opened(message)[..packet.len()], packet);
        }
    }
}

fn ip_packet(len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    let mut packet = vec![
        0x45, 0, high, low, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.resize(usize::from(len), 0xAB);
    packet
}

#[test]
fn a_handshake_that_we_begin_is_answered_and_packets_pass_both_ways() {
    let mut both = Both::new(100);
    let initiation = both.ours.initiate(&mut both.keys, both.now).unwrap();
    let response = both.they_take(&initiation);
    both.answered(&response);
    both.packets_pass();
}

#[test]
fn a_handshake_that_they_begin_is_answered_and_packets_pass_both_ways() {
    let mut both = Both::new(100);
    let mut out = [0; 2048];
    let TunnResult::WriteToNetwork(initiation) =
        both.theirs.format_handshake_initiation(&mut out, false)
    else {
        panic!("no initiation")
    };
    let message = Message::parse(initiation).unwrap();
    let from = (SocketAddr::new(FROM, 1), &*initiation);
    let Addressee::Initiator(responder, sender) = both.keys.addressee(from, &message, both.now)
    else {
        panic!("not understood")
    };
    assert_eq!(responder.peer, public_key(&THEIRS));
    let response = both
        .ours
        .accept(&mut both.keys, (*responder, sender), both.now)
        .unwrap();
    let confirmation = both.they_take(&response);
    assert!(both.opened(confirmation).is_empty());
    both.packets_pass();
}

#[test]
fn their_cookie_is_understood_and_ours_by_them() {
    let mut both = Both::new(0);
    let first = both.ours.initiate(&mut both.keys, both.now).unwrap();
    let cookie = both.they_take(&first);
    let message = Message::parse(&cookie).unwrap();
    assert!(both.ours.take_cookie(&message, both.now));
    both.now += Duration::from_secs(1);
    let second = both.ours.initiate(&mut both.keys, both.now).unwrap();
    let response = both.they_take(&second);
    both.answered(&response);
    both.packets_pass();
}
