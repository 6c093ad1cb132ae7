//! Is the path still there that was in use a moment ago? While packets go to and fro nothing is asked; silence where
//! something was expected is asked about at once, and with no answer the path is lost. Whichever side talks: one that only
//! listens hears nothing when the other's packets go astray, and asking opens its own NAT again.

use std::time::{Duration, Instant};

/// How often a path is looked at while it is in use: three looks without an answer and what follows are to be over within a
/// second.
const LOOK: Duration = Duration::from_millis(200);
/// A look is not shorter than an answer takes, at most this.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// A lost path that is still written to is gone after this time: whoever looks for another one has had time, and packets
/// wait for it instead of being sent into the dark.
const GONE: Duration = Duration::from_secs(10);
/// So often silence is asked about before the path is lost.
const ASKED_AT_MOST: u32 = 3;

/// What has gone over a path: bytes of packets of others, not of our own questions and answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// To the peer.
    pub tx_bytes: u64,
    /// From the peer.
    pub rx_bytes: u64,
}

impl Volume {
    fn since(self, before: Self) -> u64 {
        let [tx, rx] = [
            self.tx_bytes.saturating_sub(before.tx_bytes),
            self.rx_bytes.saturating_sub(before.rx_bytes),
        ];
        tx.saturating_add(rx)
    }
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// All is well, or nothing was expected.
    Nothing,
    /// Ask the peer for a sign of life.
    Ask,
    /// The peer does not answer: look for another path.
    Lost,
    /// It has not for long.
    Gone,
}

/// Watches the path to one peer.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// When it looks next; never while the path is not in use.
    next: Option<Instant>,
    seen: Volume,
    /// Bytes between the last looks: those before each one count half as much as those after it.
    pace: u64,
    looked: Option<Instant>,
    /// Whether something was sent or came before the last look.
    was_busy: bool,
    asked: u32,
    lost: Option<Instant>,
    /// How often the path was lost since the peer was last heard.
    losses: u32,
}

impl Watch {
    /// Packets went to or from the peer. Returns whether the watch begins.
    pub fn wake(&mut self, volume: Volume, now: Instant) -> bool {
        if self.next.is_some() || volume == self.seen {
            return false;
        }
        // What was missed before it slept says nothing of now.
        *self = Self {
            losses: self.losses,
            seen: self.seen,
            looked: Some(now),
            next: Some(now + LOOK),
            ..Self::default()
        };
        true
    }

    /// The path is another one now: nothing was missed on it yet.
    pub fn begin(&mut self, volume: Volume) {
        *self = Self {
            losses: self.losses,
            pace: self.pace,
            seen: volume,
            ..Self::default()
        };
    }

    /// How busy the path is, as it was when it was last there: a power of two of bytes, 0 while it is not in use.
    pub fn pace(&self) -> u32 {
        self.pace.checked_ilog2().map_or(0, |power| power + 1)
    }

    /// The path that was lost has been found once more: perhaps a NAT had to be opened, perhaps it passes checks alone.
    pub fn again(&mut self, now: Instant) {
        if self.lost.is_some() {
            (self.asked, self.was_busy, self.next) = (0, true, Some(now));
        }
    }

    /// How often the path was lost since the peer was last heard.
    pub fn losses(&self) -> u32 {
        self.losses
    }

    /// How many questions in a row were not answered.
    pub fn asked(&self) -> u32 {
        self.asked
    }

