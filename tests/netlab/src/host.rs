//! What can a test do with one machine of the lab?

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::LabCore;
use crate::link::Link;
use crate::measure::{Counters, PingReport};
use crate::namespace::Namespace;
use crate::process::{self, Output, Process};

/// What [`Host::run`] gives a program; longer work says so with [`Host::run_command`].
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A machine of the lab (a host or a router): a network namespace with its own hostname.
/// Clones are handles of the same machine. Files are shared by all machines, so give each
/// program files in its own [`Host::dir`].
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    namespace: Namespace,
    core: Arc<LabCore>,
    place: Mutex<Option<Place>>,
}

/// Where a machine is plugged in.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) device: &'static str,
    pub(crate) cable: Cable,
}

#[derive(Debug)]
pub(crate) enum Cable {
    /// A veth pair: its far end is the device `port` in the namespace `there`.
    Plain {
        there: Namespace,
        port: String,
        /// The routes that `port` lost when it was taken down.
        lost: Vec<String>,
    },
    Shaped(Link),
}

impl Cable {
    pub(crate) fn plain(there: &Namespace, port: &str) -> Self {
        Self::Plain {
            there: there.clone(),
            port: port.to_owned(),
            lost: Vec::new(),
        }
    }
}

impl Host {
    pub(crate) fn new(core: &Arc<LabCore>, name: &str) -> Result<Self> {
        let namespace = Namespace::new()?;
        let dir = core.dir().join(name);
        std::fs::create_dir(&dir).with_context(|| {
            format!(
                "cannot make {}; does the lab have two machines {name:?}?",
                dir.display()
            )
        })?;
        // No reverse path filter, as on most systems. IPv6 addresses are usable at once, and
        // nobody waits for a router advertisement.
        for (key, value) in [
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv6.conf.default.accept_ra", "0"),
        ] {
            namespace.sysctl(key, value)?;
        }
        let host = Self(Arc::new(Inner {
            name: name.to_owned(),
            namespace,
            core: Arc::clone(core),
            place: Mutex::default(),
        }));
        core.keep(host.clone());
        Ok(host)
    }

    /// Unique in the lab, and the hostname that programs see.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// A directory on disk for this machine's files, removed with the lab.
    pub fn dir(&self) -> PathBuf {
        self.0.core.dir().join(&self.0.name)
    }

    /// The IPv4 address of the device that leads to the internet; unspecified (0.0.0.0) for a
    /// machine that is plugged in nowhere.
    pub fn address(&self) -> Ipv4Addr {
        self.with_place(|place| {
            place
                .as_ref()
                .map_or(Ipv4Addr::UNSPECIFIED, |it| it.address)
        })
    }

    /// The shaped cable of this machine, if it has one.
    pub fn link(&self) -> Option<Link> {
        self.with_place(|place| match place.as_ref()?.cable {
            Cable::Shaped(ref link) => Some(link.clone()),
            Cable::Plain { .. } => None,
        })
    }

    /// A command to run on this machine. It dies with the thread that starts it; for the
    /// background use [`Host::spawn`].
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.0.namespace.command(program, &self.0.name);
        command.current_dir(self.dir());
        command
    }

    /// Runs a program to its end; it must succeed within 60 s.
    pub fn run(
        &self,
        program: impl AsRef<Path>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Output> {
        let mut command = self.command(program);
        command.args(args);
        process::run_well(command, "", RUN_LIMIT).with_context(|| format!("on {}", self.name()))
    }

    /// Runs a command made by [`Host::command`] to its end, whatever its exit status. Fails if
    /// it does not start or takes longer than `limit`.
    pub fn run_command(&self, command: Command, limit: Duration) -> Result<Output> {
        process::run(command, "", limit).with_context(|| format!("on {}", self.name()))
    }

    /// Starts a program in the background, with both streams in a log file.
    pub fn spawn(
        &self,
        program: impl AsRef<Path>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Process> {
        let mut command = self.command(program);
        command.args(args);
        self.spawn_command(command)
    }

    /// Starts a command made by [`Host::command`] in the background. It lives until it ends, is
    /// killed, or the lab is dropped.
    pub fn spawn_command(&self, command: Command) -> Result<Process> {
        self.0
            .core
            .spawn(&self.0.name, command)
            .with_context(|| format!("on {}", self.name()))
    }

    /// What `device` (`eth0`, `mesh0`, a router's `wan`) has carried so far.
    pub fn counters(&self, device: &str) -> Result<Counters> {
        Counters::parse(
            &self
                .run("ip", ["-j", "-s", "link", "show", "dev", device])?
                .stdout,
        )
    }

    /// Sends `count` pings, five a second, and waits up to a second for each answer. No answer
    /// is not an error.
    pub fn ping(&self, target: Ipv4Addr, count: u32) -> Result<PingReport> {
        self.ping_each(Duration::from_millis(200), target, count)
    }

    /// [`Host::ping`] with another time between requests (2 ms at least).
    pub fn ping_each(&self, gap: Duration, target: Ipv4Addr, count: u32) -> Result<PingReport> {
        let mut command = self.command("ping");
        command
            .args(["-n", "-W", "1", "-c", &count.to_string()])
            .args(["-i", &gap.as_secs_f64().to_string(), &target.to_string()]);
        let limit = gap * count + RUN_LIMIT;
        PingReport::parse(&self.run_command(command, limit)?.stdout)
    }

    /// Plugs the machine's cable in or pulls it: the device sees its carrier come or go, and
    /// keeps its addresses and routes.
    pub fn set_link(&self, up: bool) -> Result<()> {
        self.with_place(
            |place| match &mut place.as_mut().context("plugged in nowhere")?.cable {
                Cable::Plain { there, port, lost } => switch_port(there, port, lost, up),
                Cable::Shaped(link) => link.set_carrier(up),
            },
        )
        .with_context(|| format!("cannot switch the cable of {}", self.name()))
    }

    /// Writes a kernel setting of this machine, as in
    /// `sysctl("net.netfilter.nf_conntrack_udp_timeout", "2")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.0
            .namespace
            .sysctl(key, value)
            .with_context(|| format!("on {}", self.name()))
    }

    pub(crate) fn core(&self) -> &Arc<LabCore> {
        &self.0.core
    }

    /// Takes the machine's cable and device away.
    pub(crate) fn unplug(&self) -> Result<()> {
        self.with_place(|place| match place.take() {
            Some(Place { device, cable, .. }) => {
                self.0.namespace.ip(&format!("link del {device}"))?;
                drop(cable);
                Ok(())
            }
            None => Ok(()),
        })
    }

    pub(crate) fn settle(&self, place: Place) {
        self.with_place(|slot| *slot = Some(place));
    }

    fn with_place<T>(&self, look: impl FnOnce(&mut Option<Place>) -> T) -> T {
        look(&mut self.0.place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A veth has no carrier while its far end is down. A device that goes down loses its routes,
/// so they are kept in `lost` until it comes up.
fn switch_port(there: &Namespace, port: &str, lost: &mut Vec<String>, up: bool) -> Result<()> {
    if up {
        there.ip(&format!("link set {port} up"))?;
        let restore = lost
            .drain(..)
            .map(|route| format!("route replace {route} dev {port}\n"));
        return there.ip(&restore.collect::<String>());
    }
    let mut show = there.command("ip", "lab");
    show.args(["-4", "route", "show", "dev", port]);
    let routes = process::run_well(show, "", RUN_LIMIT)?.stdout;
    lost.extend(routes.lines().map(str::to_owned));
    there.ip(&format!("link set {port} down"))
}
