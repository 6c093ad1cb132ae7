//! How long does a stream stand still when an end of it moves? Prints a row for each kind of move and each talker, and ends with
//! an error if one of them breaks the promise.
//!
//! usage: `roams [RUNS]`, as root; 10 runs of each unless told otherwise. The rows are measured side by side, each in a laboratory
//! of its own, since they mostly wait.

use std::{io::Write, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use netlab::{Nat, Roam, Roaming, Talker, percentile};

/// At most this long, in 95 of 100.
const PROMISED: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let runs = std::env::args().nth(1);
    let runs: usize = runs
        .map_or(Ok(10), |runs| runs.parse())
        .context("RUNS is no number")?;
    say("move            who talks   p50 ms   p95 ms   max ms")?;
    let mut broken = Vec::new();
    thread::scope(|scope| {
        let talkers = [Talker::Mover, Talker::Stayer];
        let rows = Roam::ALL
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
    (0..runs).map(|_| roaming.gap(roam, talker)).collect()
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
