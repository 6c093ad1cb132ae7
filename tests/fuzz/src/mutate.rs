//! Which inputs are near a known one? Seeded changes of the kind that a fuzzer tries.

use rand::{Rng, RngExt, seq::IndexedRandom};

/// Values at which lengths and counters break.
const EDGES: [u8; 8] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF, b'"', b'{'];
/// Longer inputs would only be slower: the longest limit of a decoder is below it.
const LONGEST: usize = 16 * 1024;

/// A copy of one of the inputs with one to eight changes.
pub fn mutate(corpus: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = corpus.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=8) {
        change(&mut bytes, corpus, rng);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut impl Rng) {
    let at = rng.random_range(0..=bytes.len());
    let end = rng.random_range(at..=bytes.len().min(at + 64));
    match rng.random_range(0..8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.random()),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = corpus.choose(rng).cloned().unwrap_or_default();
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *EDGES.choose(rng).unwrap_or(&0);
            }
        }
        6 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add(rng.random_range(0..=2)).wrapping_sub(1);
            }
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
}
