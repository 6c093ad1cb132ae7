//! Which lengths are tried together, and what do their answers say?

use std::time::Instant;

/// Lengths at once. Eight that are spread evenly find one of 336 (from 1064 to 1400) in three rounds.
const SIZES: usize = 9;
/// Tries of a round that begins or confirms: it decides whether a path is taken for narrow. MAX_PROBES of RFC 8899 is 3.
const TRIES: u8 = 4;
/// Tries of a round that only narrows down. Bad luck costs some bytes per packet until the next look.
const LADDER_TRIES: u8 = 2;
/// Answers to the shortest length without which a round says nothing: the path must have worked all the time.
const CONTROLS: u8 = 2;

/// Lengths that are tried at the same time. The shortest is the control: if it passes where the longer ones do not, they
/// were lost for their length.
#[derive(Debug)]
pub(super) struct Round {
    /// Ascending, the first `count` of them.
    sizes: [usize; SIZES],
    count: usize,
    tries: u8,
    most: u8,
    controls: u8,
    /// The longest that was answered.
    answered: usize,
    tried: Option<Instant>,
    second_look: bool,
}

/// What a round says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There are tries left.
    Undecided,
    /// Not even the control came through.
    Silent,
    /// All lengths passed.
    Passed {
        /// The longest.
        size: usize,
    },
    /// Only some passed.
    Narrow {
        /// The longest that did.
        passed: usize,
        /// The shortest that did not.
        lost: usize,
    },
}

impl Round {
    /// Does the path carry `size`?
    pub(super) fn first(control: usize, size: usize) -> Self {
        Self::new(&[control, size], TRIES)
    }

    /// Does it carry more than what is held for its limit meanwhile?
    pub(super) fn second_look(sizes: &[usize]) -> Self {
        Self {
            second_look: true,
            ..Self::new(sizes, TRIES)
        }
    }

    /// How much between what passed and what was lost?
    pub(super) fn ladder((passed, lost): (usize, usize), second_look: bool) -> Self {
        let (gap, steps) = (lost - 1 - passed, SIZES - 1);
        let sizes: [usize; SIZES] =
            std::array::from_fn(|step| passed + (gap * step).div_ceil(steps));
        Self {
            second_look,
            ..Self::new(&sizes, LADDER_TRIES)
        }
    }

    /// `sizes` in ascending order; what comes twice is taken once.
    fn new(sizes: &[usize], most: u8) -> Self {
        let mut round = Self {
            sizes: [0; SIZES],
            count: 0,
            tries: 0,
            most,
            controls: 0,
            answered: 0,
            tried: None,
            second_look: false,
        };
        for size in sizes.iter().take(SIZES) {
            if round.count == 0 || round.sizes[round.count - 1] < *size {
                round.sizes[round.count] = *size;
                round.count += 1;
            }
        }
        round
    }

    /// Whether packets go by what was known before it.
    pub(super) fn is_second_look(&self) -> bool {
        self.second_look
    }

    /// When the last try began.
    pub(super) fn tried(&self) -> Option<Instant> {
        self.tried
    }

    /// Another try begins.
    pub(super) fn next_try(&mut self, now: Instant) {
        self.tries += 1;
        self.tried = Some(now);
    }

    /// What is to be sent in this try: the control, and all that has not passed.
    pub(super) fn wanted(&self) -> impl Iterator<Item = usize> {
        let sizes = &self.sizes[..self.count];
        let longer = sizes.iter().skip(1).filter(|size| **size > self.answered);
        sizes.first().into_iter().chain(longer).copied()
    }

    /// A probe came through.
    pub(super) fn answered(&mut self, size: usize) {
        self.controls += u8::from(size == self.sizes[0]);
        self.answered = self.answered.max(size);
    }

    /// Whether there is nothing more to be learnt.
    pub(super) fn is_complete(&self) -> bool {
        self.longest() <= self.answered
    }

    /// What it says by now, when the time for answers to the last try is over.
    pub(super) fn verdict(&self) -> Verdict {
        let wanted = CONTROLS.min(self.most - 1);
        let lost = self.sizes[..self.count]
            .iter()
            .find(|size| **size > self.answered);
        match lost {
            None => Verdict::Passed {
                size: self.longest(),
            },
            Some(_) if self.tries < self.most => Verdict::Undecided,
            Some(_) if self.controls < wanted => Verdict::Silent,
            Some(lost) => Verdict::Narrow {
                passed: self.answered,
                lost: *lost,
            },
        }
    }

    fn longest(&self) -> usize {
        self.sizes[self.count - 1]
    }
}
