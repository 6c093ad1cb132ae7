//! How do the real programs run on the lab's machines, as a user would run them?

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Host, Output, Process, binary};

/// Enough for a start on a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A `discovery-server` on a public host.
#[derive(Debug)]
pub struct Discovery {
    pub process: Process,
    program: PathBuf,
    host: Host,
    replica: Option<Replica>,
    arguments: Vec<String>,
}

/// One of several discovery servers of a machine that share a database.
#[derive(Debug, Clone)]
struct Replica {
    number: u16,
    database: String,
}

impl Discovery {
    /// Starts it with its default ports and waits until it serves.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_with(host, &[])
    }

    /// As [`Self::start`], with more arguments.
    pub fn start_with(host: &Host, arguments: &[&str]) -> Result<Self> {
        Self::start_program(&binary("discovery-server")?, host, arguments)
    }

    /// As [`Self::start_with`], of another build.
    pub fn start_program(program: &Path, host: &Host, arguments: &[&str]) -> Result<Self> {
        Self::start_as(program, host, None, arguments)
    }

    /// Starts the one with this number, from 0 on, of several that share a database.
    pub fn start_replica(host: &Host, number: u16, database: &str) -> Result<Self> {
        let database = database.to_owned();
        let program = binary("discovery-server")?;
        Self::start_as(&program, host, Some(Replica { number, database }), &[])
    }

    fn start_as(
        program: &Path,
        host: &Host,
        replica: Option<Replica>,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = host.command(program);
        command
            .arg("serve")
            .args(arguments)
            .arg("--data-dir")
            .arg(host.dir().join("discovery"));
        if let Some(Replica { number, database }) = &replica {
            let [http, stun] = [7080, 3478].map(|port| format!("0.0.0.0:{}", port + number * 100));
            command.args([
                "--database",
                database,
                "--listen",
                &http,
                "--stun-listen",
                &stun,
            ]);
        }
        let process = host.spawn_command(command)?;
        process.wait_for_line("ready", START_LIMIT)?;
        Ok(Self {
            process,
            program: program.to_path_buf(),
            host: host.clone(),
            replica,
            arguments: arguments.iter().map(ToString::to_string).collect(),
        })
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.host.dir().join("discovery")
    }

    /// Kills it, if it still runs, and starts it again with the same data and arguments.
    pub fn restart(&self) -> Result<Self> {
        self.process.kill()?;
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Self::start_as(&self.program, &self.host, self.replica.clone(), &arguments)
    }

    /// What `--server` takes.
    pub fn url(&self) -> String {
        let number = self.replica.as_ref().map_or(0, |replica| replica.number);
        format!("http://{}:{}", self.host.address(), 7080 + number * 100)
    }
}

/// A `meshd` with a state directory of its own.
#[derive(Debug)]
pub struct Daemon {
    pub process: Process,
    /// As its `ready` line says.
    pub name: String,
    pub virtual_ip: String,
    host: Host,
    state: PathBuf,
    program: PathBuf,
}

impl Daemon {
    /// Runs `meshd up ARGS` and waits for its `ready` line. A second start on the same host uses the same state.
    pub fn up(host: &Host, args: &[&str]) -> Result<Self> {
        let mut daemon = Self::launch(host, args)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Starts it and returns at once.
    pub fn launch(host: &Host, args: &[&str]) -> Result<Self> {
        Self::launch_program(&binary("meshd")?, host, args)
    }

    /// As [`Self::launch`], with the `meshd` of another build.
    pub fn launch_program(program: &Path, host: &Host, args: &[&str]) -> Result<Self> {
        Self::launch_in(&host.dir().join("state"), (program, host), args)
    }

    /// As [`Self::up`], beside another daemon of this host: the name of its interface is that of its state directory too.
    pub fn up_beside(host: &Host, interface: &str, args: &[&str]) -> Result<Self> {
        let state = host.dir().join(interface);
        let args = [&["--interface", interface], args].concat();
        let mut daemon = Self::launch_in(&state, (&binary("meshd")?, host), &args)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn launch_in(state: &Path, (program, host): (&Path, &Host), args: &[&str]) -> Result<Self> {
        let mut command = host.command(program);
        command.args(["up", "--state-dir"]).arg(state).args(args);
        // A file of the machine that runs the tests is none of the lab's, and neither is its proxy.
        for name in ["MESHD_CONFIG", "MESHD_STATE_DIR"] {
            command.env_remove(name);
        }
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        let process = host.spawn_command(command)?;
        Ok(Self {
            process,
            name: String::new(),
            virtual_ip: String::new(),
            host: host.clone(),
            state: state.to_path_buf(),
            program: program.to_path_buf(),
        })
    }

    /// Waits for `ready NAME IP`.
    pub fn wait_ready(&mut self) -> Result<()> {
        let line = self.process.wait_for_line("ready ", START_LIMIT)?;
        let mut words = line.split_whitespace().skip(1);
        self.name = words
            .next()
            .context("no name in the ready line")?
            .to_owned();
        self.virtual_ip = words
            .next()
            .context("no address in the ready line")?
            .to_owned();
        Ok(())
    }

    /// The join link that the creator printed.
    pub fn join_link(&self) -> Result<String> {
        let line = self.process.wait_for_line("join http", START_LIMIT)?;
        let link = line
            .split_whitespace()
            .find(|word| word.starts_with("http"));
        Ok(link.context("no link in the join line")?.to_owned())
    }

    /// Runs a command of the command line against this daemon, whatever its exit status.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.host.command(&self.program);
        command.arg("--state-dir").arg(&self.state).args(args);
        self.host.run_command(command, START_LIMIT)
    }

    /// As [`Self::cli`], but it must succeed; returns what it printed.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        let output = self.cli(args)?;
        ensure!(
            output.status.success(),
            "meshd {args:?} on {}: {}\n{}{}",
            self.host.name(),
            output.status,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// `meshd status --json`
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["status", "--json"])?)?)
    }

    /// Whether `status` says that a discovery server is there.
    pub fn is_connected(&self) -> Result<bool> {
        Ok(self.status()?["server"]["connected"] == true)
    }

    /// What `status` says of the trouble with the server; empty while the API is not there or there is none.
    pub fn trouble(&self) -> String {
        let status = self.status().unwrap_or_default();
        let trouble = status["server"]["error"].as_str();
        trouble.unwrap_or_default().to_owned()
    }

    /// What `status` says of one peer.
    pub fn peer(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let peers = status["peers"].as_array().context("status has no peers")?;
        let peer = peers.iter().find(|peer| peer["name"] == name);
        peer.cloned()
            .with_context(|| format!("status of {} has no peer {name}: {status:#}", self.name))
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }
}
