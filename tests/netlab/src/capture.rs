//! What passes a device, as tcpdump tells it?

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::{Host, Process, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
/// KiB of packets that may wait for a busy tcpdump.
const BUFFER: &str = "32768";

/// Bytes of a packet that are kept, and reserved: more than a packet of the mesh and its envelope.
const SNAPSHOT: &str = "2048";

/// A running tcpdump; it ends with the lab at the latest.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    host: Host,
    file: PathBuf,
}

impl Capture {
    /// Starts it on `device` for packets of one direction (`in`, `out` or `inout`) that `filter` lets through, and waits
    /// until it listens.
    pub fn start(host: &Host, device: &str, direction: &str, filter: &str) -> Result<Self> {
        let file = host.dir().join(format!("{device}-{direction}.pcap"));
        let mut command = host.command("tcpdump");
        command.args(["-i", device, "-Q", direction, "-B", BUFFER, "-Z", "root"]);
        command.args(["--immediate-mode", "-s", SNAPSHOT, "-U", "-w"]);
        command.arg(&file).arg(filter);
        let process = host.spawn_command(command)?;
        process.wait_for_line("listening on", LIMIT)?;
        Ok(Self {
            process,
            host: host.clone(),
            file,
        })
    }

    /// Waits until `text` has been told `times` times, ends it, and returns all that it told: each packet with the fields
    /// of its headers and, up to 2 KiB, a judgement of its checksums. Fails if it missed one.
    pub fn finish(self, text: &str, times: usize) -> Result<String> {
        wait_until(&format!("{text:?} captured {times} times"), LIMIT, || {
            Ok(self.told()?.matches(text).count() >= times)
        })?;
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(LIMIT)?;
        let summary = self.process.log_tail(3);
        ensure!(
            summary.contains("\n0 packets dropped by kernel"),
            "{summary}"
        );
        self.told()
    }

    fn told(&self) -> Result<String> {
        let mut command = self.host.command("tcpdump");
        command.args(["-n", "-vv", "-r"]).arg(&self.file);
        let output = self.host.run_command(command, LIMIT)?;
        // A last packet that is half written is no failure of ours.
        Ok(output.stdout)
    }
}
