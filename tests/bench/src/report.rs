//! What does a run leave: the printed tables, and the file with every figure?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::figures::{Frames, Results, Run};
use crate::idle::Idle;
use crate::machine::Machine;
use crate::options::Options;
use crate::syscalls::{self, Counted};
use crate::tables::{self, Row};
use crate::tools::Tools;

/// Strangers' share of a core above which a test is called disturbed.
const DISTURBED: f64 = 0.10;

/// Everything that was found so far.
#[derive(Debug)]
pub(crate) struct Report {
    file: PathBuf,
    /// The command line.
    command: Vec<String>,
    machine: Machine,
    versions: Value,
    remarks: Vec<String>,
    passes: Vec<Frames>,
    rows: Vec<Row>,
    results: Results,
    counted: Vec<Counted>,
    idle: Option<Idle>,
}

impl Report {
    pub(crate) fn new(options: &Options, names: &[&str], tools: &Tools) -> Self {
        let machine = Machine::look();
        let file = options
            .json
            .clone()
            .unwrap_or_else(|| default_file(tools.directory(), &machine));
        let row = |name: &&str| Row {
            contestant: (*name).to_owned(),
            mtu: None,
        };
        let mut remarks = tools.remarks();
        remarks.extend(options.remarks());
        Self {
            file,
            command: std::env::args().skip(1).collect(),
            machine,
            versions: json!(tools.versions),
            remarks,
            passes: options.frames(),
            rows: names.iter().map(row).collect(),
            results: Results::default(),
            counted: Vec::new(),
            idle: None,
        }
    }

    /// Takes a run in, and writes the file.
    pub(crate) fn add(&mut self, run: Run, mtu: u32) -> Result<()> {
        let mut rows = self.rows.iter_mut();
        if let Some(row) = rows.find(|row| row.contestant == run.contestant) {
            row.mtu = Some(mtu);
        }
        self.results.add(run);
        self.write()
    }

    pub(crate) fn add_counted(&mut self, counted: Vec<Counted>) -> Result<()> {
        self.counted.extend(counted);
        self.write()
    }

    pub(crate) fn set_idle(&mut self, idle: Idle) -> Result<()> {
        self.idle = Some(idle);
        self.write()
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// All tables, as plain text.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("{}\n", self.machine.render());
        for (name, version) in self.versions.as_object().into_iter().flatten() {
            text.push_str(&format!("  {name}: {}\n", version.as_str().unwrap_or("-")));
        }
        for remark in &self.remarks {
            text.push_str(&format!("note: {remark}\n"));
        }
        for frames in &self.passes {
            let tables = tables::render(&self.results, *frames, &self.rows);
            if !tables.is_empty() {
                text.push_str(&heading(*frames, self.rounds(*frames)));
                text.push_str(&tables);
            }
        }
        if !self.counted.is_empty() {
            text.push_str(&syscalls::render(&self.counted));
        }
        if let Some(idle) = self.idle {
            text.push_str(&idle.render());
        }
        text.push_str(&self.disturbances());
        text
    }

    fn rounds(&self, frames: Frames) -> usize {
        let runs = self.results.runs().iter();
        let rounds = runs.filter(|run| run.frames == frames).map(|run| run.round);
        rounds.max().unwrap_or(0)
    }

    fn disturbances(&self) -> String {
        let runs = self.results.runs().iter();
        runs.flat_map(|run| {
            run.disturbed(DISTURBED).into_iter().map(|(test, share)| {
                format!(
                    "disturbed: round {}, frames {}, {}, {test}: other programs used {:.0} % of \
                     a core\n",
                    run.round,
                    run.frames,
                    run.contestant,
                    share * 100.0
                )
            })
        })
        .collect()
    }

    fn to_json(&self) -> Value {
        let runs: Vec<Value> = self.results.runs().iter().map(Run::to_json).collect();
        let counted: Vec<Value> = self.counted.iter().map(Counted::to_json).collect();
        let mtus = self.rows.iter();
        let mtus: serde_json::Map<String, Value> = mtus
            .map(|row| (row.contestant.clone(), json!(row.mtu)))
            .collect();
        json!({
            "arguments": self.command,
            "machine": self.machine.to_json(),
            "versions": self.versions,
            "remarks": self.remarks,
            "mtu": mtus,
            "runs": runs,
            "system_calls": counted,
            "idle_peers": self.idle.map(Idle::to_json),
        })
    }

    fn write(&self) -> Result<()> {
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let text = format!("{:#}\n", self.to_json());
        fs::write(&self.file, text).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

fn heading(frames: Frames, rounds: usize) -> String {
    let what = match frames {
        Frames::Offload => "veth offloads on: super-packets cross in one piece",
        Frames::Mtu => "real frames: veth TSO, GSO and USO off, GRO on",
    };
    let rounds = if rounds == 1 {
        "1 round".to_owned()
    } else {
        format!("{rounds} rounds, median (min-max), ratios within a round")
    };
    format!("\n=== {what}; {rounds}\n\n")
}

fn default_file(directory: &Path, machine: &Machine) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |time| time.as_secs());
    directory.join(format!("{}-{seconds}.json", machine.short_commit()))
}
