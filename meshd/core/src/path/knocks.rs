//! May one more connectivity check, or answer to one, go to an address that a peer has named? Whoever names it may have no
//! right to it, so an address that does not answer is knocked at ever more seldom, however many ports, agents and letters there
//! are, and whether directly or by a TURN server.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Checks within any second, from all our interfaces together.
const QUICK: usize = 5;
const SECOND: Duration = Duration::from_secs(1);
/// Checks in the long run: 50 in any ten minutes. What is left when nobody tries adds up, so that two sides that begin to try
/// have something to say at the same time.
const LASTING: Measure = Measure {
    most: 20,
    refill: Duration::from_secs(20),
};
/// Shots, which open our own NAT and reach nobody, leave so many of these to the checks, which do both.
const KEPT: u32 = 10;
/// Checks that answer a peer's check, beyond those. One check of each side has then opened both NATs, and a pair without any
/// measure left would wait for the next time that both have some at once. Whoever forges the source of a check, which needs
/// no help of ours to send there, gets no more than one for one.
const RETURNED: Measure = Measure {
    most: 4,
    refill: Duration::from_secs(20),
};
/// Answers to checks that come in the name of an address, which may be forged. They have a measure of their own: where they took
/// from that of the checks, peers that had lost each other did not meet again in time.
const ANSWERS: Measure = Measure {
    most: 10,
    refill: Duration::from_secs(2),
};
/// For so long whoever has answered a check of ours gets all its answers: its address was no forgery then.
const PROOF: Duration = Duration::from_secs(30);
/// Checks, beside all those measures, that it gets meanwhile for each answer: it is there, and the next ones may well be lost.
const TRUSTED: u32 = 40;
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
    /// When the last checks went there, the oldest first.
    last: [Option<Instant>; QUICK],
    lasting: Left,
    returned: Left,
    /// A check has come in its name since the last one that was returned.
    is_called: bool,
    answers: Left,
    /// Until then its answers are not counted, and so many checks.
    proven_until: Instant,
    trusted: u32,
}

impl Door {
    fn new(now: Instant) -> Self {
        Self {
            last: [None; QUICK],
            lasting: Left(now),
            returned: Left(now),
            is_called: false,
            answers: Left(now),
            proven_until: now,
            trusted: 0,
        }
    }

    /// Takes a check that leaves `kept` of the measure.
    fn take(&mut self, kept: u32, now: Instant) -> bool {
        if now < self.proven_until && self.trusted > 0 {
            self.trusted -= 1;
            return true;
        }
        let within = |at: Instant| now.saturating_duration_since(at) < SECOND;
        if self.last[0].is_some_and(within) {
            return false;
        }
        let spared = Measure {
            most: LASTING.most - kept,
            ..LASTING
        };
        if self.lasting.has_one(spared, now) {
            self.lasting.take(LASTING, now);
        } else if kept == 0 && self.is_called && self.returned.has_one(RETURNED, now) {
            self.returned.take(RETURNED, now);
            self.is_called = false;
        } else {
            return false;
        }
        self.last.rotate_left(1);
        self.last[QUICK - 1] = Some(now);
        true
    }

    fn take_answer(&mut self, now: Instant) -> bool {
        let may = self.answers.has_one(ANSWERS, now);
        if may {
            self.answers.take(ANSWERS, now);
        }
        may
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        let times = [
            self.lasting.0,
            self.returned.0,
            self.answers.0,
            self.proven_until,
        ];
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
            .is_some_and(|door| door.take(0, now))
    }

    /// Whether a shot that opens our NAT may go to `address` now; if so, it counts as a check.
    pub fn may_shoot(&mut self, address: IpAddr, now: Instant) -> bool {
        self.door(address, now)
            .is_some_and(|door| door.take(KEPT, now))
    }

    /// An authentic check came in the name of `address`.
    pub fn called(&mut self, address: IpAddr, now: Instant) {
        if let Some(door) = self.door(address, now) {
            door.is_called = true;
        }
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
                trusted: TRUSTED,
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
    fn a_door_that_stays_shut_is_knocked_at_five_times_a_second_and_fifty_times_in_ten_minutes() {
        let (mut knocks, begin) = (Knocks::default(), Instant::now());
        let shut = IpAddr::from([198, 51, 100, 9]);
        // Tried all the time, or now and then; directly, or by shots that open our NAT.
        for (pause, shots) in [(20, 1), (20, 2), (700, 3), (45_000, 1)] {
            let mut sent = Vec::new();
            for number in 0..2 * HOUR * 1000 / pause {
                let now = begin + Duration::from_millis(number * pause);
                let may = match number % shots {
                    0 => knocks.may_knock(shut, now),
                    _ => knocks.may_shoot(shut, now),
                };
                sent.extend(may.then_some(now));
            }
            let apart = |count: usize| sent.windows(count + 1).map(move |w| w[count] - w[0]);
            assert!(apart(5).all(|time| time >= SECOND), "{pause} ms");
            assert!(apart(50).all(|time| time >= 600 * SECOND), "{pause} ms");
            // What is not used is not lost.
            let most = 20 + 2 * HOUR / 20;
            let tried = 2 * HOUR * 1000 / pause;
            let (sent, most) = (sent.len() as u64, most.min(tried));
            assert!((most - 1..=most).contains(&sent), "{pause} ms: {sent}");
            knocks = Knocks::default();
        }
    }

    #[test]
    fn shots_leave_half_to_the_checks() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let address = IpAddr::from([198, 51, 100, 9]);
        let at = |second: u32| now + SECOND * second;
        let shots = (0..19).filter(|second| knocks.may_shoot(address, at(*second)));
        assert_eq!(shots.count(), 10);
        let checks = (0..19).filter(|second| knocks.may_knock(address, at(*second)));
        assert_eq!(checks.count(), 10);
    }

    #[test]
    fn a_check_that_comes_is_returned_when_nothing_else_is_left_and_not_for_ever() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let address = IpAddr::from([198, 51, 100, 9]);
        let spent = knocks_within(&mut knocks, address, now, 10 * SECOND);
        assert_eq!(spent, 20);
        let at = |number: u32| now + SECOND * (10 + number);
        knocks.called(address, at(0));
        assert!(!knocks.may_shoot(address, at(0)));
        assert!(knocks.may_knock(address, at(0)));
        assert!(!knocks.may_knock(address, at(0)), "one for one");
        let mut returned = 0;
        for number in 0..6_000 {
            knocks.called(address, at(number / 10));
            returned += usize::from(knocks.may_knock(address, at(number / 10)));
        }
        // 3 that were left and one in 20 s, beside one in 20 s that needs no check from there.
        assert!(
            (3 + 29 + 29..=3 + 30 + 30).contains(&returned),
            "{returned}"
        );
    }

    #[test]
    fn an_answer_and_a_long_pause_begin_anew_and_doors_are_counted_apart() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let [one, other] = [1, 2].map(|last| IpAddr::from([198, 51, 100, last]));
        let time = 10 * SECOND;
        assert_eq!(knocks_within(&mut knocks, one, now, time), 20);
        assert_eq!(knocks_within(&mut knocks, other, now, time), 20);
        knocks.answered(one, now + time);
        assert_eq!(knocks_within(&mut knocks, one, now + time, time), 60);
        let later = now + 400 * SECOND;
        assert_eq!(knocks_within(&mut knocks, other, later, time), 20);
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
        assert_eq!(knocks_within(&mut knocks, address, later, PROOF), 21);
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
