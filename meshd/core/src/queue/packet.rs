//! Which packets shall be written to the TUN, in which order?

use std::ops::Range;

/// Where in a received train the opened packets stand. The owner lends it to the node together with the train, writes
/// what it names, clears it and lends it again with the next train.
#[derive(Debug, Default)]
pub struct PacketQueue {
    packets: Vec<Range<usize>>,
}

impl PacketQueue {
    /// An empty queue with room for the datagrams of one train.
    pub fn new() -> Self {
        Self {
            packets: Vec::with_capacity(super::transmit::MAX_SEGMENTS),
        }
    }

    /// Names a packet.
    pub fn push(&mut self, place: Range<usize>) {
        self.packets.push(place);
    }

    /// The packets, oldest first. `train` is the one that the queue was filled from.
    pub fn iter<'a>(&'a self, train: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let place = |range: &Range<usize>| train.get(range.clone()).unwrap_or_default();
        self.packets.iter().map(place)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_in_the_order_in_which_they_were_named() {
        let mut queue = PacketQueue::new();
        queue.push(2..4);
        queue.push(7..8);
        assert_eq!(
            queue.iter(b"..ab...c").collect::<Vec<_>>(),
            [&b"ab"[..], b"c"]
        );
        queue.clear();
        assert!(queue.is_empty());
    }
}
