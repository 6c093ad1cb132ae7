//! Does an echo get through while something else happens?

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

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
    ///
    /// It is interrupted just after an answer, so that the last question is not still under way: that would be called lost.
    /// Without an answer for a second it has lost some anyway.
    pub fn end(&self) -> Result<(usize, usize)> {
        let answers = || self.log().matches(" bytes from ").count();
        let (before, start) = (answers(), Instant::now());
        while answers() == before && start.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(5));
        }
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
