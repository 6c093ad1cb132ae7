//! May one more connectivity check, or answer to one, go to an address that a peer has named? Whoever names it may have no
//! right to it, so an address that does not answer is knocked at ever more seldom, however many ports, agents and letters there
//! are, and whether directly or by a TURN server.

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
/// Answers to checks that come in the name of an address, which may be forged. They have a measure of their own: where they took
/// from that of the checks, peers that had lost each other did not meet again in time.
const ANSWERS: Measure = Measure {
    most: 10,
    refill: Duration::from_secs(2),
};
/// For so long whoever has answered a check of ours gets all its answers: its address was no forgery then.
const PROOF: Duration = Duration::from_secs(30);
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

/// What may still go to one address.
#[derive(Debug, Clone, Copy)]
struct Door {
    quick: Left,
    lasting: Left,
    answers: Left,
    /// Until then its answers are not counted.
    proven_until: Instant,
}

impl Door {
    fn new(now: Instant) -> Self {
        Self {
            quick: Left(now),
            lasting: Left(now),
            answers: Left(now),
            proven_until: now,
        }
    }

    fn take_check(&mut self, now: Instant) -> bool {
        let may = self.quick.has_one(QUICK, now) && self.lasting.has_one(LASTING, now);
        if may {
            self.quick.take(QUICK, now);
            self.lasting.take(LASTING, now);
        }
        may
    }

    fn take_answer(&mut self, now: Instant) -> bool {
        let may = self.answers.has_one(ANSWERS, now);
        if may {
            self.answers.take(ANSWERS, now);
        }
        may
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        let times = [self.lasting.0, self.answers.0, self.proven_until];
        times.iter().all(|time| *time <= now)
    }
}

/// Checks that one peer has made us send and nobody has answered.
#[derive(Debug, Default)]
pub struct Knocks {
    doors: BTreeMap<IpAddr, Door>,
}

impl Knocks {
    /// Whether a check may go to `address` now; if so, it counts as sent.
    pub fn may_knock(&mut self, address: IpAddr, now: Instant) -> bool {
        self.door(address, now)
            .is_some_and(|door| door.take_check(now))
    }

    /// Whether the answer to a check may go to `address` now; if so, it counts as sent.
    pub fn may_answer(&mut self, address: IpAddr, now: Instant) -> bool {
        self.door(address, now)
            .is_some_and(|door| now < door.proven_until || door.take_answer(now))
    }

    /// The peer has proven to be at `address`.
    pub fn answered(&mut self, address: IpAddr, now: Instant) {
        if let Some(door) = self.door(address, now) {
            *door = Door {
                proven_until: now + PROOF,
                ..Door::new(now)
            };
        }
    }

    /// Whether the peer has lately proven to be at `address`.
    pub fn is_proven(&self, address: IpAddr, now: Instant) -> bool {
        let door = self.doors.get(&address);
        door.is_some_and(|door| now < door.proven_until)
    }

    /// The door at `address`, if there is room for it.
    fn door(&mut self, address: IpAddr, now: Instant) -> Option<&mut Door> {
        if self.doors.len() >= MAX_DOORS && !self.doors.contains_key(&address) {
            self.doors.retain(|_, door| !door.is_forgettable(now));
            if self.doors.len() >= MAX_DOORS {
                return None;
            }
        }
        Some(self.doors.entry(address).or_insert_with(|| Door::new(now)))
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
        knocks.answered(one, now + second);
        assert_eq!(knocks_within(&mut knocks, one, now + second, second), 14);
        let later = now + Duration::from_secs(100);
        assert_eq!(knocks_within(&mut knocks, other, later, second), 14);
    }

    #[test]
    fn answers_are_counted_unless_the_peer_has_just_proven_to_be_there() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let address = IpAddr::from([198, 51, 100, 9]);
        let step = Duration::from_millis(50);
        let mut sent = 0;
        for number in 0..400 {
            sent += usize::from(knocks.may_answer(address, now + step * number));
        }
        // 10, and one in two seconds.
        assert_eq!(sent, 19);
        let later = now + step * 400;
        assert_eq!(knocks_within(&mut knocks, address, later, PROOF), 54);
        assert!(!knocks.is_proven(address, later));
        knocks.answered(address, later);
        assert!(knocks.is_proven(address, later));
        assert!((0..1_000).all(|_| knocks.may_answer(address, later)));
        let over = later + PROOF;
        assert!(!knocks.is_proven(address, over));
        let free = (0..1_000).filter(|_| knocks.may_answer(address, over));
        assert_eq!(free.count(), 10);
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
