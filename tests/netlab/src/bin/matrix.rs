//! Prints how each pair of NAT kinds meets: path, time to the first reply, time to a direct path. Needs root and the built
//! programs; `--runs N` gives medians of N runs, each in a laboratory of its own, and `--with KIND`, once or twice, only pairs with
//! that kind.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use netlab::{MATRIX, Meeting, Nat, Pair};

/// How long an answer, and then a direct path, is waited for.
const LIMIT: Duration = Duration::from_secs(5);
/// The median of a pair that is direct at once.
const PROMISED: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let Options { runs, with } = Options::read(std::env::args().skip(1))?;
    let mut cells = Vec::new();
    let mut failures = Vec::new();
    for (number, one) in MATRIX.into_iter().enumerate() {
        for other in &MATRIX[number..] {
            if with.iter().any(|kind| *kind != one && kind != other) {
                continue;
            }
            let cell = Cell::measure([one, *other], runs)?;
            say(&format!(
                "{} with {}: {}",
                label(one),
                label(*other),
                cell.line()
            ))?;
            failures.extend(cell.complaint());
            cells.push(cell);
        }
    }
    let table = |title: &str, of: &dyn Fn(&Cell) -> String| {
        say(&format!("\n{title}, of {runs} runs"))?;
        say(&grid(&cells, of))
    };
    table("Path (direct of all runs where that differs)", &Cell::path)?;
    table("Median time to the first reply, ms", &|cell| {
        milliseconds(cell.median(|met| met.first_reply))
    })?;
    table("Median time to a direct path, ms", &|cell| {
        milliseconds(cell.median(|met| met.direct))
    })?;
    ensure!(
        failures.is_empty(),
        "otherwise than promised: {}",
        failures.join("; ")
    );
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    runs: usize,
    /// Only pairs with all of these kinds.
    with: Vec<Nat>,
}

impl Options {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            runs: 1,
            with: Vec::new(),
        };
        let mut arguments = arguments;
        while let Some(flag) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{flag} takes a value"))?;
            match flag.as_str() {
                "--runs" => options.runs = value.parse().context("--runs takes a number")?,
                "--with" => {
                    let kind = MATRIX.into_iter().find(|kind| label(*kind) == value);
                    options.with.push(kind.with_context(|| {
                        format!("--with takes one of {}", MATRIX.map(label).join(", "))
                    })?);
                }
                _ => bail!("usage: matrix [--runs N] [--with KIND [--with KIND]]"),
            }
        }
        ensure!(options.runs > 0, "--runs takes a number from 1 on");
        Ok(options)
    }
}

/// All runs of one pair.
struct Cell {
    nats: [Nat; 2],
    meetings: Vec<Meeting>,
}

impl Cell {
    fn measure(nats: [Nat; 2], runs: usize) -> Result<Self> {
        let mut meetings = Vec::new();
        for _ in 0..runs {
            let pair = Pair::new("matrix", nats)?;
            pair.acquaint()?;
            meetings.push(pair.meet(LIMIT)?);
        }
        Ok(Self { nats, meetings })
    }

    fn direct(&self) -> usize {
        self.meetings
            .iter()
            .filter(|met| met.direct.is_some())
            .count()
    }

    fn path(&self) -> String {
        let last = self.meetings.last().map_or("", |met| met.path.as_str());
        match self.direct() {
            direct if direct == self.meetings.len() => "direct".to_owned(),
            0 => last.to_owned(),
            direct => format!("{direct}/{}", self.meetings.len()),
        }
    }

    fn median(&self, of: impl Fn(&Meeting) -> Option<Duration>) -> Option<Duration> {
        let mut times: Vec<_> = self.meetings.iter().filter_map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    fn line(&self) -> String {
        let longest = self.meetings.iter().filter_map(|met| met.direct).max();
        format!(
            "{}, first reply {} ms, direct {} ms, at most {} ms",
            self.path(),
            milliseconds(self.median(|met| met.first_reply)),
            milliseconds(self.median(|met| met.direct)),
            milliseconds(longest),
        )
    }

    fn complaint(&self) -> Option<String> {
        let [one, other] = self.nats;
        let runs = self.meetings.len();
        let wanted = if one.must_be_direct(other) {
            runs..=runs
        } else if one.must_meet_by_birthday(other) {
            // Chance has a part in it: 19 of 20.
            runs - runs / 20..=runs
        } else {
            0..=0
        };
        let what = if !wanted.contains(&self.direct()) {
            format!("{} direct", self.direct())
        } else if one.must_be_direct(other) && self.median(|met| met.direct) > Some(PROMISED) {
            format!(
                "direct after {} ms",
                milliseconds(self.median(|met| met.direct))
            )
        } else {
            return None;
        };
        Some(format!("{} with {}: {what}", label(one), label(other)))
    }
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string())
}

/// The cells in the upper right half of a square.
fn grid(cells: &[Cell], of: &dyn Fn(&Cell) -> String) -> String {
    let line = |head: &str, words: &[String]| {
        let words: String = words.iter().map(|word| format!("{word:>9}")).collect();
        format!("{head:<9}{words}\n")
    };
    let mut text = line("", &MATRIX.map(|kind| label(kind).to_owned()));
    for row in MATRIX {
        let words = MATRIX.map(|column| {
            let cell = cells.iter().find(|cell| cell.nats == [row, column]);
            cell.map(of).unwrap_or_default()
        });
        text += &line(label(row), &words);
    }
    text
}

fn label(nat: Nat) -> &'static str {
    match nat {
        Nat::Open => "open",
        Nat::OneToOne => "one2one",
        Nat::FullCone => "full",
        Nat::AddressRestricted => "addr",
        Nat::PortRestricted => "port",
        Nat::Leaky => "leaky",
        Nat::Symmetric => "sym",
        Nat::Cgnat => "cgnat",
        Nat::CgnatSymmetric => "cgnatsym",
        Nat::UdpBlocked => "noudp",
    }
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
