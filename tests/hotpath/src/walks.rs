//! How long does each walk take, beside the bare cipher over the same bytes in the same run?

use std::time::{Duration, Instant};

use mesh_wire::wireguard::{DATA_HEADER, TAG};
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::Serialize;

use crate::{
    frames::{MTU, datagram, super_packet},
    pair::{Line, Pair},
};

/// Frames whose packets fill one train: what one system call carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// One TCP super-packet of 45 segments.
    Bulk,
    /// 64 UDP packets of 92 bytes, each a frame of its own.
    Small,
}

/// What a walk took.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    /// Which walk.
    pub walk: &'static str,
    /// Over what.
    pub load: Load,
    /// Under which cipher.
    pub cipher: &'static str,
    /// Nanoseconds per packet, the best of all rounds.
    pub walk_ns: f64,
    /// The bare cipher over the same bytes, likewise.
    pub cipher_ns: f64,
}

impl Timing {
    /// How many times the bare cipher the whole walk costs.
    pub fn ratio(&self) -> f64 {
        self.walk_ns / self.cipher_ns
    }
}

/// Rounds; the best one counts, because everything that disturbs makes a round longer.
const ROUNDS: usize = 400;

impl Load {
    fn frames(self, source: u8, destination: u8) -> Vec<Vec<u8>> {
        match self {
            Self::Bulk => vec![super_packet(source, destination, 45)],
            Self::Small => vec![datagram(source, destination, 92); 64],
        }
    }

    fn packets(self) -> u32 {
        match self {
            Self::Bulk => 45,
            Self::Small => 64,
        }
    }

    /// Frames of a relay that fill one train: they are longer by header and tag.
    fn relayed(self) -> u32 {
        match self {
            Self::Bulk => 44,
            Self::Small => 64,
        }
    }

    /// Bytes that are sealed per packet.
    fn sealed(self) -> usize {
        match self {
            Self::Bulk => MTU,
            Self::Small => 96,
        }
    }
}

/// Times the walk from the TUN to the train and the one back.
pub fn out_and_in(load: Load, gcm: bool) -> [Timing; 2] {
    let mut pair = Pair::linked(gcm);
    let mut cipher = BareCipher::new(gcm, load);
    let (mut out, mut back) = (Duration::MAX, Duration::MAX);
    let (mut seal, mut open) = (Duration::MAX, Duration::MAX);
    let mut frames = load.frames(1, 2);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for frame in &mut frames {
            pair.a
                .node
                .handle_tun(frame, pair.now, &mut pair.a.transmit);
        }
        out = out.min(start.elapsed());
        seal = seal.min(cipher.seal());
        let train = &pair.a.transmit.trains()[0];
        let (mut bytes, stride) = (train.contents().to_vec(), train.segment_size());
        let start = Instant::now();
        pair.b.receive(1, (&mut bytes, stride), pair.now);
        back = back.min(start.elapsed());
        open = open.min(cipher.open());
        assert_eq!(pair.b.packets.len(), load.packets() as usize);
        pair.a.transmit.clear();
        pair.b.packets.clear();
    }
    let per_packet = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(load.packets());
    let timing = |walk, time, bare| Timing {
        walk,
        load,
        cipher: if gcm {
            "aes-256-gcm"
        } else {
            "chacha20-poly1305"
        },
        walk_ns: per_packet(time),
        cipher_ns: per_packet(bare),
    };
    [timing("out", out, seal), timing("in", back, open)]
}

/// Times the walk of sealed messages through a node that carries them. Beside the cipher's sealing, although nothing is
/// sealed here: what it costs to carry shall be a fraction of what it costs to seal.
pub fn relay(load: Load) -> Timing {
    let mut line = Line::linked();
    let mut cipher = BareCipher::new(false, load);
    let (mut carry, mut seal) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        for _ in 0..load.relayed() {
            line.send(load.sealed() + DATA_HEADER + TAG);
        }
        let train = &line.a.transmit.trains()[0];
        let (mut bytes, stride) = (train.contents().to_vec(), train.segment_size());
        let start = Instant::now();
        line.relay.receive(1, (&mut bytes, stride), line.now);
        carry = carry.min(start.elapsed());
        seal = seal.min(cipher.seal());
        let carried = &line.relay.transmit.trains()[0];
        assert_eq!(carried.datagrams().count(), load.relayed() as usize);
        line.a.transmit.clear();
        line.relay.transmit.clear();
    }
    let per_packet = |time: Duration, packets| time.as_secs_f64() * 1e9 / f64::from(packets);
    Timing {
        walk: "relay",
        load,
        cipher: "chacha20-poly1305",
        walk_ns: per_packet(carry, load.relayed()),
        cipher_ns: per_packet(seal, load.packets()),
    }
}

/// The cipher without anything around it, over a train of the same shape.
struct BareCipher {
    key: LessSafeKey,
    train: Vec<u8>,
    stride: usize,
    tags: Vec<ring::aead::Tag>,
}

impl BareCipher {
    fn new(gcm: bool, load: Load) -> Self {
        let algorithm = if gcm {
            &AES_256_GCM
        } else {
            &CHACHA20_POLY1305
        };
        let key = UnboundKey::new(algorithm, &[7; 32]).expect("both take keys of 32 bytes");
        let stride = DATA_HEADER + load.sealed() + TAG;
        Self {
            key: LessSafeKey::new(key),
            train: vec![1; stride * load.packets() as usize],
            stride,
            tags: Vec::with_capacity(64),
        }
    }

    fn seal(&mut self) -> Duration {
        self.tags.clear();
        let start = Instant::now();
        for message in self.train.chunks_mut(self.stride) {
            let (packet, tag) =
                message[DATA_HEADER..].split_at_mut(self.stride - DATA_HEADER - TAG);
            let made = self
                .key
                .seal_in_place_separate_tag(nonce(), Aad::empty(), packet);
            tag.copy_from_slice(made.expect("the packet is short").as_ref());
        }
        start.elapsed()
    }

    /// Opens what [`Self::seal`] has made.
    fn open(&mut self) -> Duration {
        let start = Instant::now();
        for message in self.train.chunks_mut(self.stride) {
            let opened = self
                .key
                .open_in_place(nonce(), Aad::empty(), &mut message[DATA_HEADER..]);
            opened.expect("it was sealed with the same key");
        }
        start.elapsed()
    }
}

/// The same for all: nothing that is sealed here is a secret.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([3; 12])
}
