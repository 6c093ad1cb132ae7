//! Which packets wait for the session with a peer?

use std::collections::VecDeque;

/// Enough for the first window of a few TCP connections; more would only be retransmitted anyway.
const MAX_PACKETS: usize = 64;
/// One super-packet and some change.
const MAX_BYTES: usize = 96 * 1024;

/// IP packets in order of arrival, bounded in number and bytes; the oldest give way, because their senders have
/// waited longest and will repeat them.
#[derive(Debug, Default)]
pub struct Pending {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Pending {
    /// Adds one; returns how many older packets had to go.
    pub fn push(&mut self, packet: Vec<u8>) -> u64 {
        self.bytes += packet.len();
        self.packets.push_back(packet);
        let mut dropped = 0;
        while self.packets.len() > MAX_PACKETS || self.bytes > MAX_BYTES {
            if self.pop().is_none() {
                break;
            }
            dropped += 1;
        }
        dropped
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Drops all; returns how many.
    pub fn clear(&mut self) -> u64 {
        let count = u64::try_from(self.packets.len()).unwrap_or(u64::MAX);
        self.packets.clear();
        self.bytes = 0;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way() {
        let mut pending = Pending::default();
        for n in 0..=64_u8 {
            pending.push(vec![n; 10]);
        }
        assert_eq!(pending.pop().unwrap()[0], 1);
        let mut pending = Pending::default();
        pending.push(vec![1; 60_000]);
        assert_eq!(pending.push(vec![2; 60_000]), 1);
        assert_eq!(pending.pop().unwrap()[0], 2);
        assert!(pending.is_empty());
    }
}
