//! How is a network namespace made, entered and given back?
//!
//! A namespace is held by one open file descriptor and by nothing else: no name under
//! /run/netns, no holder process. When the last descriptor closes, also by SIGKILL of this
//! process, the kernel removes the namespace with its devices, routes and nftables rules.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace; clones share it.
#[derive(Debug, Clone)]
pub struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// A new, empty namespace with the loopback device up.
    /// Needs CAP_SYS_ADMIN; the error says so.
    pub fn new() -> Result<Self> {
        let file = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?
        .context(
            "cannot make a network namespace: the lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN. \
             Fix: run the tests as root (sudo), or as root of a user namespace where the system \
             allows it: `unshare --user --map-root-user cargo test --release -p netlab`",
        )?;
        let namespace = Self {
            file: Arc::new(file),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A path by which other programs reach the namespace while this process lives, as in
    /// `nsenter --net=PATH` and `ip link ... netns PATH`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.file.as_raw_fd()
        ))
    }

    /// A command that will run in this namespace with the given hostname, and that dies when
    /// the thread that starts it ends.
    pub fn command(&self, program: impl AsRef<Path>, hostname: &str) -> Command {
        let mut command = Command::new(program.as_ref());
        let file = Arc::clone(&self.file);
        let hostname = hostname.to_owned();
        let parent = std::process::id();
        let prepare = move || {
            die_with_parent(parent)?;
            setns(&*file, CloneFlags::CLONE_NEWNET)?;
            unshare(CloneFlags::CLONE_NEWUTS)?;
            set_hostname(&hostname)
        };
        #[allow(
            unsafe_code,
            reason = "a child enters its namespace between fork and exec"
        )]
        // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(prepare);
        }
        command
    }

    /// Runs `work` on a thread of its own inside this namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?
        .context("cannot enter a network namespace of the lab")
    }

    /// Runs lines of the `ip` tool (each without the leading `ip`), stopping at the first error.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = self.command("ip", "lab");
        command.args(["-batch", "-"]);
        crate::process::feed(command, lines).context("cannot set up the lab's network devices")
    }

    /// Loads an nftables script.
    pub fn nft(&self, script: &str) -> Result<()> {
        let mut command = self.command("nft", "lab");
        command.args(["-f", "-"]);
        crate::process::feed(command, script).with_context(|| format!("nft script:\n{script}"))
    }

    /// Writes a kernel setting of this namespace, by its dotted name: `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

/// A thread that has changed its namespace must not serve anybody else, so it ends here.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> Result<io::Result<T>> {
    std::thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .map_err(|_| anyhow!("a thread of the lab panicked"))
    })
}

fn die_with_parent(parent: u32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    // The parent may have died before the line above took effect.
    if nix::unistd::getppid().as_raw() as u32 == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

fn set_hostname(name: &str) -> io::Result<()> {
    #[allow(
        unsafe_code,
        reason = "nix's sethostname is not certain to be free of allocation"
    )]
    // SAFETY: pointer and length describe one live str; the kernel copies it.
    let done = unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
