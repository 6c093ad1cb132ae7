//! How fast is meshd beside other userspace tunnels, and what does it cost?
//!
//! The contestants are measured one after another, round by round, between two network namespaces;
//! `docs/TESTING.md` has the method.
//! Namespaces and daemons go with this process, however it ends.

mod contestant;
mod cpu;
mod echo;
mod figures;
mod idle;
mod iperf;
mod machine;
mod mesh;
mod options;
mod report;
mod run;
mod scene;
mod statistics;
mod syscalls;
mod table;
mod tables;
mod tools;
mod tunnel;
mod wireguard;

use std::fs::File;
use std::io::{Write, stderr, stdout};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use contestant::Contestant;
use options::Options;
use report::Report;
use tools::Tools;

fn main() -> Result<()> {
    let options = Options::parse();
    let contestants = options.contestants()?;
    ensure!(
        !cfg!(debug_assertions),
        "the figures of a debug build say nothing. Fix: cargo run --release --package bench"
    );
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces need root. Fix: run it with sudo -E env \"PATH=$PATH\""
    );
    let tools = Tools::install(&contestants, options.syscalls, options.idle_peers.is_some())?;
    let names: Vec<&str> = contestants.iter().map(|it| it.name.as_str()).collect();
    let mut report = Report::new(&options, &names, &tools);
    let outcome = measure(&options, &contestants, &tools, &mut report);
    // What was measured before a failure is not lost by it.
    write!(stdout(), "{}", report.render())?;
    say(
        &mut stderr(),
        &format!("every figure: {}", report.file().display()),
    )?;
    outcome
}

fn measure(
    options: &Options,
    contestants: &[Contestant],
    tools: &Tools,
    report: &mut Report,
) -> Result<()> {
    let times = options.times();
    for round in 1..=options.rounds() {
        for frames in options.frames() {
            // Nobody is always first, or always behind the same one.
            for index in 0..contestants.len() {
                let contestant = &contestants[(index + round - 1) % contestants.len()];
                let what = format!("round {round}, frames {frames}: {}", contestant.name);
                let path = options.path(frames);
                let (run, mtu) = alone(options, &what, || {
                    run::take(contestant, &path, round, &times, tools)
                })?;
                report.add(run, mtu)?;
            }
        }
    }
    if options.syscalls {
        for contestant in contestants.iter().filter(|it| it.has_daemons()) {
            let what = format!("system calls of {}", contestant.name);
            let path = options.path(options.frames()[0]);
            let counted = alone(options, &what, || {
                syscalls::count(contestant, &path, &times, tools)
            })?;
            report.add_counted(counted)?;
        }
    }
    if let Some(peers) = options.idle_peers {
        let what = format!("meshd with {peers} silent peers");
        let idle = alone(options, &what, || idle::observe(peers, &times))?;
        report.set_idle(idle)?;
    }
    Ok(())
}

/// Does one piece of work, holding the lock that the options name.
fn alone<T>(options: &Options, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _held = match &options.lock {
        Some(path) => {
            let open = File::options().create(true).append(true).open(path);
            let file = open.with_context(|| format!("cannot open {}", path.display()))?;
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
            Some(file)
        }
        None => None,
    };
    say(&mut stderr(), what)?;
    work().with_context(|| what.to_owned())
}

/// Prints a line.
fn say(stream: &mut impl Write, line: &str) -> Result<()> {
    writeln!(stream, "{line}").context("cannot print")
}
