//! May one more connectivity check, or answer to one, go to an address that a peer has named? Whoever names it may have no
//! right to it, so an address that does not answer is knocked at ever more seldom, however many ports, agents and letters there
//! are, and whether directly or by a TURN server.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::measure::{Left, Measure};

/// Checks within any second, from all our interfaces together.
const QUICK: usize = 5;
const SECOND: Duration = Duration::from_secs(1);
/// Checks in the long run: with those of [`UNTRIED`] 50 in any ten minutes. What is left when nobody tries adds up, so that two
/// sides that begin to try have something to say at the same time.
const LASTING: Measure = Measure {
    most: 16,
    refill: Duration::from_secs(20),
};
/// Beyond those, checks to a port that has not got two yet: where the peer is now may be named last, and where it was is no
/// better known by asking there again.
const UNTRIED: Measure = Measure {
    most: 3,
    refill: Duration::from_secs(600),
};
const ENOUGH: u8 = 2;
/// Ports of one address whose checks are counted. Others are as untried.
const MAX_PORTS: usize = 16;
/// Shots, which open our own NAT and reach nobody, leave so many of these to the checks, which do both. Within a second they
/// are no more than one candidate needs, so that where many are of one address the checks do not wait for the next second.
const KEPT: u32 = 8;
const QUICK_SHOTS: usize = 3;
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

/// What may still go to one address.
#[derive(Debug, Clone)]
struct Door {
    /// When the last checks went there, the oldest first.
    last: [Option<Instant>; QUICK],
    lasting: Left,
    untried: Left,
    /// How many went to which port.
    ports: BTreeMap<u16, u8>,
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
            lasting: Left::all(now),
            untried: Left::all(now),
            ports: BTreeMap::new(),
            returned: Left::all(now),
            is_called: false,
            answers: Left::all(now),
            proven_until: now,
            trusted: 0,
        }
    }

    /// Takes a check to this port.
    fn take_check(&mut self, port: u16, now: Instant) -> bool {
        if self.lasting.is_all(now) {
            self.ports.clear();
        }
        let before = self.ports.get(&port).copied().unwrap_or(0);
        let may = self.take(Some(before), now);
        if may && (before > 0 || self.ports.len() < MAX_PORTS) {
            self.ports.insert(port, before.saturating_add(1));
        }
        may
    }

    /// Takes a check to a port that has got so many before, or a shot.
    fn take(&mut self, before: Option<u8>, now: Instant) -> bool {
        if now < self.proven_until && self.trusted > 0 {
            self.trusted -= 1;
            return true;
        }
        let within = |at: Instant| now.saturating_duration_since(at) < SECOND;
        let (kept, quick) = match before {
            Some(_) => (0, QUICK),
            None => (KEPT, QUICK_SHOTS),
        };
        if self.last[QUICK - quick].is_some_and(within) {
            return false;
        }
        let is_untried = before.is_some_and(|before| before < ENOUGH);
        if self.lasting.has_one(LASTING.sparing(kept), now) {
            self.lasting.take(LASTING, now);
        } else if is_untried && self.untried.has_one(UNTRIED, now) {
            self.untried.take(UNTRIED, now);
        } else if before.is_some() && self.is_called && self.returned.has_one(RETURNED, now) {
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
        let measures = [self.lasting, self.untried, self.returned, self.answers];
        measures.iter().all(|left| left.is_all(now)) && self.proven_until <= now
    }
}

/// Checks that one peer has made us send and nobody has answered.
#[derive(Debug, Default)]
pub struct Knocks {
    doors: BTreeMap<IpAddr, Door>,
}

impl Knocks {
    /// Whether a check may go to `address` now; if so, it counts as sent.
    pub fn may_knock(&mut self, address: SocketAddr, now: Instant) -> bool {
        self.door(address.ip(), now)
            .is_some_and(|door| door.take_check(address.port(), now))
    }

