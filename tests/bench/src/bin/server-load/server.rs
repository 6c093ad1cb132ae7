//! The server under load: a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) admin_token: String,
    _data: TempDir,
}

/// What the process has used so far, and has now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    at: Instant,
    cpu_ticks: u64,
    pub(crate) rss_kb: u64,
}

impl Usage {
    /// Share of one core that was used in between.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> f64 {
        // Linux counts in hundredths of a second for every program, whatever its kernel does.
        let cpu = (self.cpu_ticks - earlier.cpu_ticks) as f64 / 100.0;
        cpu / (self.at - earlier.at).as_secs_f64()
    }
}

impl Server {
    /// Starts the program that `cargo build --release` has made.
    pub(crate) fn start(database: Option<&str>) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(netlab::binary("discovery-server")?);
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--stun-listen",
                "127.0.0.1:0",
            ])
            .arg("--data-dir")
            .arg(data.path());
        if let Some(database) = database {
            command.args(["--database", database]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start discovery-server")?;
        let out = child.stdout.take().context("it has an output")?;
        let lines: Vec<String> = BufReader::new(out)
            .lines()
            .map_while(Result::ok)
            .scan(false, |ended, line| {
                let go_on = !*ended;
                *ended = line.starts_with("ready ");
                go_on.then_some(line)
            })
            .take(2)
            .collect();
        let http = lines
            .iter()
            .flat_map(|line| line.split(' '))
            .find_map(|word| word.strip_prefix("http="))
            .context("the server did not get ready")?
            .parse()?;
        let admin_token = fs::read_to_string(data.path().join("admin-token"))?;
        Ok(Self {
            child,
            http,
            admin_token: admin_token.trim().to_owned(),
            _data: data,
        })
    }

    /// From `/proc`.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let process = format!("/proc/{}", self.child.id());
        let stat = fs::read_to_string(format!("{process}/stat"))?;
        // The name may hold anything, so count from behind its parenthesis; user and system time are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let ticks = fields.split(' ').skip(11).take(2);
        let status = fs::read_to_string(format!("{process}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.context("no VmRSS")?.trim().trim_end_matches(" kB");
        Ok(Usage {
            at: Instant::now(),
            cpu_ticks: ticks.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum(),
            rss_kb: rss.parse()?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
