//! What belongs to one lab, and what happens when it ends?

use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};

use crate::host::Host;
use crate::internet::Internet;
use crate::lab_dir::LabDir;
use crate::process::{self, Process};

/// How much of each log a failed test shows.
const TAIL_LINES: usize = 60;

/// A laboratory: an internet, what hangs on it, and the programs that run there.
///
/// Dropping it kills its programs and releases its machines; one whose [`Host`] handle a test
/// still holds goes with that handle. If the thread is panicking, the end of every program's
/// log is printed first. With `NETLAB_KEEP` set the directory of the logs is kept.
#[derive(Debug)]
pub struct Lab {
    core: Arc<LabCore>,
    internet: Internet,
}

impl Lab {
    /// Builds a lab with an internet and nothing on it. `name` appears in messages and in the
    /// path of its directory. Fails, never skips, where namespaces cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let core = Arc::new(LabCore::new(name)?);
        let internet = Internet::new(&core)
            .inspect_err(|_| core.release_machines())
            .with_context(|| format!("cannot build the lab {name:?}"))?;
        Ok(Self { core, internet })
    }

    pub fn internet(&self) -> &Internet {
        &self.internet
    }

    /// The lab's directory on disk, removed with the lab: logs, and one directory per host.
    pub fn dir(&self) -> &Path {
        self.core.dir()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.print_logs();
        }
        self.core.kill_all();
        self.core.release_machines();
    }
}

/// The part of a lab that its hosts share.
#[derive(Debug)]
pub(crate) struct LabCore {
    dir: LabDir,
    processes: Mutex<Vec<Process>>,
    /// Every machine lives until the lab ends, also if the test holds no handle of it: a router
    /// must not go while packets go through it. The cycle is cut when the lab is dropped.
    machines: Mutex<Vec<Host>>,
    launcher: Sender<Launch>,
    serial: AtomicU32,
}

/// A command on its way to the launcher thread, and where the answer goes.
type Launch = (Command, Sender<Result<Child>>);

impl LabCore {
    fn new(name: &str) -> Result<Self> {
        let dir = LabDir::new(name)?;
        let (launcher, launches) = channel();
        std::thread::Builder::new()
            .name("netlab-launcher".to_owned())
            .spawn(move || launch_all(&launches))
            .context("cannot start a thread for the lab")?;
        Ok(Self {
            dir,
            processes: Mutex::default(),
            machines: Mutex::default(),
            launcher,
            serial: AtomicU32::new(0),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a background program for the host named `host`.
    pub(crate) fn spawn(&self, host: &str, command: Command) -> Result<Process> {
        let program = Path::new(command.get_program())
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let log = self.dir().join(format!("{serial:03}-{host}-{program}.log"));
        let process = Process::start(format!("{host}: {program}"), log, command, |command| {
            let (answer, child) = channel();
            self.launcher
                .send((command, answer))
                .map_err(|_| anyhow!("the lab's launcher thread has ended"))?;
            child
                .recv()
                .context("the lab's launcher thread has ended")?
        })?;
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(process.clone());
        Ok(process)
    }

    pub(crate) fn keep(&self, machine: Host) {
        self.machines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(machine);
    }

    fn release_machines(&self) {
        let released =
            std::mem::take(&mut *self.machines.lock().unwrap_or_else(PoisonError::into_inner));
        drop(released);
    }

    fn kill_all(&self) {
        let processes = std::mem::take(
            &mut *self
                .processes
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for process in processes {
            if let Err(error) = process.kill() {
                report(&format!("{error:#}"));
            }
        }
    }

    fn print_logs(&self) {
        let processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for process in processes.iter() {
            let ended = match process.ended() {
                Ok(Some(status)) => format!("ended, {status}"),
                Ok(None) => "running".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            report(&format!(
                "---- {} (pid {}, {ended}), last {TAIL_LINES} lines ----\n{}",
                process.label(),
                process.pid(),
                process.log_tail(TAIL_LINES)
            ));
        }
    }
}

/// Programs die with the thread that forked them (PR_SET_PDEATHSIG). A test may call from a
/// thread that ends early, so all background programs are forked here: this thread lives until
/// the lab's last handle is gone.
fn launch_all(launches: &Receiver<Launch>) {
    while let Ok((command, answer)) = launches.recv() {
        if let Err(unasked) = answer.send(process::start(command)) {
            // The caller is gone; nobody else will ever end this program.
            if let Ok(mut child) = unasked.0
                && let Err(error) = child.kill().and_then(|()| child.wait().map(|_| ()))
            {
                report(&format!(
                    "cannot kill a program that nobody waits for: {error}"
                ));
            }
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the test harness shows it only for a failed test"
)]
fn report(message: &str) {
    eprintln!("{message}");
}
