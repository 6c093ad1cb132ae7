//! Who used how much processor time between two moments: the machine, our daemons, strangers?

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// USER_HZ: the unit of /proc, the same on every architecture that Rust's Linux targets know.
const TICKS_PER_SECOND: f64 = 100.0;
/// The ancestor of all kernel threads.
const KTHREADD: u32 = 2;

/// The state of all counters at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    at: Instant,
    machine: MachineTicks,
    processes: BTreeMap<u32, ProcessTicks>,
}

/// What was used between two snapshots, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Usage {
    pub(crate) elapsed: f64,
    /// User, nice, system, irq and softirq time of the whole machine. Sampled at each tick, so
    /// short bursts that a timer drives are missed.
    pub(crate) busy: f64,
    pub(crate) steal: f64,
    /// User and system time of each daemon, all threads, in the order asked for.
    pub(crate) daemons: Vec<f64>,
    /// Time of processes that are neither kernel threads nor descendants of this program.
    pub(crate) foreign: f64,
    /// User and system time of a relay between the daemons, where there is one.
    pub(crate) relay: Option<f64>,
}

impl Snapshot {
    /// Reads /proc.
    pub(crate) fn take() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let machine = MachineTicks::parse(&stat).context("/proc/stat has no line of all CPUs")?;
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir("/proc").context("cannot list /proc")? {
            // A process that ends meanwhile is in its parent's account.
            if let Ok(stat) = fs::read_to_string(entry?.path().join("stat"))
                && let Some(process) = ProcessTicks::parse(&stat)
            {
                processes.insert(process.pid, process);
            }
        }
        Ok(Self {
            at: Instant::now(),
            machine,
            processes,
        })
    }

    /// What was used from `self` to `later`. `own` is this program's process.
    pub(crate) fn until(&self, later: &Self, own: u32, daemons: &[u32]) -> Usage {
        let used = |pid: &u32| {
            let ticks = |snapshot: &Self| snapshot.processes.get(pid).map_or(0, |it| it.own);
            seconds(ticks(later), ticks(self))
        };
        Usage {
            elapsed: later.at.duration_since(self.at).as_secs_f64(),
            busy: seconds(later.machine.busy, self.machine.busy),
            steal: seconds(later.machine.steal, self.machine.steal),
            daemons: daemons.iter().map(used).collect(),
            foreign: seconds(later.foreign(own), self.foreign(own)),
            relay: None,
        }
    }

    /// Ticks of all processes but the kernel's and our own, with those that they waited for.
    fn foreign(&self, own: u32) -> u64 {
        let all = self.processes.values();
        all.filter(|it| !self.descends(it.pid, own) && !self.descends(it.pid, KTHREADD))
            .map(|it| it.own + it.waited_for)
            .sum()
    }

    fn descends(&self, mut pid: u32, ancestor: u32) -> bool {
        // A list of processes that is read while they change may hold a circle.
        for _ in 0..self.processes.len() {
            if pid == ancestor {
                return true;
            }
            match self.processes.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    }
}

/// Time on a CPU of the living threads of a process, in seconds; finer than the ticks of
/// [`Snapshot`], for processes that hardly run.
pub(crate) fn thread_seconds(pid: u32) -> Result<f64> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
        // A thread that has ended since it was listed counts no more.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            let first = text.split_whitespace().next();
            nanoseconds += first
                .and_then(|number| number.parse::<u64>().ok())
                .with_context(|| format!("{tasks}/*/schedstat: {text:?}"))?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Resident memory of a process, in MB (10^6 bytes).