    /// Whether a shot that opens our NAT may go to `address` now; if so, it counts as a check.
    pub fn may_shoot(&mut self, address: IpAddr, now: Instant) -> bool {
        self.door(address, now)
            .is_some_and(|door| door.take(None, now))
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

    /// Checks at one port after the other.
    fn knocks_within(
        knocks: &mut Knocks,
        address: IpAddr,
        begin: Instant,
        time: Duration,
    ) -> usize {
        let step = Duration::from_millis(20);
        let steps = u32::try_from(time.as_millis() / step.as_millis()).unwrap();
        (0..steps)
            .filter(|number| {
                let port = 1024 + u16::try_from(number % 60_000).unwrap();
                knocks.may_knock((address, port).into(), begin + step * *number)
            })
            .count()
    }

    #[test]
    fn a_door_that_stays_shut_is_knocked_at_five_times_a_second_and_fifty_times_in_ten_minutes() {
        let begin = Instant::now();
        let shut = IpAddr::from([198, 51, 100, 9]);
        // Tried all the time, or now and then; directly, or by shots that open our NAT; at one port, or at all.
        for (pause, shots, ports) in [
            (20, 1, 1),
            (20, 1, 60_000),
            (20, 2, 60_000),
            (700, 3, 1),
            (700, 3, 30),
            (45_000, 1, 60_000),
        ] {
            let (mut knocks, mut sent) = (Knocks::default(), Vec::new());
            for number in 0..2 * HOUR * 1000 / pause {
                let now = begin + Duration::from_millis(number * pause);
                let port = 1024 + u16::try_from(number % ports).unwrap();
                let may = match number % shots {
                    0 => knocks.may_knock((shut, port).into(), now),
                    _ => knocks.may_shoot(shut, now),
                };
                sent.extend(may.then_some(now));
            }
            let apart = |count: usize| sent.windows(count + 1).map(move |w| w[count] - w[0]);
            let case = format!("each {pause} ms, {ports} ports");
            assert!(apart(5).all(|time| time >= SECOND), "{case}");
            assert!(apart(50).all(|time| time >= 600 * SECOND), "{case}");
            // What is not used is not lost.
            let least = (16 + 2 * HOUR / 20).min(2 * HOUR * 1000 / pause);
            let most = least + 3 + 2 * HOUR / 600;
            let sent = sent.len() as u64;
            assert!((least - 1..=most).contains(&sent), "{case}: {sent}");
        }
    }

    #[test]
    fn shots_leave_half_to_the_checks() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let address = IpAddr::from([198, 51, 100, 9]);
        let at = |second: u32| now + SECOND * second;
        let shots = (0..19).filter(|second| knocks.may_shoot(address, at(*second)));
        assert_eq!(shots.count(), 8);
        let checks = (0..19).filter(|second| {
            knocks.may_knock((address, 1024 + *second as u16).into(), at(*second))
        });
        assert_eq!(checks.count(), 8 + 3);
    }

    #[test]
    fn shots_at_many_ports_leave_two_checks_of_the_same_second() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let address = IpAddr::from([198, 51, 100, 9]);
        let shots = (0..9).filter(|_| knocks.may_shoot(address, now));
        assert_eq!(shots.count(), 3);
        let after = now + SECOND / 4;
        let checks = (0..9).filter(|n| knocks.may_knock((address, 1024 + n).into(), after));
        assert_eq!(checks.count(), 2);
    }

    #[test]
    fn who_was_asked_for_long_where_it_was_is_still_asked_where_it_says_that_it_is_now() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let [old, new, third] =
            [1, 2, 3].map(|port| SocketAddr::from(([198, 51, 100, 9], 1024 + port)));
        let at = |number: u32| now + SECOND / 2 * number;
        let mut sent = |door, from: u32| {
            let times = from..from + 30;
            times.filter(|n| knocks.may_knock(door, at(*n))).count()
        };
        assert_eq!(sent(old, 0), 16);
        assert_eq!(sent(new, 30), 2 + 1, "one that has come anew in 20 s");
        assert_eq!(sent(third, 60), 2);
        assert_eq!(sent(old, 90), 0, "its turn comes each 20 s");
        assert_eq!(sent(old, 120), 1);
    }

    #[test]
    fn a_check_that_comes_is_returned_when_nothing_else_is_left_and_not_for_ever() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let address = IpAddr::from([198, 51, 100, 9]);
        let spent = knocks_within(&mut knocks, address, now, 10 * SECOND);
        assert_eq!(spent, 16 + 3);
        let at = |number: u32| now + SECOND * (10 + number);
        knocks.called(address, at(0));
        assert!(!knocks.may_shoot(address, at(0)));
        assert!(knocks.may_knock((address, 7081).into(), at(0)));
        assert!(
            !knocks.may_knock((address, 7081).into(), at(0)),
            "one for one"
        );
        let mut returned = 0;
        for number in 0..6_000 {
            knocks.called(address, at(number / 10));
            returned += usize::from(knocks.may_knock((address, 7081).into(), at(number / 10)));
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
        assert_eq!(knocks_within(&mut knocks, one, now, time), 19);
        assert_eq!(knocks_within(&mut knocks, other, now, time), 19);
        knocks.answered(one, now + time);
        assert_eq!(knocks_within(&mut knocks, one, now + time, time), 59);
        let later = now + 400 * SECOND;
        assert_eq!(knocks_within(&mut knocks, other, later, time), 16);
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
        assert_eq!(
            knocks_within(&mut knocks, address, later, PROOF),
            16 + 3 + 1
        );
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
            sent += usize::from(knocks.may_knock((address, 7081).into(), now));
        }
        assert_eq!(sent, MAX_DOORS);
        assert_eq!(knocks.doors.len(), MAX_DOORS);
        let later = now + LASTING.refill;
        assert!(knocks.may_knock(([192, 0, 2, 1], 7081).into(), later));
    }
}
