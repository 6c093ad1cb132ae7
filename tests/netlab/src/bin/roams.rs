//! How long does a stream stand still when an end of it moves? Prints a row for each kind of move and each talker.
//!
//! usage: `roams [RUNS]`, as root; 10 runs of each unless told otherwise.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use netlab::{Nat, Roam, Roaming, Talker};

fn main() -> Result<()> {
    let runs = std::env::args().nth(1);
    let runs: usize = runs
        .map_or(Ok(10), |runs| runs.parse())
        .context("RUNS is no number")?;
    let mut roaming = Roaming::new("roams", (Nat::PortRestricted, Nat::PortRestricted))?;
    say("move            who talks   p50 ms   p95 ms   max ms")?;
    for roam in Roam::ALL {
        for talker in [Talker::Mover, Talker::Stayer] {
            let mut gaps = Vec::new();
            for _ in 0..runs {
                gaps.push(roaming.gap(roam, talker)?);
            }
            gaps.sort_unstable();
            let at = |percent: usize| milliseconds(gaps.get((gaps.len() - 1) * percent / 100));
            let name = roam.name();
            let who = format!("{talker:?}").to_lowercase();
            say(&format!(
                "{name:<15} {who:<9} {:>8} {:>8} {:>8}",
                at(50),
                at(95),
                at(100)
            ))?;
        }
    }
    Ok(())
}

fn milliseconds(gap: Option<&Duration>) -> u128 {
    gap.map_or(0, Duration::as_millis)
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
