//! Which system calls does each daemon make per GB?

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use netlab::Process;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::contestant::Contestant;
use crate::options::Times;
use crate::run::{Bench, received_gb};
use crate::scene::{Path, Scene};
use crate::table::Table;
use crate::tools::Tools;
use crate::tunnel::Tunnel;

/// strace writes its table when it is told to end; it needs no time for that.
const LIMIT: Duration = Duration::from_secs(10);
/// Calls in a line of the printed table; the file has all.
const SHOWN: usize = 6;

/// Calls per GB of one daemon, by name.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) contestant: String,
    /// `A` sends the payload, `B` receives it.
    pub(crate) side: &'static str,
    pub(crate) per_gb: BTreeMap<String, f64>,
}

/// Counts during a TCP run with one stream from A to B. strace slows the daemons, so that only
/// counts per GB mean something.
pub(crate) fn count(
    contestant: &Contestant,
    path: &Path,
    times: &Times,
    tools: &Tools,
) -> Result<Vec<Counted>> {
    let scene = Scene::build(&contestant.name, path)?;
    let tunnel = Tunnel::start(contestant, &scene, tools)?;
    let tracers = tunnel
        .daemons
        .iter()
        .map(|daemon| Tracer::attach(&scene, daemon))
        .collect::<Result<Vec<_>>>()?;
    let bench = Bench {
        scene: &scene,
        tunnel: &tunnel,
    };
    let (json, _) = bench.iperf(&[], times.tcp_short)?;
    let gb = received_gb(&json)?;
    ["A", "B"]
        .into_iter()
        .zip(tracers)
        .map(|(side, tracer)| {
            let calls = tracer.detach()?;
            let per_gb = calls
                .into_iter()
                .map(|(name, count)| (name, count as f64 / gb));
            Ok(Counted {
                contestant: contestant.name.clone(),
                side,
                per_gb: per_gb.collect(),
            })
        })
        .collect()
}

impl Counted {
    pub(crate) fn to_json(&self) -> Value {
        json!({"contestant": self.contestant, "side": self.side, "calls_per_gb": self.per_gb})
    }
}

/// The most frequent calls of each daemon.
pub(crate) fn render(counted: &[Counted]) -> String {
    let mut table = Table::new(["", "side", "calls/GB", "of them"]);
    for it in counted {
        let mut calls: Vec<_> = it.per_gb.iter().collect();
        calls.sort_by(|left, right| right.1.total_cmp(left.1));
        let shown: Vec<String> = calls
            .iter()
            .take(SHOWN)
            .map(|(name, count)| format!("{name} {count:.0}"))
            .collect();
        let all: f64 = it.per_gb.values().sum();
        table.row(vec![
            it.contestant.clone(),
            it.side.to_owned(),
            format!("{all:.0}"),
            shown.join(", "),
        ]);
    }
    format!(
        "System calls per GB, TCP, 1 stream, A -> B (under strace)\n{}\n",
        table.render()
    )
}

#[derive(Debug)]
struct Tracer {
    strace: Process,
    summary: PathBuf,
}

impl Tracer {
    fn attach(scene: &Scene, daemon: &Process) -> Result<Self> {
        let pid = daemon.pid().to_string();
        let summary = scene.a.dir().join(format!("strace-{pid}"));
        let mut command = scene.a.command("strace");
        command.args(["-c", "-f", "-p", &pid, "-o"]).arg(&summary);
        let strace = scene.a.spawn_command(command)?;
        strace.wait_for_line("attached", LIMIT)?;
        Ok(Self { strace, summary })
    }

    fn detach(self) -> Result<BTreeMap<String, u64>> {
        self.strace.signal(Signal::SIGINT)?;
        self.strace.wait(LIMIT)?;
        let summary = fs::read_to_string(&self.summary);
        let summary = summary
            .with_context(|| format!("strace left no summary:\n{}", self.strace.log_tail(10)))?;
        let calls = calls(&summary);
        calls.with_context(|| format!("the summary of strace is not as expected:\n{summary}"))
    }
}

/// Reads the table of `strace -c`: `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn calls(summary: &str) -> Option<BTreeMap<String, u64>> {
    let mut rules = 0;
    let mut calls = BTreeMap::new();
    for line in summary.lines() {
        if line.starts_with("------") {
            rules += 1;
        } else if rules == 1 {
            let words: Vec<&str> = line.split_whitespace().collect();
            let count = words.get(3)?.parse().ok()?;
            calls.insert((*words.last()?).to_owned(), count);
        }
    }
    (rules == 2).then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.25    0.500000          12     20000           read
 30.00    0.250000           2       100        40 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.750000          14     20100        40 total
";

    #[test]
    fn calls_are_counted_by_name_with_and_without_errors() {
        let expected = [("futex".to_owned(), 100), ("read".to_owned(), 20_000)];
        assert_eq!(calls(SUMMARY).unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn what_is_no_whole_summary_is_refused() {
        assert_eq!(calls(""), None);
        let half: Vec<&str> = SUMMARY.lines().take(4).collect();
        assert_eq!(calls(&half.join("\n")), None);
    }

    #[test]
    fn the_most_frequent_calls_stand_first() {
        let counted = Counted {
            contestant: "meshd".to_owned(),
            side: "A",
            per_gb: BTreeMap::from([("futex".to_owned(), 10.0), ("read".to_owned(), 200.0)]),
        };
        let text = render(&[counted]);
        assert!(text.contains("210  read 200, futex 10"), "{text}");
    }
}
