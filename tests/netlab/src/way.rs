//! Which way do packets take, and does what takes it arrive whole?

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{Daemon, Host, wait_until};

impl Daemon {
    /// Path and transport to a peer, as the daemon shows them: `turn tcp`, or `direct ` with nothing behind it.
    pub fn way(&self, peer: &str) -> Result<String> {
        let peer = self.peer(peer)?;
        let path = peer["path"].as_str().context("a peer has no path")?;
        let transport = peer["transport"].as_str().unwrap_or_default();
        Ok(format!("{path} {transport}"))
    }

    /// Waits until [`Self::way`] is this one; returns how long that took.
    pub fn wait_for_way(&self, peer: &str, wanted: &str, limit: Duration) -> Result<Duration> {
        wait_until(wanted, limit, || Ok(self.way(peer)? == wanted))
    }

    /// What is wrong, as text.
    pub fn health(&self) -> Result<String> {
        Ok(self.status()?["health"].to_string())
    }

    /// Has `to` fetch a new file of `bytes` from a share of this one, which must arrive whole; returns how long the transfer
    /// took. Once for each pair of hosts.
    pub fn check_bulk(&self, to: &Self, bytes: u32) -> Result<Duration> {
        let folder = self.host().dir().join("documents");
        fs::create_dir(&folder)?;
        let folder = folder.to_str().context("a directory's name")?;
        let make = format!("head -c {bytes} /dev/urandom > {folder}/big.bin");
        self.host().sh(&make)?;
        self.ask(&["share", "add", "docs", folder, "--to", "all"])?;
        let start = Instant::now();
        let fetch = format!("curl -sS -f -O http://{}/docs/big.bin", self.virtual_ip);
        to.host().sh(&fetch)?;
        let took = start.elapsed();
        let sum = |host: &Host, file: &str| -> Result<String> {
            Ok(host.sh(&format!("sha256sum < {file}"))?.stdout)
        };
        let whole = sum(self.host(), "documents/big.bin")?;
        ensure!(
            sum(to.host(), "big.bin")? == whole,
            "it is not the same file"
        );
        Ok(took)
    }
}
