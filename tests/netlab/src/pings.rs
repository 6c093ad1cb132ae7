//! Does an echo get through while something else happens?

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::{Daemon, PingReport, Process};

/// `ping` in the background, five times a second.
#[derive(Debug)]
pub struct Pings(Process);

impl Pings {
    /// One machine pings the other's virtual address until told to end.
    pub fn start(from: &Daemon, to: &Daemon) -> Result<Self> {
        let arguments = ["-n", "-O", "-i", "0.2", "-W", "2", to.virtual_ip.as_str()];
        from.host().spawn("ping", arguments).map(Self)
    }

    /// Ends it; how many were sent, and how many of them were lost.
    pub fn end(&self) -> Result<(usize, usize)> {
        self.0.signal(Signal::SIGINT)?;
        self.0.wait(Duration::from_secs(5))?;
        let report = PingReport::parse(&self.0.log())?;
        Ok((report.sent, report.sent - report.received()))
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.0.log()
    }
}
