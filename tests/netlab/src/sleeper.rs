//! How does a program come to believe that its machine slept for hours? Between it and the C library stands `asleep.c`, and the
//! clock that counts sleep jumps, as it does when a machine wakes; all other clocks stand still meanwhile, as they do then.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{Daemon, Host, binary};

/// The clock of a daemon.
#[derive(Debug)]
pub struct SleepClock {
    file: File,
    asleep: Duration,
}

impl SleepClock {
    /// Starts the daemon of this host under such a clock, with the state that it has.
    pub fn start(host: &Host) -> Result<(Self, Daemon)> {
        let [source, library, asleep, script] =
            ["asleep.c", "asleep.so", "asleep", "meshd-that-sleeps"]
                .map(|name| host.dir().join(name));
        fs::write(&source, include_str!("asleep.c"))?;
        let mut cc = host.command("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        cc.arg(&library).arg(&source).arg("-ldl");
        let compiled = host.run_command(cc, Duration::from_secs(60))?;
        ensure!(compiled.status.success(), "cc: {}", compiled.stderr);
        fs::write(&asleep, 0_i64.to_ne_bytes())?;
        let text = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} ASLEEP={}\nexec {} \"$@\"\n",
            library.display(),
            asleep.display(),
            binary("meshd")?.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
        let mut daemon = Daemon::launch_program(&script, host, &[])?;
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
