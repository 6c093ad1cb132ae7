//! When does a frame that enters a shaped cable come out of its other end, if at all?

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::link::LinkShape;

/// A reordered frame is late by one more delay, on a short cable by this: more than the
/// millisecond or so by which a busy two-core machine may wake us late.
const LEAST_LATENESS: Duration = Duration::from_millis(5);

/// One direction of a cable. It owns the frames on their way. Time is the time since the cable
/// was made, given by the caller, so that a seed and a list of times decide everything.
#[derive(Debug)]
pub(crate) struct DelayQueue {
    rng: ChaCha8Rng,
    /// By time of arrival, then by order of departure.
    on_the_way: BTreeMap<(Duration, u64), Vec<u8>>,
    departures: u64,
    /// When the sender's line has sent all that it has accepted.
    line_free: Duration,
    /// Arrival of the latest frame that keeps its place.
    latest: Duration,
}

impl DelayQueue {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            on_the_way: BTreeMap::new(),
            departures: 0,
            line_free: Duration::ZERO,
            latest: Duration::ZERO,
        }
    }

    /// Puts a frame on the cable, or drops it: the queue before the line is full, or it is lost.
    pub(crate) fn offer(&mut self, frame: Vec<u8>, now: Duration, shape: &LinkShape) {
        let Some(sent) = self.transmit(frame.len(), now, shape) else {
            return;
        };
        if self.rng.random_bool(shape.loss) {
            return;
        }
        let mut arrival = sent + shape.delay + shape.jitter.mul_f64(self.rng.random::<f64>());
        if self.rng.random_bool(shape.reorder) {
            arrival += shape.delay.max(LEAST_LATENESS);
        } else {
            arrival = arrival.max(self.latest);
            self.latest = arrival;
        }
        self.on_the_way.insert((arrival, self.departures), frame);
        self.departures += 1;
    }

    /// The next frame that has arrived by `now`.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Vec<u8>> {
        let first = self.on_the_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next frame arrives.
    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|(key, _)| key.0)
    }

    /// When the last bit of a frame of `size` bytes has left, or `None` if there is no room in
    /// the queue. An idle line takes a frame of any size.
    fn transmit(&mut self, size: usize, now: Duration, shape: &LinkShape) -> Option<Duration> {
        let Some(rate) = shape.rate else {
            self.line_free = now;
            return Some(now);
        };
        let bytes_per_second = rate as f64 / 8.0;
        let backlog = self.line_free.saturating_sub(now);
        if !backlog.is_zero()
            && backlog.as_secs_f64() * bytes_per_second + size as f64 > shape.queue as f64
        {
            return None;
        }
        self.line_free =
            self.line_free.max(now) + Duration::from_secs_f64(size as f64 / bytes_per_second);
        Some(self.line_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends `count` numbered frames of 1,000 bytes, one each `gap`, and lists the arrivals.
    fn carry(shape: LinkShape, count: u32, gap: Duration) -> Vec<(u32, Duration)> {
        let mut queue = DelayQueue::new(7);
        for number in 0..count {
            let mut frame = vec![0; 1000];
            frame[..4].copy_from_slice(&number.to_be_bytes());
            queue.offer(frame, gap * number, &shape);
        }
        let mut arrivals = Vec::new();
        while let Some(at) = queue.next_arrival() {
            let frame = queue.due(at).unwrap();
            arrivals.push((u32::from_be_bytes(frame[..4].try_into().unwrap()), at));
        }
        arrivals
    }

    #[test]
    fn jitter_lengthens_the_delay_and_never_reorders() {
        let shape = LinkShape {
            delay: 20 * MS,
            jitter: 10 * MS,
            ..LinkShape::default()
        };
        let arrivals = carry(shape, 1000, MS);
        assert_eq!(arrivals.len(), 1000);
        for (place, (number, at)) in arrivals.iter().enumerate() {
            assert_eq!(*number, place as u32);
            let took = *at - MS * *number;
            assert!((20 * MS..=30 * MS).contains(&took), "{took:?}");
        }
    }

    #[test]
    fn loss_takes_its_share_and_a_seed_decides_which() {
        let shape = LinkShape {
            loss: 0.1,
            ..LinkShape::default()
        };
        let arrivals = carry(shape, 10_000, MS);
        // Four standard deviations of a binomial(10000, 0.9) are 120.
        assert!(
            (8880..=9120).contains(&arrivals.len()),
            "{}",
            arrivals.len()
        );
        assert_eq!(arrivals, carry(shape, 10_000, MS));
    }

    #[test]
    fn a_reordered_frame_is_overtaken_by_those_behind_it() {
        let shape = LinkShape {
            delay: 10 * MS,
            reorder: 0.05,
            ..LinkShape::default()
        };
        let arrivals = carry(shape, 1000, MS);
        assert_eq!(arrivals.len(), 1000);
        let late = arrivals
            .iter()
            .filter(|(number, at)| *at - MS * *number > 10 * MS)
            .count();
        assert!((20..=80).contains(&late), "{late}");
        assert!(arrivals.windows(2).any(|pair| pair[0].0 > pair[1].0));
    }

    #[test]
    fn a_rate_spaces_frames_and_a_full_queue_drops_the_newest() {
        // 8 Mbit/s: a frame of 1,000 bytes each millisecond; ten frames come at once.
        let shape = LinkShape {
            rate: Some(8_000_000),
            queue: 5000,
            ..LinkShape::default()
        };
        let arrivals = carry(shape, 10, Duration::ZERO);
        let expected: Vec<_> = (0..5).map(|number| (number, MS * (number + 1))).collect();
        assert_eq!(arrivals, expected);
    }
}
