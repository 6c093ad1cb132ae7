//! When is so much to be moved that the thread should run before others, and when should it then leave its sources
//! alone for a moment, so that the next look finds more?
//!
//! A busy thread that waits its turn among processes makes queues, and all who stand in them late. One that runs at once
//! is woken for each packet, and a wake-up costs as much as moving several: network cards moderate their interrupts for
//! the same reason.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

/// Over at least so much time is counted.
const WINDOW: Duration = Duration::from_millis(2);
/// From so many packets in a millisecond the thread is busy: 0.7 Gbit/s of full ones, about a tenth of a core.
const BUSY: u64 = 60;
/// So many windows must pass below that, one by one or as one long pause, before it no longer is.
const CALM_WINDOWS: u32 = 10;
/// Long enough that a stream of 5 Gbit/s brings one super-packet more, short beside a round trip through a full path.
const REST: Duration = Duration::from_micros(100);
/// From so many reads and trains in a millisecond a rest gathers something. A client that asks for one block after the
/// other is never held up below that.
const GATHERING: u64 = 5;
/// A thread that finds no end of it for so long goes on like any process until it does.
const STRETCH: Duration = Duration::from_millis(8);
/// A rest is at least this part of the stretch before it, because Linux before 6.12 stops for 50 ms a thread that has run
/// before others for 19 of 20 parts of a second (sched(7)).
const SHARE: u32 = 16;

/// What a look at the sources gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Reads from the interface and trains of datagrams: what may wake the thread, each by itself.
    pub(super) arrivals: u32,
    /// The packets in them that were sealed or opened: what nobody but a member sends makes no thread busy.
    pub(super) packets: u64,
    /// A budget was used up: there may be more.
    pub(super) more: bool,
}

impl AddAssign for Look {
    fn add_assign(&mut self, other: Self) {
        self.arrivals += other.arrivals;
        self.packets += other.packets;
        self.more |= other.more;
    }
}

/// How the thread shall go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Before others.
    pub(super) busy: bool,
    /// First leave the sources alone for so long.
    pub(super) rest: Option<Duration>,
}

/// Counts what comes.
#[derive(Debug)]
pub(super) struct Moderation {
    since: Instant,
    found: Look,
    /// Windows in a row below [`BUSY`], up to [`CALM_WINDOWS`].
    calm: u32,
    gathering: bool,
    /// When the sources were last empty.
    empty: Instant,
}

impl Moderation {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            found: Look::default(),
            calm: CALM_WINDOWS,
            gathering: false,
            empty: now,
        }
    }

    /// The pace after what a turn that began at `now` found.
    pub(super) fn pace(&mut self, look: Look, now: Instant) -> Pace {
        self.found += look;
        let time = now.saturating_duration_since(self.since);
        if time >= WINDOW {
            let Look {
                arrivals, packets, ..
            } = std::mem::take(&mut self.found);
            self.since = now;
            let at_least = |rate: u64, count: u64| {
                u128::from(count) * 1000 >= u128::from(rate) * time.as_micros()
            };
            let windows = time.as_micros() / WINDOW.as_micros();
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            self.calm = match at_least(BUSY, packets) {
                true => 0,
                false => self.calm.saturating_add(windows).min(CALM_WINDOWS),
            };
            self.gathering = at_least(GATHERING, arrivals.into());
        }
        let stretch = now.saturating_duration_since(self.empty);
        if !look.more {
            self.empty = now;
        }
        let busy = self.calm < CALM_WINDOWS && (stretch < STRETCH || !look.more);
        let rest = busy && self.gathering && !look.more;
        Pace {
            busy,
            rest: rest.then(|| REST.max(stretch.min(STRETCH) / SHARE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: Pace = Pace {
        busy: false,
        rest: None,
    };
    const BEFORE_OTHERS: Pace = Pace {
        busy: true,
        rest: None,
    };
    const MODERATED: Pace = Pace {
        busy: true,
        rest: Some(REST),
    };

    struct Stream {
        now: Instant,
        moderation: Moderation,
    }

    impl Stream {
        fn new() -> Self {
            let now = Instant::now();
            let moderation = Moderation::new(now);
            Self { now, moderation }
        }

        /// The pace after half a second of looks that find so many packets in so many arrivals, each so long after the
        /// one before; it must not change in the second half.
        fn steady(&mut self, micros: u64, (arrivals, packets): (u32, u64)) -> Pace {
            let look = Look {
                arrivals,
                packets,
                more: false,
            };
            let mut paces = Vec::new();
            for _ in 0..500_000 / micros {
                self.now += Duration::from_micros(micros);
                paces.push(self.moderation.pace(look, self.now));
            }
            let second_half = &paces[paces.len() / 2..];
            let last = paces[paces.len() - 1];
            assert!(second_half.iter().all(|pace| *pace == last));
            last
        }
    }

    #[test]
    fn fast_streams_and_floods_are_moderated() {
        assert_eq!(Stream::new().steady(120, (1, 45)), MODERATED);
        assert_eq!(Stream::new().steady(400, (4, 180)), MODERATED);
        assert_eq!(Stream::new().steady(100, (30, 30)), MODERATED);
    }

    #[test]
    fn one_gigabit_and_blocks_asked_for_one_by_one_go_before_others_without_a_rest() {
        assert_eq!(Stream::new().steady(500, (1, 45)), BEFORE_OTHERS);
        // A question, then an answer of two trains, 0.7 ms after it.
        assert_eq!(Stream::new().steady(700, (3, 91)), BEFORE_OTHERS);
    }

    #[test]
    fn questions_and_answers_and_a_slow_stream_are_like_any_process() {
        assert_eq!(Stream::new().steady(50, (1, 1)), ORDINARY);
        assert_eq!(Stream::new().steady(10_000, (1, 45)), ORDINARY);
        assert_eq!(Stream::new().steady(20, (16, 0)), ORDINARY, "all forged");
    }

    #[test]
    fn a_pause_of_a_fast_stream_changes_nothing_and_its_end_does() {
        let mut stream = Stream::new();
        assert_eq!(stream.steady(120, (1, 45)), MODERATED);
        let mut after = |pause| {
            stream.now += Duration::from_micros(pause);
            stream.moderation.pace(Look::default(), stream.now).busy
        };
        assert!(after(5_000));
        assert!(!after(1_000_000));
    }

    #[test]
    fn sources_are_emptied_before_a_rest() {
        let mut stream = Stream::new();
        assert_eq!(stream.steady(120, (1, 45)), MODERATED);
        let look = Look {
            more: true,
            ..Look::default()
        };
        assert_eq!(stream.moderation.pace(look, stream.now), BEFORE_OTHERS);
    }

    #[test]
    fn a_thread_that_never_gets_to_the_end_is_like_any_process_until_it_does() {
        let mut stream = Stream::new();
        assert_eq!(stream.steady(120, (1, 45)), MODERATED);
        let mut look = Look {
            arrivals: 2,
            packets: 90,
            more: true,
        };
        let mut paces = Vec::new();
        for _ in 0..200 {
            stream.now += Duration::from_micros(100);
            paces.push(stream.moderation.pace(look, stream.now));
        }
        assert!(paces[..79].iter().all(|pace| *pace == BEFORE_OTHERS));
        assert!(paces[79..].iter().all(|pace| *pace == ORDINARY));
        look.more = false;
        let end = stream.moderation.pace(look, stream.now);
        assert_eq!((end.busy, end.rest), (true, Some(STRETCH / SHARE)));
    }
}
