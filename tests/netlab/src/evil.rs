//! How does a test put a lying discovery server in front of a real one?

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use crate::{Host, Process, binary};

const START_LIMIT: Duration = Duration::from_secs(30);
const PORT: u16 = 7090;

/// An `evil-server` in front of the `discovery-server` of the same host. Daemons that it has are told its lies.
#[derive(Debug)]
pub struct EvilServer {
    pub process: Process,
    host: Host,
}

impl EvilServer {
    /// Starts it with one of its lies; some of them point to `elsewhere`.
    pub fn start(host: &Host, lie: &str, elsewhere: Option<SocketAddr>) -> Result<Self> {
        let at = |port| SocketAddr::from((host.address(), port)).to_string();
        let mut command = host.command(binary("evil-server")?);
        command.args([&at(PORT), &at(7080), lie]);
        command.args(elsewhere.map(|address| address.to_string()));
        let process = host.spawn_command(command)?;
        process.wait_for_line("ready", START_LIMIT)?;
        let host = host.clone();
        Ok(Self { process, host })
    }

    /// Ends it, and starts it again with another lie.
    pub fn change(&mut self, lie: &str, elsewhere: Option<SocketAddr>) -> Result<()> {
        self.process.kill()?;
        *self = Self::start(&self.host, lie, elsewhere)?;
        Ok(())
    }

    /// How often it has said so since it was started or changed, see its own page.
    pub fn said(&self, line: &str) -> usize {
        let log = self.process.log();
        log.lines().filter(|said| *said == line).count()
    }

    /// What `--server` takes.
    pub fn url(&self) -> String {
        format!("http://{}:{PORT}", self.host.address())
    }
}
