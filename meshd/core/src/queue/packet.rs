//! Which packets shall be written to the TUN, in which order?

use std::ops::Range;

/// Opened IP packets in one contiguous buffer. The owner lends it to the node, writes what it holds, clears it and
/// lends it again; no allocation after the buffer has grown to the size of one batch.
#[derive(Debug, Default)]
pub struct PacketQueue {
    bytes: Vec<u8>,
    packets: Vec<Range<usize>>,
}

impl PacketQueue {
    /// An empty queue with room for one receive batch of 64 KiB.
    pub fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(128 * 1024),
            packets: Vec::with_capacity(128),
        }
    }

    /// Space for one packet of at most `len` bytes, to be filled before [`Self::commit`].
    pub fn reserve(&mut self, len: usize) -> &mut [u8] {
        let start = self.end();
        let needed = start + len;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        &mut self.bytes[start..needed]
    }

    /// Keeps the first `len` bytes of the last reservation, from `offset` on, as a packet.
    pub fn commit(&mut self, offset: usize, len: usize) {
        let start = self.end() + offset;
        debug_assert!(
            start + len <= self.bytes.len(),
            "only what was reserved can be committed"
        );
        self.packets.push(start..start + len);
    }

    /// The packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|range| &self.bytes[range.clone()])
    }

    /// How many packets wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Forgets the packets, keeps the memory.
    pub fn clear(&mut self) {
        self.packets.clear();
    }

    fn end(&self) -> usize {
        self.packets.last().map_or(0, |range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_as_they_were_committed() {
        let mut queue = PacketQueue::new();
        queue.reserve(100)[16..20].copy_from_slice(b"abcd");
        queue.commit(16, 4);
        queue.reserve(8)[..2].copy_from_slice(b"xy");
        queue.commit(0, 2);
        queue.reserve(8);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [&b"abcd"[..], b"xy"]);
        queue.clear();
        assert!(queue.is_empty());
    }
}