    /// Whether the path was lost, and nothing was heard since.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// When [`Self::look`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, if it is time. `heard` is when anything authentic last came by the path, `rtt` how long an answer takes.
    pub fn look(
        &mut self,
        volume: Volume,
        (heard, rtt): (Option<Instant>, Option<Duration>),
        now: Instant,
    ) -> Finding {
        if self.next.is_none_or(|at| now < at) {
            return Finding::Nothing;
        }
        let is_busy = volume != self.seen;
        self.pace = (self.pace / 2).saturating_add(volume.since(self.seen));
        self.seen = volume;
        let before = self.looked.replace(now);
        // What was asked at the last look may have been answered in the same instant.
        let is_heard = heard > before || (self.asked > 0 && heard == before);
        let expected = is_busy || self.was_busy || self.asked > 0;
        self.was_busy = is_busy;
        if is_heard {
            self.asked = 0;
            self.lost = None;
            self.losses = 0;
        } else if expected {
            self.asked = self.asked.saturating_add(1);
        }
        let pause = rtt.map_or(LOOK, |rtt| (2 * rtt).clamp(LOOK, LONGEST_LOOK));
        let goes_on = is_busy || (1..=ASKED_AT_MOST).contains(&self.asked);
        self.next = (goes_on || is_heard).then_some(now + pause);
        if self.next.is_none() && self.asked == 0 {
            self.pace = 0;
        }
        match self.asked {
            0 => Finding::Nothing,
            1..ASKED_AT_MOST => Finding::Ask,
            ASKED_AT_MOST => {
                self.lost = self.lost.or(Some(now));
                self.losses += 1;
                Finding::Lost
            }
            _ => match self.lost.take_if(|at| *at + GONE <= now) {
                Some(_) => Finding::Gone,
                None => Finding::Nothing,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets packets and time go by, and notes what is found each 50 ms.
    struct Scene {
        watch: Watch,
        start: Instant,
        now: Instant,
        volume: Volume,
        heard: Option<Instant>,
        found: Vec<(u128, Finding)>,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                watch: Watch::default(),
                start: now,
                now,
                volume: Volume::default(),
                heard: None,
                found: Vec::new(),
            }
        }

        /// For `milliseconds`, each 50: so many bytes to and from the peer; `answers` if it answers questions.
        fn pass(&mut self, milliseconds: u32, (tx, rx): (u64, u64), answers: bool) {
            for _ in 0..milliseconds / 50 {
                self.now += Duration::from_millis(50);
                self.volume.tx_bytes += tx;
                self.volume.rx_bytes += rx;
                if rx > 0 {
                    self.heard = Some(self.now);
                }
                self.watch.wake(self.volume, self.now);
                let finding = self.watch.look(self.volume, (self.heard, None), self.now);
                if finding != Finding::Nothing {
                    let at = (self.now - self.start).as_millis();
                    self.found.push((at, finding));
                }
                if finding == Finding::Ask && answers {
                    self.heard = Some(self.now + Duration::from_millis(10));
                }
            }
        }
    }

    #[test]
    fn packets_to_and_fro_ask_nothing_and_who_is_idle_is_not_watched() {
        let mut scene = Scene::new();
        scene.pass(5_000, (100, 100), true);
        assert_eq!(scene.found, []);
        scene.pass(5_000, (0, 0), true);
        assert!(scene.found.len() <= 1, "{:?}", scene.found);
        assert_eq!(scene.watch.poll_timeout(), None);
    }

    #[test]
    fn the_pace_is_that_of_the_last_looks_and_survives_a_loss_and_a_move_but_no_pause() {
        let [mut busy, mut slow] = [Scene::new(), Scene::new()];
        assert_eq!(busy.watch.pace(), 0);
        busy.pass(2_000, (1_000, 0), true);
        for _ in 0..4 {
            slow.pass(50, (0, 1_000), true);
            slow.pass(450, (0, 0), true);
        }
        assert!(busy.watch.pace() > slow.watch.pace() && slow.watch.pace() > 0);
        busy.pass(2_000, (0, 0), false);
        assert!(busy.watch.pace() > 0, "nothing comes any more");
        busy.watch.begin(busy.volume);
        assert!(busy.watch.pace() > 0);
        slow.pass(3_000, (0, 0), true);
        assert_eq!(slow.watch.pace(), 0);
    }

    #[test]
    fn a_sender_without_an_answer_asks_and_finds_the_path_lost_within_a_second() {
        let mut scene = Scene::new();
        scene.pass(1_000, (100, 100), false);
        scene.pass(1_500, (100, 0), false);
        let findings: Vec<Finding> = scene.found.iter().map(|(_, it)| *it).collect();
        assert_eq!(findings, [Finding::Ask, Finding::Ask, Finding::Lost]);
        let (lost, _) = scene.found[2];
        assert!(lost <= 1_800, "{lost}");
        scene.found.clear();
        scene.pass(20_000, (100, 0), false);
        assert!(matches!(scene.found[..], [(_, Finding::Gone)]));
    }

    #[test]
    fn what_was_missed_before_a_sleep_or_on_another_path_counts_no_more() {
        let mut scene = Scene::new();
        scene.pass(1_000, (0, 100), false);
        scene.pass(3_000, (0, 0), false);
        assert!(matches!(scene.found.last(), Some((_, Finding::Lost))));
        scene.found.clear();
        scene.pass(60_000, (0, 0), false);
        scene.pass(50, (100, 0), true);
        scene.pass(2_000, (0, 0), true);
        assert!(
            matches!(scene.found[..], [(_, Finding::Ask)]),
            "{:?}",
            scene.found
        );
        scene.pass(2_000, (100, 0), false);
        scene.watch.begin(scene.volume);
        scene.found.clear();
        scene.pass(1_000, (100, 0), false);
        assert_eq!(scene.found.first().map(|(_, it)| *it), Some(Finding::Ask));
    }

    #[test]
    fn a_listener_that_hears_nothing_more_asks() {
        let mut scene = Scene::new();
        scene.pass(1_000, (0, 100), false);
        scene.pass(2_000, (0, 0), false);
        let findings: Vec<Finding> = scene.found.iter().map(|(_, it)| *it).collect();
        assert_eq!(findings, [Finding::Ask, Finding::Ask, Finding::Lost]);
        let (first, _) = scene.found[0];
        assert!(first <= 1_400, "{first}");
        assert_eq!(scene.watch.poll_timeout(), None, "nobody is asked for ever");
    }

    #[test]
    fn a_one_way_stream_whose_receiver_answers_is_never_lost() {
        let mut scene = Scene::new();
        scene.pass(10_000, (100, 0), true);
        assert!(scene.found.iter().all(|(_, it)| *it == Finding::Ask));
        scene.found.clear();
        scene.pass(10_000, (0, 100), true);
        assert_eq!(scene.found, []);
    }

    #[test]
    fn over_a_long_way_answers_are_waited_for() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let volume = |bytes| Volume {
            tx_bytes: bytes,
            rx_bytes: 0,
        };
        watch.wake(volume(100), start);
        let rtt = Some(Duration::from_millis(600));
        let mut now = start + LOOK;
        assert_eq!(watch.look(volume(200), (None, rtt), now), Finding::Ask);
        now += LOOK;
        assert_eq!(watch.look(volume(300), (None, rtt), now), Finding::Nothing);
        now = start + LOOK + Duration::from_millis(1_200);
        let heard = Some(start + LOOK + Duration::from_millis(600));
        assert_eq!(watch.look(volume(400), (heard, rtt), now), Finding::Nothing);
    }
}
