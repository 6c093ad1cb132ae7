//! How soon is a daemon back whose discovery server is dead? Prints a row for each pair of NAT kinds that can be direct.
//!
//! usage: `restarts [RUNS]`, as root; 21 restarts of each side, by turns asked to end and killed, unless told otherwise.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use netlab::{End, MATRIX, Nat, Return, Returning};

/// The promise, from the start of the process on.
const PROMISED: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let runs = std::env::args().nth(1);
    let runs: usize = runs
        .map_or(Ok(21), |runs| runs.parse())
        .context("RUNS is no number")?;
    say("NATs                                        restarts  p50 ms  max ms  late")?;
    let mut late = 0;
    for (number, one) in MATRIX.into_iter().enumerate() {
        for other in &MATRIX[number..] {
            if !one.must_be_direct(*other) {
                say(&format!(
                    "{}  no direct path by nature",
                    name([one, *other])
                ))?;
                continue;
            }
            late += row([one, *other], runs)?;
        }
    }
    ensure!(late == 0, "{late} came back later than {PROMISED:?}");
    Ok(())
}

/// All restarts of one pair; returns how many took too long.
fn row(nats: [Nat; 2], runs: usize) -> Result<usize> {
    let mut scene = Returning::new("restarts", &nats)?;
    let mut returns: Vec<Return> = Vec::new();
    for run in 0..runs {
        let end = if run % 2 == 0 {
            End::Killed
        } else {
            End::Asked
        };
        for which in 0..scene.count() {
            returns.extend(scene.restart(which, end, LIMIT)?);
        }
    }
    let mut times: Vec<_> = returns.iter().map(|it| it.took.unwrap_or(LIMIT)).collect();
    times.sort_unstable();
    let late = times.iter().filter(|took| **took > PROMISED).count();
    let at = |percent: usize| {
        let time = times.get((times.len().max(1) - 1) * percent / 100);
        time.map_or(0, Duration::as_millis)
    };
    say(&format!(
        "{} {:>9} {:>7} {:>7} {late:>5}",
        name(nats),
        times.len(),
        at(50),
        at(100)
    ))?;
    Ok(late)
}

fn name(nats: [Nat; 2]) -> String {
    format!("{:<42}", format!("{:?} with {:?}", nats[0], nats[1]))
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
