//! Whose session does the index in a message name?
//!
//! An index is the peer's place in the table and the serial number of its handshake, passed through a permutation that
//! only this node knows: receiving needs no table of indices, and an onlooker learns neither how many peers or
//! handshakes there are nor which sessions belong together.

use rand::RngExt as _;

use crate::peer::table::PeerIdx;

/// Rounds of the permutation; with a keyed hash as round function four make it look random (Luby and Rackoff, 1988).
const ROUNDS: usize = 4;

/// The permutation.
#[derive(Debug)]
pub struct ReceiverIndices {
    keys: [u32; ROUNDS],
}

impl ReceiverIndices {
    /// A permutation of its own for every node.
    pub fn new(rng: &mut impl rand::Rng) -> Self {
        Self { keys: rng.random() }
    }

    /// The index for the handshake number `serial` of `peer`; numbers repeat after 256, long after their sessions.
    pub fn encode(&self, peer: PeerIdx, serial: u8) -> u32 {
        let plain = peer.get() << 8 | u32::from(serial);
        let (mut left, mut right) = (plain >> 16, plain & 0xFFFF);
        for key in self.keys {
            (left, right) = (right, left ^ mix(right, key));
        }
        left << 16 | right
    }

    /// The peer and serial number behind an index. Any index names some place; that somebody is there and has such a
    /// session is for the table and the session to say.
    pub fn decode(&self, index: u32) -> (PeerIdx, u8) {
        let (mut left, mut right) = (index >> 16, index & 0xFFFF);
        for key in self.keys.into_iter().rev() {
            (left, right) = (right ^ mix(left, key), left);
        }
        let [serial, ..] = right.to_le_bytes();
        (PeerIdx::new((left << 16 | right) >> 8), serial)
    }
}

/// 16 bits that depend on all bits of both (the finalizer of MurmurHash3).
fn mix(half: u32, key: u32) -> u32 {
    let mut hash = half ^ key;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ hash >> 13).wrapping_mul(0xC2B2_AE35);
    (hash ^ hash >> 16) & 0xFFFF
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

    use super::*;

    #[test]
    fn every_place_and_serial_has_one_index_and_comes_back_from_it() {
        let indices = ReceiverIndices::new(&mut ChaCha12Rng::from_seed([1; 32]));
        let mut seen = BTreeSet::new();
        for place in [0, 1, 2, 255, 256, PeerIdx::LIMIT - 1] {
            for serial in 0..=255 {
                let index = indices.encode(PeerIdx::new(place), serial);
                assert!(seen.insert(index));
                assert_eq!(indices.decode(index), (PeerIdx::new(place), serial));
            }
        }
    }

    #[test]
    fn two_nodes_number_their_sessions_differently() {
        let [a, b] =
            [1, 2].map(|seed| ReceiverIndices::new(&mut ChaCha12Rng::from_seed([seed; 32])));
        let same = (0..100)
            .filter(|place| a.encode(PeerIdx::new(*place), 0) == b.encode(PeerIdx::new(*place), 0));
        assert!(same.count() < 3);
    }
}
