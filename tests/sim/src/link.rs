//! What happens to a datagram on the cable between a host and the Internet?

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

/// Bytes that IPv4 and UDP put in front of a datagram.
const IP_UDP: usize = 28;

/// The properties of one host's access link, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// One way.
    pub delay: Duration,
    /// Up to this much more, drawn per datagram. Order is kept all the same.
    pub jitter: Duration,
    /// Share of datagrams that vanish, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of datagrams that are held up by twice the delay, so that later ones overtake them, 0 to 1.
    pub reorder: f64,
    /// Bytes per second; `None` for no limit.
    pub rate: Option<u32>,
    /// The longest IP packet in bytes; longer ones vanish.
    pub mtu: usize,
}

impl Shape {
    /// A clean link of this one-way delay.
    pub const fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            rate: None,
            mtu: 1500,
        }
    }
}

/// One direction of an access link.
#[derive(Debug, Clone)]
pub struct Link {
    /// May be changed at any time.
    pub shape: Shape,
    /// When the transmitter has sent what it was given.
    busy_until: Option<Instant>,
    last_arrival: Option<Instant>,
}

impl Link {
    /// An idle link.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            busy_until: None,
            last_arrival: None,
        }
    }

    /// When the copies of a datagram of `len` payload bytes arrive: none, one or two.
    pub fn arrivals(&mut self, now: Instant, len: usize, rng: &mut impl Rng) -> Vec<Instant> {
        let shape = self.shape;
        let size = len + IP_UDP;
        if size > shape.mtu || rng.random_bool(shape.loss) {
            return Vec::new();
        }
        let start = self.busy_until.map_or(now, |at| at.max(now));
        let sent = match shape.rate {
            Some(rate) => start + Duration::from_secs_f64(size as f64 / f64::from(rate.max(1))),
            None => start,
        };
        self.busy_until = Some(sent);
        let mut arrival = sent + shape.delay + shape.jitter.mul_f64(rng.random::<f64>());
        if rng.random_bool(shape.reorder) {
            arrival += shape.delay * 2;
        } else {
            arrival = self.last_arrival.map_or(arrival, |last| arrival.max(last));
            self.last_arrival = Some(arrival);
        }
        let copies = 1 + usize::from(rng.random_bool(shape.duplicate));
        vec![arrival; copies]
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn send(shape: Shape, count: u32, len: usize) -> Vec<Duration> {
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut link = Link::new(shape);
        (0..count)
            .flat_map(|_| link.arrivals(now, len, &mut rng))
            .map(|at| at - now)
            .collect()
    }

    #[test]
    fn delay_rate_and_mtu_hold() {
        let clean = Shape::clean(Duration::from_millis(10));
        assert_eq!(send(clean, 1, 100), [Duration::from_millis(10)]);
        let slow = Shape {
            rate: Some(12_800),
            ..clean
        };
        assert_eq!(
            send(slow, 2, 100),
            [Duration::from_millis(20), Duration::from_millis(30)]
        );
        assert_eq!(send(clean, 1, 1472).len(), 1);
        assert_eq!(send(clean, 1, 1473).len(), 0);
    }

    #[test]
    fn loss_and_duplication_come_in_the_share_asked_for() {
        let clean = Shape::clean(Duration::from_millis(10));
        let lossy = send(Shape { loss: 0.2, ..clean }, 10_000, 1).len();
        assert!((7_800..8_200).contains(&lossy), "{lossy}");
        let twice = Shape {
            duplicate: 0.1,
            ..clean
        };
        let doubled = send(twice, 10_000, 1).len();
        assert!((10_800..11_200).contains(&doubled), "{doubled}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let jitter = Shape {
            jitter: Duration::from_millis(50),
            ..Shape::clean(Duration::from_millis(10))
        };
        assert!(send(jitter, 1000, 1).is_sorted());
        let reorder = Shape {
            reorder: 0.1,
            ..jitter
        };
        assert!(!send(reorder, 1000, 1).is_sorted());
    }
}
