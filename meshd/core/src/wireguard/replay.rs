//! Has this message been seen? A sliding window over the counters of one session (RFC 6479).

use std::iter::Sum;

const WORDS: usize = 128;
/// Counters that may lag behind the greatest one: all bits but those of the word that is being filled.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

/// What has come under one set of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were sent, as far as their counters tell.
    pub expected: u64,
    /// Those that came.
    pub received: u64,
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, tally| Self {
            expected: sum.expected.saturating_add(tally.expected),
            received: sum.received.saturating_add(tally.received),
        })
    }
}

/// The counters that were accepted.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    /// One more than the greatest accepted counter.
    next: u64,
    accepted: u64,
    words: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            next: 0,
            accepted: 0,
            words: [0; WORDS],
        }
    }
}

impl ReplayWindow {
    /// Whether a message with this counter could be new; cheap, and asked before the message is opened.
    pub fn may_accept(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        self.next - counter <= WINDOW && self.words[word(counter)] & bit(counter) == 0
    }

    /// Notes the counter of an authentic message; false if it was seen before or is too old.
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.may_accept(counter) {
            return false;
        }
        if counter >= self.next {
            self.advance(counter);
        }
        self.words[word(counter)] |= bit(counter);
        self.accepted += 1;
        true
    }

    /// How many were sent and have come.
    pub fn tally(&self) -> Tally {
        Tally {
            expected: self.next,
            received: self.accepted,
        }
    }

    /// Clears the words between the old greatest counter and `counter`, and makes `counter` the greatest.
    fn advance(&mut self, counter: u64) {
        let newest = self.next.saturating_sub(1) / 64;
        let steps = (counter / 64).saturating_sub(newest).min(WORDS as u64);
        for step in 1..=steps {
            self.words[word((newest + step) * 64)] = 0;
        }
        self.next = counter.saturating_add(1);
    }
}

fn word(counter: u64) -> usize {
    // The remainder is below 128.
    (counter / 64 % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_edges_of_the_window_are_where_they_belong() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(0) && !window.accept(0));
        assert!(window.accept(2 * WINDOW));
        assert!(!window.accept(WINDOW), "exactly too old");
        assert!(window.accept(WINDOW + 1) && !window.accept(WINDOW + 1));
        assert!(window.accept(2 * WINDOW - 1) && !window.accept(2 * WINDOW));
    }

    #[test]
    fn a_jump_forgets_everything_before() {
        let mut window = ReplayWindow::default();
        for counter in 0..1000 {
            assert!(window.accept(counter));
        }
        assert!(window.accept(1 << 40));
        assert!(!window.accept(999));
        assert!((1..WINDOW).all(|back| window.accept((1 << 40) - back)));
    }

    #[test]
    fn the_greatest_counter_does_not_overflow() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(u64::MAX));
        assert!(!window.accept(1));
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec(-9_000_i64..9_000, 1..600)) {
            let (mut window, mut seen) = (ReplayWindow::default(), BTreeSet::new());
            let (mut at, mut greatest) = (20_000_u64, None::<u64>);
            for step in steps {
                at = at.saturating_add_signed(step);
                let old = greatest.is_some_and(|top| at <= top && top + 1 - at > WINDOW);
                let fresh = !old && seen.insert(at);
                proptest::prop_assert_eq!(window.may_accept(at), fresh);
                proptest::prop_assert_eq!(window.accept(at), fresh);
                greatest = greatest.max(Some(at));
            }
        }
    }
}
