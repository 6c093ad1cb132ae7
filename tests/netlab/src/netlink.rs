//! How does a program come to believe that its system does not tell it of its network? See `netlink.c`.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use anyhow::Result;

use crate::{Daemon, Host, preload};

/// What a system does when it is asked by netlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netlink {
    /// All that it should.
    Answers,
    /// It answers questions, and refuses to report changes.
    RefusesToReport,
    /// It answers questions, agrees to report changes, and never does.
    NeverReports,
    /// It refuses every question that is begun from now on.
    Refuses,
}

/// Between one daemon and its system.
#[derive(Debug)]
pub struct NetlinkFilter(File);

impl NetlinkFilter {
    /// Starts the daemon of this host behind such a filter, with the state that it has.
    pub fn start(host: &Host, first: Netlink) -> Result<(Self, Daemon)> {
        let file = host.dir().join("netlink");
        fs::write(&file, letter(first))?;
        let between = ("netlink", include_str!("netlink.c"));
        let script = preload::script(host, between, ("NETLINK", &file))?;
        let mut daemon = Daemon::launch_program(&script, host, &[])?;
        daemon.wait_ready()?;
        Ok((Self(File::options().write(true).open(&file)?), daemon))
    }

    /// It does this from now on.
    pub fn set(&self, does: Netlink) -> Result<()> {
        Ok(self.0.write_all_at(letter(does), 0)?)
    }
}

fn letter(does: Netlink) -> &'static [u8] {
    match does {
        Netlink::Answers => b"y",
        Netlink::RefusesToReport => b"r",
        Netlink::NeverReports => b"s",
        Netlink::Refuses => b"n",
    }
}
