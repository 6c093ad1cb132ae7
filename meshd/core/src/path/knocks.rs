//! May one more connectivity check go to an address that a peer has named? Whoever names it may have no right to it, so an
//! address that does not answer is knocked at ever more seldom, however many ports, agents and letters there are.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// What may be sent at once, and then one each time this has passed: several interfaces of ours check at the same time.
const QUICK: Measure = Measure {
    most: 10,
    refill: Duration::from_millis(200),
};
/// The same in the long run. Two sides that lost each other for a while must still meet again within seconds.
const LASTING: Measure = Measure {
    most: 40,
    refill: Duration::from_secs(2),
};
/// Addresses of one peer that are counted at once, twice what one signal may name. Others wait until one is forgotten.
const MAX_DOORS: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Measure {
    most: u32,
    refill: Duration,
}

/// What is left of a measure, as the time from which on all of it is there again.
#[derive(Debug, Clone, Copy)]
struct Left(Instant);

impl Left {
    fn has_one(self, measure: Measure, now: Instant) -> bool {
        self.0.saturating_duration_since(now) <= measure.refill * (measure.most - 1)
    }

    fn take(&mut self, measure: Measure, now: Instant) {
        self.0 = self.0.max(now) + measure.refill;
    }
}

/// Checks that one peer has made us send and nobody has answered.
#[derive(Debug, Default)]
pub struct Knocks {
    doors: BTreeMap<IpAddr, (Left, Left)>,
}

impl Knocks {
    /// Whether a check may go to `address` now; if so, it counts as sent.
    pub fn may_knock(&mut self, address: IpAddr, now: Instant) -> bool {
        if self.doors.len() >= MAX_DOORS && !self.doors.contains_key(&address) {
            self.doors.retain(|_, (_, lasting)| lasting.0 > now);
            if self.doors.len() >= MAX_DOORS {
                return false;
            }
        }
        let (quick, lasting) = self.doors.entry(address).or_insert((Left(now), Left(now)));
        let may = quick.has_one(QUICK, now) && lasting.has_one(LASTING, now);
        if may {
            quick.take(QUICK, now);
            lasting.take(LASTING, now);
        }
        may
    }

    /// The peer has proven to be at `address`.
    pub fn answered(&mut self, address: IpAddr) {
        self.doors.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn knocks_within(
        knocks: &mut Knocks,
        address: IpAddr,
        begin: Instant,
        time: Duration,
    ) -> usize {
        let step = Duration::from_millis(20);
        let steps = u32::try_from(time.as_millis() / step.as_millis()).unwrap();
        (0..steps)
            .filter(|number| knocks.may_knock(address, begin + step * *number))
            .count()
    }

    #[test]
    fn a_door_that_stays_shut_is_knocked_at_ever_more_seldom() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let shut = IpAddr::from([198, 51, 100, 9]);
        let mut count = |from: u64, to: u64| {
            let time = Duration::from_secs(to - from);
            knocks_within(&mut knocks, shut, now + Duration::from_secs(from), time)
        };
        assert_eq!(count(0, 1), 14);
        assert_eq!(count(1, 20), 35);
        assert_eq!(count(20, 60), 20);
        assert_eq!(count(60, 60 + HOUR), 1800);
    }

    #[test]
    fn an_answer_and_a_long_pause_begin_anew_and_doors_are_counted_apart() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let [one, other] = [1, 2].map(|last| IpAddr::from([198, 51, 100, last]));
        let second = Duration::from_secs(1);
        assert_eq!(knocks_within(&mut knocks, one, now, second), 14);
        assert_eq!(knocks_within(&mut knocks, other, now, second), 14);
        knocks.answered(one);
        assert_eq!(knocks_within(&mut knocks, one, now + second, second), 14);
        let later = now + Duration::from_secs(100);
        assert_eq!(knocks_within(&mut knocks, other, later, second), 14);
    }

    #[test]
    fn a_peer_that_names_the_whole_internet_makes_us_knock_at_few_doors() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let mut sent = 0;
        for number in 0..100_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            sent += usize::from(knocks.may_knock(address, now));
        }
        assert_eq!(sent, MAX_DOORS);
        assert_eq!(knocks.doors.len(), MAX_DOORS);
        let later = now + LASTING.refill;
        assert!(knocks.may_knock([192, 0, 2, 1].into(), later));
    }
}
