//! How does a program come to believe that its machine slept for hours? Between it and the C library stands `asleep.c`, and the
//! clock that counts sleep jumps, as it does when a machine wakes; all other clocks stand still meanwhile, as they do then.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{Daemon, Host, preload};

/// The clock of a daemon.
#[derive(Debug)]
pub struct SleepClock {
    file: File,
    asleep: Duration,
}

impl SleepClock {
    /// Starts the daemon of this host under such a clock, with the state that it has.
    pub fn start(host: &Host) -> Result<(Self, Daemon)> {
        Self::start_with(host, &[])
    }

    /// As [`Self::start`], as `meshd up ARGS`.
    pub fn start_with(host: &Host, args: &[&str]) -> Result<(Self, Daemon)> {
        let asleep = host.dir().join("asleep");
        fs::write(&asleep, 0_i64.to_ne_bytes())?;
        let between = ("asleep", include_str!("asleep.c"));
        let script = preload::script(host, between, ("ASLEEP", &asleep))?;
        let mut daemon = Daemon::launch_program(&script, host, args)?;
        daemon.wait_ready()?;
        let file = File::options().write(true).open(&asleep);
        let clock = Self {
            file: file.context("open the clock's file")?,
            asleep: Duration::ZERO,
        };
        Ok((clock, daemon))
    }

    /// The machine was asleep for so long.
    pub fn jump(&mut self, by: Duration) -> Result<()> {
        self.asleep += by;
        let seconds = i64::try_from(self.asleep.as_secs())?;
        Ok(self.file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }
}
