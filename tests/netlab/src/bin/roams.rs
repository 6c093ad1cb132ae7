//! How long does a stream stand still when an end of it moves? Prints a row for each kind of move and each talker, and ends with
//! an error if one of them breaks the promise.
//!
//! usage: `roams [RUNS [KIND]]`, as root; 10 runs of each kind unless told otherwise. KIND is the beginning of a name in the first
//! column. The rows are measured side by side, each in a laboratory of its own, since they mostly wait. Behind
//! each gap that is longer than promised, what both daemons logged is written to standard error, as much as `MESHD_LOG` asks for.

use std::{io::Write, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use netlab::{Nat, Roam, Roaming, Talker, percentile};

/// At most this long, in 95 of 100.
const PROMISED: Duration = Duration::from_secs(1);
/// Of a log, behind a gap that is longer.
const LINES: usize = 60;

fn main() -> Result<()> {
    let runs = std::env::args().nth(1);
    let runs: usize = runs
        .map_or(Ok(10), |runs| runs.parse())
        .context("RUNS is no number")?;
    let kind = std::env::args().nth(2).unwrap_or_default();
    let kinds = Roam::ALL.into_iter();
    let kinds: Vec<Roam> = kinds
        .filter(|roam| roam.name().starts_with(&kind))
        .collect();
    ensure!(!kinds.is_empty(), "there is no move of the kind {kind:?}");
    say("move            who talks   p50 ms   p95 ms   max ms")?;
    let mut broken = Vec::new();
    thread::scope(|scope| {
        let talkers = [Talker::Mover, Talker::Stayer];
        let rows = kinds
            .into_iter()
            .flat_map(|roam| talkers.map(|talker| (roam, talker)));
        let measured: Vec<_> = rows
            .map(|row| (row, scope.spawn(move || gaps(row, runs))))
            .collect();
        for ((roam, talker), gaps) in measured {
            let gaps = gaps.join().map_err(|_| anyhow!("a row panicked"))??;
            let at = |percent| percentile(&gaps, percent).as_millis();
            let name = roam.name();
            let who = format!("{talker:?}").to_lowercase();
            say(&format!(
                "{name:<15} {who:<9} {:>8} {:>8} {:>8}",
                at(50),
                at(95),
                at(100)
            ))?;
            if percentile(&gaps, 95) > PROMISED {
                broken.push(format!("{name} while the {who} talks"));
            }
        }
        anyhow::Ok(())
    })?;
    ensure!(
        broken.is_empty(),
        "more than one in twenty stood still for over {PROMISED:?}: {}",
        broken.join("; ")
    );
    Ok(())
}

/// How long the stream stood still, in each of the runs.
fn gaps((roam, talker): (Roam, Talker), runs: usize) -> Result<Vec<Duration>> {
    let mut roaming = Roaming::new("roams", (Nat::PortRestricted, Nat::PortRestricted))?;
    let mut gaps = Vec::with_capacity(runs);
    for _ in 0..runs {
        let gap = roaming.gap(roam, talker)?;
        if gap > PROMISED {
            let logs = [&roaming.pair.alice, &roaming.pair.bob];
            let logs = logs.map(|daemon| daemon.process.log_tail(LINES));
            let name = roam.name();
            let text = format!("{name}, the {talker:?} talks: {gap:?}\n{}", logs.join("\n"));
            writeln!(std::io::stderr(), "{text}")?;
        }
        gaps.push(gap);
    }
    Ok(gaps)
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
