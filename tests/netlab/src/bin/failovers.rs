//! How soon is a direct path left that carries no more, or too little? Prints a row for each way in which it fails, and ends with
//! an error if one of them breaks the promise.
//!
//! usage: `failovers [RUNS]`, as root; 10 runs of each kind unless told otherwise. The rows are measured side by side, each in a
//! laboratory of its own, since they mostly wait.

use std::{io::Write, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use netlab::{Failing, Failover, percentile};

/// A path that lies is left within this time.
const PROMISED: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let runs = std::env::args().nth(1);
    let runs: usize = runs
        .map_or(Ok(10), |runs| runs.parse())
        .context("RUNS is no number")?;
    say("the direct path        p50 ms   p95 ms   max ms")?;
    let mut broken = Vec::new();
    thread::scope(|scope| {
        let rows: Vec<_> = Failover::ALL
            .into_iter()
            .map(|failover| (failover, scope.spawn(move || measure(failover, runs))))
            .collect();
        for (failover, row) in rows {
            let took = row.join().map_err(|_| anyhow!("a row panicked"))??;
            let at = |percent| percentile(&took, percent).as_millis();
            let name = failover.name();
            say(&format!(
                "{name:<21} {:>8} {:>8} {:>8}",
                at(50),
                at(95),
                at(100)
            ))?;
            if percentile(&took, 95) > PROMISED {
                broken.push(name);
            }
        }
        anyhow::Ok(())
    })?;
    ensure!(
        broken.is_empty(),
        "more than one in twenty took longer than {PROMISED:?}: {}",
        broken.join("; ")
    );
    Ok(())
}

fn measure(failover: Failover, runs: usize) -> Result<Vec<Duration>> {
    let failing = Failing::new("failovers")?;
    let runs = (0..runs).map(|_| failing.run(failover));
    runs.collect::<Result<_>>()
        .with_context(|| failover.name().to_owned())
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
