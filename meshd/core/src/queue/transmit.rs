//! Which datagrams shall be sent, to whom, and which of them may share one system call?
//!
//! Datagrams to one destination are laid into one contiguous train, ready for UDP segmentation offload: all of the
//! same length but the last, which may be shorter and then closes the train.

use std::net::{IpAddr, SocketAddr};

/// Linux takes at most 64 segments in one send (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const MAX_SEGMENTS: usize = 64;
/// The greatest UDP payload over IPv4: 65,535 - 20 - 8 bytes.
pub const MAX_TRAIN: usize = 65_507;
/// A new datagram looks this many trains back for one of its destination, so that two busy peers still share calls.
const LOOK_BACK: usize = 4;

/// Where a datagram goes, and from which of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The receiver's address and port.
    pub dst: SocketAddr,
    /// The local address to send from; `None` leaves it to the operating system.
    pub src: Option<IpAddr>,
}

/// A run of datagrams to one destination.
#[derive(Debug)]
pub struct Train {
    route: Route,
    segment: usize,
    segments: usize,
    closed: bool,
    bytes: Vec<u8>,
}

impl Train {
    /// Where it goes.
    pub fn route(&self) -> Route {
        self.route
    }

    /// Length of each datagram in bytes; the last may be shorter.
    pub fn segment_size(&self) -> usize {
        self.segment
    }

    /// All datagrams, back to back.
    pub fn contents(&self) -> &[u8] {
        &self.bytes
    }

    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment.max(1))
    }

    fn takes(&self, len: usize) -> bool {
        !self.closed
            && len <= self.segment
            && self.segments < MAX_SEGMENTS
            && self.bytes.len() + len <= MAX_TRAIN
    }
}

/// Outgoing datagrams. The owner lends it to the node, sends what it holds, clears it and lends it again.
#[derive(Debug, Default)]
pub struct TransmitQueue {
    trains: Vec<Train>,
    /// Buffers of sent trains, to be used again.
    spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl TransmitQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `fill` write one datagram of at most `len` bytes and takes as many bytes as it returns; 0 sends nothing.
    pub fn push_with(&mut self, route: Route, len: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let index = self.open_train(route, len);
        let Some(train) = self.trains.get_mut(index) else {
            return;
        };
        let start = train.bytes.len();
        train.bytes.resize(start + len, 0);
        let written = fill(&mut train.bytes[start..]).min(len);
        train.bytes.truncate(start + written);
        if train.segments == 0 {
            train.segment = written;
        }
        if written == 0 {
            self.drop_if_empty(index);
        } else if written > train.segment {
            // The guess was wrong and it is longer than its train allows: it moves to a train of its own.
            self.scratch.clear();
            self.scratch.extend_from_slice(&train.bytes[start..]);
            train.bytes.truncate(start);
            train.closed = true;
            self.push_scratch(route);
        } else {
            train.segments += 1;
            train.closed = written < train.segment;
        }
    }

    /// Queues a copy of `datagram`.
    pub fn push(&mut self, route: Route, datagram: &[u8]) {
        self.push_with(route, datagram.len(), |buffer| {
            buffer.copy_from_slice(datagram);
            datagram.len()
        });
    }

    /// The trains, oldest first.
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Forgets the first `count` trains, keeps their memory.
    pub fn remove_first(&mut self, count: usize) {
        for train in self.trains.drain(..count.min(self.trains.len())) {
            let mut bytes = train.bytes;
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.remove_first(self.trains.len());
    }

    /// The newest train of this route if it takes `len` more bytes, else a new one. Only the newest may be extended:
    /// an older one would overtake it.
    fn open_train(&mut self, route: Route, len: usize) -> usize {
        let recent = self.trains.len().saturating_sub(LOOK_BACK);
        let newest = self.trains[recent..]
            .iter()
            .rposition(|train| train.route == route);
        if let Some(offset) = newest
            && self.trains[recent + offset].takes(len)
        {
            return recent + offset;
        }
        let bytes = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(MAX_TRAIN));
        self.trains.push(Train {
            route,
            segment: len,
            segments: 0,
            closed: false,
            bytes,
        });
        self.trains.len() - 1
    }

    fn push_scratch(&mut self, route: Route) {
        let mut bytes = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(MAX_TRAIN));
        bytes.extend_from_slice(&self.scratch);
        self.trains.push(Train {
            route,
            segment: bytes.len(),
            segments: 1,
            closed: false,
            bytes,
        });
    }

    fn drop_if_empty(&mut self, index: usize) {
        if self.trains[index].segments == 0 {
            let train = self.trains.remove(index);
            self.spare.push(train.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Route {
        Route {
            dst: SocketAddr::from(([198, 51, 100, 1], port)),
            src: None,
        }
    }

    fn shape(queue: &TransmitQueue) -> Vec<(u16, Vec<usize>)> {
        queue
            .trains()
            .iter()
            .map(|train| {
                (
                    train.route().dst.port(),
                    train.datagrams().map(<[u8]>::len).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn equal_datagrams_share_a_train_and_a_shorter_one_closes_it() {
        let mut queue = TransmitQueue::new();
        for len in [100, 100, 40, 40] {
            queue.push(route(1), &vec![0; len]);
        }
        assert_eq!(shape(&queue), [(1, vec![100, 100, 40]), (1, vec![40])]);
    }

    #[test]
    fn a_longer_datagram_starts_a_new_train() {
        let mut queue = TransmitQueue::new();
        queue.push(route(1), &[0; 40]);
        queue.push(route(1), &[0; 100]);
        assert_eq!(shape(&queue), [(1, vec![40]), (1, vec![100])]);
    }

    #[test]
    fn two_destinations_interleaved_keep_a_train_each() {
        let mut queue = TransmitQueue::new();
        for port in [1, 2, 1, 2] {
            queue.push(route(port), &[0; 50]);
        }
        assert_eq!(shape(&queue), [(1, vec![50, 50]), (2, vec![50, 50])]);
    }

    #[test]
    fn a_train_respects_the_limits_of_segmentation_offload() {
        let mut queue = TransmitQueue::new();
        for _ in 0..130 {
            queue.push(route(1), &[0; 100]);
        }
        assert_eq!(
            queue
                .trains()
                .iter()
                .map(|t| t.datagrams().count())
                .collect::<Vec<_>>(),
            [64, 64, 2]
        );
        queue.clear();
        for _ in 0..64 {
            queue.push(route(1), &[0; 1432]);
        }
        assert!(
            queue
                .trains()
                .iter()
                .all(|t| t.contents().len() <= MAX_TRAIN)
        );
        assert_eq!(
            queue
                .trains()
                .iter()
                .map(|t| t.datagrams().count())
                .sum::<usize>(),
            64
        );
    }

    #[test]
    fn a_fill_that_writes_less_or_nothing_is_taken_at_its_word() {
        let mut queue = TransmitQueue::new();
        queue.push_with(route(1), 148, |_| 0);
        assert!(queue.is_empty());
        queue.push_with(route(1), 148, |_| 92);
        queue.push_with(route(1), 148, |_| 92);
        assert_eq!(
            queue
                .trains()
                .iter()
                .map(|t| t.datagrams().count())
                .sum::<usize>(),
            2
        );
    }

    #[test]
    fn the_memory_of_sent_trains_is_used_again() {
        let mut queue = TransmitQueue::new();
        queue.push(route(1), &[7; 100]);
        let before = queue.trains()[0].contents().as_ptr();
        queue.clear();
        queue.push(route(2), &[7; 100]);
        assert_eq!(queue.trains()[0].contents().as_ptr(), before);
    }
}
