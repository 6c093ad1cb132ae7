//! Which figures were measured, in which round, under which key?
//!
//! A figure's key is `TEST.UNIT`, such as `tcp1.gbps`; [`crate::tables`] says what each means.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::statistics::Spread;

/// How the frames between the namespaces look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// As veth pairs are made: super-packets and UDP trains cross them in one piece.
    Offload,
    /// Segmentation offloads off and GRO on at all veth ends: each frame is at most the MTU.
    Mtu,
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offload => "offload",
            Self::Mtu => "mtu",
        })
    }
}

/// The figures of one contestant in one round.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) frames: Frames,
    pub(crate) contestant: String,
    figures: BTreeMap<String, f64>,
}

impl Run {
    pub(crate) fn new(round: usize, frames: Frames, contestant: &str) -> Self {
        Self {
            round,
            frames,
            contestant: contestant.to_owned(),
            figures: BTreeMap::new(),
        }
    }

    pub(crate) fn set(&mut self, test: &str, unit: &str, figure: f64) {
        self.figures.insert(format!("{test}.{unit}"), figure);
    }

    pub(crate) fn get(&self, key: &str) -> Option<f64> {
        self.figures.get(key).copied()
    }

    /// Tests during which strangers used more than `share` of a core, with their share.
    pub(crate) fn disturbed(&self, share: f64) -> Vec<(&str, f64)> {
        let tests = self.figures.iter().filter_map(|(key, foreign)| {
            let test = key.strip_suffix(".foreign_s")?;
            let elapsed = self.get(&format!("{test}.elapsed_s"))?;
            Some((test, foreign / elapsed))
        });
        tests.filter(|(_, found)| *found > share).collect()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "round": self.round,
            "frames": self.frames.to_string(),
            "contestant": self.contestant,
            "figures": self.figures,
        })
    }
}

/// Every run so far.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<Run>);

impl Results {
    pub(crate) fn add(&mut self, run: Run) {
        self.0.push(run);
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.0
    }

    /// A contestant's figure over all rounds.
    pub(crate) fn spread(&self, frames: Frames, contestant: &str, key: &str) -> Option<Spread> {
        let figures: Vec<f64> = self
            .of(frames, contestant)
            .filter_map(|run| run.get(key))
            .collect();
        Spread::of(&figures)
    }

    /// The same figure divided by that of `base` in the same round, over all rounds.
    pub(crate) fn ratio(
        &self,
        frames: Frames,
        contestant: &str,
        base: &str,
        key: &str,
    ) -> Option<Spread> {
        let ratios: Vec<f64> = self
            .of(frames, contestant)
            .filter_map(|run| {
                let mut others = self.of(frames, base);
                let other = others.find(|other| other.round == run.round)?;
                Some(run.get(key)? / other.get(key)?)
            })
            .collect();
        Spread::of(&ratios)
    }

    fn of(&self, frames: Frames, contestant: &str) -> impl Iterator<Item = &Run> {
        let runs = self.0.iter();
        runs.filter(move |run| run.frames == frames && run.contestant == contestant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: usize, contestant: &str, gbps: f64) -> Run {
        let mut run = Run::new(round, Frames::Offload, contestant);
        run.set("tcp1", "gbps", gbps);
        run
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        let mut results = Results::default();
        for (round, fast, slow) in [(1, 10.0, 5.0), (2, 100.0, 10.0), (3, 30.0, 10.0)] {
            results.add(run(round, "bare", fast));
            results.add(run(round, "slow", slow));
        }
        let ratio = results
            .ratio(Frames::Offload, "slow", "bare", "tcp1.gbps")
            .unwrap();
        assert_eq!((ratio.min, ratio.max, ratio.rounds), (0.1, 0.5, 3));
        assert!((ratio.median - 1.0 / 3.0).abs() < 1e-9);
        let spread = results.spread(Frames::Offload, "slow", "tcp1.gbps");
        assert_eq!(spread.unwrap().median, 10.0);
    }

    #[test]
    fn a_round_without_the_base_has_no_ratio() {
        let mut results = Results::default();
        results.add(run(1, "slow", 5.0));
        results.add(run(2, "bare", 5.0));
        let ratio = |key| results.ratio(Frames::Offload, "slow", "bare", key);
        assert_eq!(ratio("tcp1.gbps"), None);
        assert_eq!(ratio("no.such"), None);
        assert_eq!(results.spread(Frames::Mtu, "slow", "tcp1.gbps"), None);
    }

    #[test]
    fn a_test_with_much_foreign_cpu_is_disturbed() {
        let mut run = run(1, "slow", 5.0);
        for (test, foreign) in [("tcp1", 2.0), ("tcp4", 0.5)] {
            run.set(test, "elapsed_s", 10.0);
            run.set(test, "foreign_s", foreign);
        }
        assert_eq!(run.disturbed(0.10), [("tcp1", 0.2)]);
    }
}
