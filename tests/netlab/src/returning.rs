//! How soon is a daemon back that is started again while the discovery server is dead?

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::{Daemon, Discovery, Lab, Nat, wait_until};

/// Daemons note every five seconds where they reached each other.
const NOTED: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(10);

/// How a daemon ends before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM.
    Asked,
    /// SIGKILL.
    Killed,
}

/// One daemon's way back to another.
#[derive(Debug, Clone, Copy)]
pub struct Return {
    /// The NAT of the one that was started again, and of the other.
    pub nats: [Nat; 2],
    /// From the start of the process to the first answer of the other, if it came.
    pub took: Option<Duration>,
}

/// Daemons behind NATs of their own, which know each other, and a dead server.
#[derive(Debug)]
pub struct Returning {
    daemons: Vec<(Nat, Daemon)>,
    _lab: Lab,
}

impl Returning {
    /// Lets all speak with each other that can do so directly, and kills the server when they have noted it.
    pub fn new(name: &str, nats: &[Nat]) -> Result<Self> {
        let lab = Lab::new(name)?;
        let server = lab.internet().public_host("server")?;
        let discovery = Discovery::start(&server)?;
        let mut daemons: Vec<(Nat, Daemon)> = Vec::new();
        for (number, nat) in nats.iter().enumerate() {
            let home = lab.internet().home(&format!("h{number}"), *nat)?;
            let (host, name) = (home.host("pc")?, format!("m{number}"));
            let how = match daemons.first() {
                None => ["--server".to_owned(), discovery.url()],
                Some((_, first)) => ["--join".to_owned(), first.join_link()?],
            };
            let daemon = Daemon::up(&host, &[&how[0], &how[1], "--name", &name])?;
            daemons.push((*nat, daemon));
        }
        let scene = Self { daemons, _lab: lab };
        scene.acquaint()?;
        discovery.process.kill()?;
        for (_, daemon) in &scene.daemons {
            wait_until("it is noticed", LIMIT, || {
                Ok(daemon.status()?["server"]["connected"] == false)
            })?;
        }
        Ok(scene)
    }

    /// How many daemons there are.
    pub fn count(&self) -> usize {
        self.daemons.len()
    }

    /// Ends a daemon, starts it again, and tells how it found each of those that it can reach directly: the oracle's word.
    /// Between others there is nothing while no server relays.
    pub fn restart(&mut self, which: usize, end: End, limit: Duration) -> Result<Vec<Return>> {
        let (nat, old) = self.daemons.get(which).context("no such daemon")?;
        let (nat, host) = (*nat, old.host().clone());
        match end {
            End::Killed => old.kill()?,
            End::Asked => {
                old.process.signal(Signal::SIGTERM)?;
                old.process.wait(LIMIT)?;
            }
        }
        let start = Instant::now();
        let daemon = Daemon::up(&host, &[])?;
        // Until `ready` there is no interface to ping from.
        let ready = start.elapsed();
        let others = self.others(which, nat);
        let found = std::thread::scope(|scope| {
            let asked: Vec<_> = others
                .map(|(other, target)| {
                    let host = &host;
                    let reply = scope.spawn(move || host.first_reply(target.ip()?, limit));
                    (other, reply)
                })
                .collect();
            let answers = asked.into_iter().map(|(other, reply)| {
                let took = reply
                    .join()
                    .map_err(|_| anyhow::anyhow!("a ping panicked"))??
                    .map(|took| ready + took);
                let nats = [nat, other];
                Ok(Return { nats, took })
            });
            answers.collect::<Result<Vec<_>>>()
        })?;
        ensure!(daemon.status()?["server"]["connected"] == false);
        if let Some(place) = self.daemons.get_mut(which) {
            place.1 = daemon;
        }
        Ok(found)
    }

    /// Those that this one can reach directly.
    fn others(&self, which: usize, nat: Nat) -> impl Iterator<Item = (Nat, &Daemon)> {
        let all = self.daemons.iter().enumerate();
        all.filter(move |(number, (other, _))| *number != which && nat.must_be_direct(*other))
            .map(|(_, (other, daemon))| (*other, daemon))
    }

    fn acquaint(&self) -> Result<()> {
        for (number, (nat, daemon)) in self.daemons.iter().enumerate() {
            for (_, other) in self.others(number, *nat) {
                daemon.first_echo(other, LIMIT)?;
                daemon.ask(&["ping", &other.name, "-c", "10", "--until-direct"])?;
            }
        }
        for (number, (nat, daemon)) in self.daemons.iter().enumerate() {
            let file = daemon.state_dir().join("endpoints.json");
            let wanted = self.others(number, *nat).count();
            wait_until("all is noted", NOTED, || {
                let text = fs::read_to_string(&file).unwrap_or_default();
                let noted: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let noted = noted["endpoints"]
                    .as_object()
                    .map_or(0, serde_json::Map::len);
                Ok(noted >= wanted)
            })?;
        }
        Ok(())
    }
}
