//! How does a program run in the lab: once with a time limit, or in the background with a log?

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// What the lab's own set-up commands may take; they need milliseconds, the rest is for a
/// machine that is busy with other tests.
const SETUP_LIMIT: Duration = Duration::from_secs(60);
const PACKAGES: &str = "iproute2 nftables iputils-ping conntrack coturn iperf3 tcpdump curl ethtool strace \
     miniupnpd-nftables nginx-light openssl";

/// What a finished program left: its exit and both streams as text.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A background program of a lab. Clones are handles of the same program; it is killed when the
/// lab is dropped, not when a handle is.
#[derive(Debug, Clone)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    label: String,
    log: PathBuf,
    pid: u32,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` with both streams in the file `log`, as leader of a process group.
    /// `launch` decides on which thread the fork happens.
    pub(crate) fn start(
        label: String,
        log: PathBuf,
        mut command: Command,
        launch: impl FnOnce(Command) -> Result<Child>,
    ) -> Result<Self> {
        let file = File::create(&log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        let copy = file
            .try_clone()
            .context("cannot share the log between two streams")?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0);
        let child = launch(command)?;
        let pid = child.id();
        Ok(Self(Arc::new(Inner {
            label,
            log,
            pid,
            child: Mutex::new(child),
        })))
    }

    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// `HOST: PROGRAM`, as the lab prints it.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Everything that the program has printed so far.
    pub fn log(&self) -> String {
        match std::fs::read(&self.0.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(no log: {}: {error})", self.0.log.display()),
        }
    }

    /// The first line that contains `pattern`, waiting for it. Fails, with the end of the log,
    /// when the program ends or `limit` passes before.
    pub fn wait_for_line(&self, pattern: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            // Asked before the log is read, so that the last words of a program are seen.
            let ended = self.ended()?;
            if let Some(line) = finished_lines(&self.log()).find(|line| line.contains(pattern)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended ({status}) before it printed {pattern:?}\n{}",
                    self.0.label,
                    self.log_tail(40)
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} did not print {pattern:?} within {limit:?}\n{}",
                    self.0.label,
                    self.log_tail(40)
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the program (not to its children). Fails when it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.lock();
        if let Some(status) = child.try_wait()? {
            bail!(
                "cannot send {signal} to {}: it has ended ({status})",
                self.0.label
            );
        }
        // The child is not reaped while the lock is held, so the pid is still its own.
        kill(pid_of(&child), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.0.label))
    }

    /// How the program ended, or `None` while it runs.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(self.lock().try_wait()?)
    }

    /// Waits for the program to end by itself. Fails, with the end of the log, after `limit`.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} still runs after {limit:?}\n{}",
                    self.0.label,
                    self.log_tail(40)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the program and its process group with SIGKILL and reaps it. Harmless when it has
    /// ended already.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.lock();
        if child.try_wait()?.is_none() {
            killpg(pid_of(&child), Signal::SIGKILL)
                .with_context(|| format!("cannot kill {}", self.0.label))?;
            child.wait()?;
        }
        Ok(())
    }

    /// The last `lines` lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.0.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `command` to its end, whatever its exit status, with `input` as its standard input.
/// After `limit` it is killed and the call fails.
pub(crate) fn run(mut command: Command, input: &str, limit: Duration) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut stdin = scratch()?;
    stdin
        .write_all(input.as_bytes())
        .and_then(|()| stdin.rewind())
        .context("cannot write a scratch file")?;
    // Files instead of pipes: no reader is needed, and a left-over grandchild blocks nobody.
    let (stdout, stderr) = (scratch()?, scratch()?);
    command
        .stdin(stdin)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    command.process_group(0);
    let mut child = start(command)?;
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(500);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            killpg(pid_of(&child), Signal::SIGKILL)?;
            child.wait()?;
            bail!(
                "{shown} was killed: it took longer than {limit:?}\nstdout: {}\nstderr: {}",
                text(stdout)?,
                text(stderr)?
            );
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    Ok(Output {
        status,
        stdout: text(stdout)?,
        stderr: text(stderr)?,
    })
}

/// [`run`] for a command that must succeed: the error shows both streams.
pub(crate) fn run_well(command: Command, input: &str, limit: Duration) -> Result<Output> {
    let shown = format!("{command:?}");
    let output = run(command, input, limit)?;
    if !output.status.success() {
        bail!(
            "{shown} failed ({})\nstdout: {}\nstderr: {}",
            output.status,
            output.stdout,
            output.stderr
        );
    }
    Ok(output)
}

/// Gives a set-up command its script.
pub(crate) fn feed(command: Command, script: &str) -> Result<()> {
    run_well(command, script, SETUP_LIMIT).map(|_| ())
}

/// Forks here and now; a missing program names the packages that the lab needs.
pub(crate) fn start(mut command: Command) -> Result<Child> {
    let program = Path::new(command.get_program()).display().to_string();
    command.spawn().with_context(|| {
        format!(
            "cannot start {program}. If it is missing: apt-get install {PACKAGES}. If it is not \
             permitted: run as root"
        )
    })
}

/// A line still being written is left for the next look.
fn finished_lines(log: &str) -> impl Iterator<Item = &str> {
    let end = log.rfind('\n').map_or(0, |last| last + 1);
    log[..end].lines()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn scratch() -> Result<File> {
    tempfile::tempfile().context("cannot make a scratch file")
}

fn text(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