pub(crate) fn resident_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = resident_kib(&status).with_context(|| format!("{path} has no VmRSS"))?;
    Ok(kib as f64 * 1024.0 / 1e6)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn seconds(later: u64, earlier: u64) -> f64 {
    // A process that died unwaited for takes its ticks away: never less than nothing.
    later.saturating_sub(earlier) as f64 / TICKS_PER_SECOND
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MachineTicks {
    busy: u64,
    steal: u64,
}

impl MachineTicks {
    /// Reads `cpu  user nice system idle iowait irq softirq steal ...`.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *ticks.first_chunk()?;
        Some(Self {
            busy: user + nice + system + irq + softirq,
            steal,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessTicks {
    pid: u32,
    parent: u32,
    /// User and system time of all its threads.
    own: u64,
    /// The same of its children that have ended.
    waited_for: u64,
}

impl ProcessTicks {
    /// Reads /proc/PID/stat (proc_pid_stat(5)).
    fn parse(stat: &str) -> Option<Self> {
        let pid = stat.split(' ').next()?.parse().ok()?;
        // The name, field 2, may hold spaces and brackets.
        let rest = &stat[stat.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            pid,
            parent: u32::try_from(field(4)?).ok()?,
            own: field(14)? + field(15)?,
            waited_for: field(16)? + field(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, own: u64, waited_for: u64) -> (u32, ProcessTicks) {
        let ticks = ProcessTicks {
            pid,
            parent,
            own,
            waited_for,
        };
        (pid, ticks)
    }

    fn snapshot(busy: u64, processes: &[(u32, ProcessTicks)]) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            machine: MachineTicks { busy, steal: 0 },
            processes: processes.iter().copied().collect(),
        }
    }

    #[test]
    fn busy_is_everything_but_idle_and_stolen_time() {
        let stat = "cpu  10 1 20 1000 500 3 4 7 0 0\ncpu0 5 0 10 500 250 1 2 3 0 0\n";
        let expected = MachineTicks { busy: 38, steal: 7 };
        assert_eq!(MachineTicks::parse(stat), Some(expected));
        assert_eq!(MachineTicks::parse("cpu  10 1\n"), None);
    }

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b) c) S 7 42 42 0 -1 4194560 9 9 0 0 11 22 3 4 20 0 1 0 5 6 7";
        let expected = process(42, 7, 33, 7).1;
        assert_eq!(ProcessTicks::parse(stat), Some(expected));
        assert_eq!(ProcessTicks::parse("42 (short) S 7"), None);
    }

    #[test]
    fn strangers_are_told_from_our_own_and_from_the_kernel() {
        let before = snapshot(
            1000,
            &[
                process(1, 0, 10, 10),
                process(2, 0, 0, 0),
                process(3, 2, 100, 0),
                process(50, 1, 5, 0),
                process(51, 50, 0, 0),
                process(60, 1, 40, 0),
                process(61, 60, 30, 0),
            ],
        );
        // The stranger 61 has ended and is in the account of 60; 62 is new.
        let after = snapshot(
            1500,
            &[
                process(1, 0, 10, 10),
                process(2, 0, 0, 0),
                process(3, 2, 300, 0),
                process(50, 1, 6, 20),
                process(51, 50, 200, 0),
                process(60, 1, 41, 35),
                process(62, 60, 4, 0),
            ],
        );
        let usage = before.until(&after, 50, &[51]);
        assert_eq!(usage.daemons, [2.0]);
        assert_eq!(usage.busy, 5.0);
        assert_eq!(usage.foreign, 0.10);
    }

    #[test]
    fn our_children_and_kernel_threads_that_have_ended_are_no_strangers() {
        let ending = [process(51, 50, 70, 0), process(3, 2, 500, 0)];
        let before = snapshot(0, &[process(50, 1, 0, 0), ending[0], ending[1]]);
        let after = snapshot(0, &[process(50, 1, 0, 90), process(60, 1, 30, 0)]);
        assert_eq!(before.until(&after, 50, &[]).foreign, 0.3);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        assert!(Snapshot::take().unwrap().processes.contains_key(&own));
        assert!(resident_mb(own).unwrap() > 0.1);
        assert!(thread_seconds(own).unwrap() > 0.0);
        assert_eq!(
            resident_kib("VmHWM:\t 9 kB\nVmRSS:\t  1234 kB\n"),
            Some(1234)
        );
    }
}
