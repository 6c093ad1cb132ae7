//! Do both ends of a link speak of the same adjacency? Each end draws a number for it, its epoch, and names the other's. Only what
//! names our present one is heeded, and a neighbour that was started again makes us draw a new one: so nothing that it said before
//! can come late and be taken for what it says now, which it would no longer know to be free of circles.

use std::time::{Duration, Instant};

use mesh_wire::routing::Message;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// How long an answer waits for a message that could carry it.
const DELAY: Duration = Duration::from_millis(10);
/// A neighbour that is slow to answer is greeted again this often.
const GREET: Duration = Duration::from_millis(250);

/// The state of one adjacency.
#[derive(Debug)]
pub(super) struct Adjacency {
    mine: u32,
    /// 0 until it is known.
    theirs: u32,
    /// The neighbour has named our epoch.
    agreed: bool,
    /// The next message is to be a greeting, which names no epoch of the neighbour.
    greets: bool,
    due: Option<Instant>,
}

/// What to make of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It belongs to this adjacency.
    Current,
    /// As above, and is the first.
    First,
    /// It says nothing that may be heeded.
    Void,
    /// As above, and what the neighbour said before is void too: it has begun anew.
    Anew,
}

impl Adjacency {
    pub(super) fn new(random: &mut ChaCha8Rng, now: Instant) -> Self {
        Self {
            mine: draw(random),
            theirs: 0,
            agreed: false,
            greets: false,
            due: Some(now),
        }
    }

    /// Whether the neighbour has heard of this adjacency.
    pub(super) fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Judges a message.
    pub(super) fn judge(
        &mut self,
        message: &Message,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Standing {
        let (epoch, named) = (message.epoch, message.your_epoch);
        if named == self.mine && (self.theirs == 0 || self.theirs == epoch) {
            let first = !self.agreed;
            self.theirs = epoch;
            self.agreed = true;
            if first {
                self.due = Some(now);
                return Standing::First;
            }
            return Standing::Current;
        }
        if named == self.mine {
            // One of both has come late, and which one cannot be told.
            self.mine = draw(random);
            self.theirs = 0;
            self.agreed = false;
            self.due = Some(now);
            return Standing::Anew;
        }
        if named != 0 {
            self.greets = true;
            self.due = Some(self.due.map_or(now + DELAY, |due| due.min(now + DELAY)));
            return Standing::Void;
        }
        self.due = Some(now);
        if epoch == self.theirs {
            return Standing::Void;
        }
        if self.agreed {
            self.mine = draw(random);
        }
        self.theirs = epoch;
        self.agreed = false;
        Standing::Anew
    }

    /// When a message must go out, whatever else there is to say.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The epochs of the next message, which goes out now.
    pub(super) fn speak(&mut self, now: Instant) -> (u32, u32) {
        self.due = (!self.agreed).then_some(now + GREET);
        let theirs = match std::mem::take(&mut self.greets) {
            true => 0,
            false => self.theirs,
        };
        (self.mine, theirs)
    }
}

fn draw(random: &mut ChaCha8Rng) -> u32 {
    random.random_range(1..=u32::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    struct End {
        adjacency: Adjacency,
        random: ChaCha8Rng,
        now: Instant,
    }

    impl End {
        fn new(seed: u64) -> Self {
            let (mut random, now) = (ChaCha8Rng::seed_from_u64(seed), Instant::now());
            Self {
                adjacency: Adjacency::new(&mut random, now),
                random,
                now,
            }
        }

        fn says(&mut self) -> Message {
            let (epoch, your_epoch) = self.adjacency.speak(self.now);
            Message {
                epoch,
                your_epoch,
                ..Message::default()
            }
        }

        fn hears(&mut self, message: &Message) -> Standing {
            self.adjacency.judge(message, &mut self.random, self.now)
        }
    }

    /// Until nothing is due at once any more.
    fn settle(a: &mut End, b: &mut End) {
        for _ in 0..6 {
            let (said, answered) = (a.says(), b.says());
            b.hears(&said);
            a.hears(&answered);
        }
        assert!(a.adjacency.agreed && b.adjacency.agreed);
    }

    #[test]
    fn both_agree_whoever_is_first_and_when_they_speak_at_once() {
        let (mut a, mut b) = (End::new(1), End::new(2));
        let greeting = a.says();
        assert_eq!(b.hears(&greeting), Standing::Anew);
        let answer = b.says();
        assert_eq!(a.hears(&answer), Standing::First);
        let next = a.says();
        assert_eq!(b.hears(&next), Standing::First);
        assert_eq!(b.hears(&next), Standing::Current);
        settle(&mut End::new(3), &mut End::new(4));
    }

    #[test]
    fn what_was_said_before_a_start_is_void_behind_it() {
        let (mut a, mut b) = (End::new(1), End::new(2));
        settle(&mut a, &mut b);
        let late = a.says();
        let mut a = End::new(3);
        let greeting = a.says();
        assert_eq!(b.hears(&greeting), Standing::Anew);
        assert_eq!(b.hears(&late), Standing::Void);
        assert!(!b.adjacency.is_agreed());
        settle(&mut a, &mut b);
        assert_eq!(b.hears(&late), Standing::Void);
        settle(&mut a, &mut b);
    }

    #[test]
    fn a_greeting_that_comes_late_costs_a_new_beginning_and_no_more() {
        let (mut a, mut b) = (End::new(1), End::new(2));
        let late = a.says();
        settle(&mut a, &mut b);
        let mut a = End::new(3);
        settle(&mut a, &mut b);
        assert_eq!(b.hears(&late), Standing::Anew);
        settle(&mut a, &mut b);
        settle(&mut a, &mut b);
    }
}
