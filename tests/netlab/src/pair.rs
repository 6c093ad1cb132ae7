//! Two homes and a server, linked: the scene that most tests of the mesh begin with.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{Daemon, Discovery, Home, Host, Lab, Nat, Output};

/// The server and two daemons, `alice` and `bob`, on hosts `alice-pc` and `bob-pc` behind routers of some kind.
#[derive(Debug)]
pub struct Pair {
    pub alice: Daemon,
    pub bob: Daemon,
    pub server: Host,
    pub discovery: Discovery,
    /// Alice's and bob's.
    pub homes: [Home; 2],
    /// Last, so that it is dropped last.
    pub lab: Lab,
}

impl Pair {
    /// Builds the lab, creates the network on alice and joins bob. Nothing has been sent between the two yet.
    pub fn new(name: &str, nats: [Nat; 2]) -> Result<Self> {
        Self::configured(name, nats, ["", ""])
    }

    /// As [`Self::new`], with the text of a configuration file for each.
    pub fn configured(name: &str, nats: [Nat; 2], configurations: [&str; 2]) -> Result<Self> {
        Self::built(name, nats, configurations, |_, _| Ok(()))
    }

    /// As [`Self::new`], with a change to the lab before the daemons start.
    pub fn prepared(
        name: &str,
        nats: [Nat; 2],
        prepare: impl FnOnce(&Lab, [(&Home, &Host); 2]) -> Result<()>,
    ) -> Result<Self> {
        Self::built(name, nats, ["", ""], prepare)
    }

    fn built(
        name: &str,
        nats: [Nat; 2],
        configurations: [&str; 2],
        prepare: impl FnOnce(&Lab, [(&Home, &Host); 2]) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let server = lab.internet().public_host("server")?;
        let discovery = Discovery::start(&server)?;
        let homes = [
            lab.internet().home("alice", nats[0])?,
            lab.internet().home("bob", nats[1])?,
        ];
        let (a, b) = (homes[0].host("pc")?, homes[1].host("pc")?);
        prepare(&lab, [(&homes[0], &a), (&homes[1], &b)])?;
        let up = |host: &Host, text: &str, args: [&str; 4]| {
            let file = host.dir().join("mesh.yaml");
            std::fs::write(&file, text)?;
            let file = file.to_str().context("the lab's paths are text")?;
            Daemon::up(host, &[&args[..], &["--config", file]].concat())
        };
        let [first, second] = configurations;
        let alice = up(&a, first, ["--server", &discovery.url(), "--name", "alice"])?;
        let bob = up(&b, second, ["--join", &alice.join_link()?, "--name", "bob"])?;
        Ok(Self {
            alice,
            bob,
            server,
            discovery,
            homes,
            lab,
        })
    }

    /// Waits until each has heard of the other, as two members have that were not started this very moment.
    pub fn acquaint(&self) -> Result<()> {
        for (one, other) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            let what = format!("{} has heard of {}", one.name, other.name);
            wait_until(&what, Duration::from_secs(10), || {
                let status = one.status()?;
                let peers = status["peers"].as_array().context("status has no peers")?;
                let there = |peer: &serde_json::Value| {
                    peer["name"] == other.name.as_str() && peer["online"] == true
                };
                Ok(peers.iter().any(there))
            })?;
        }
        Ok(())
    }

    /// A pair that has exchanged its first echo, and is direct where it can be: the first packets may have been relayed.
    pub fn linked(name: &str, nats: [Nat; 2]) -> Result<Self> {
        let pair = Self::new(name, nats)?;
        pair.alice.first_echo(&pair.bob, Duration::from_secs(5))?;
        if nats[0].must_be_direct(nats[1]) {
            let until_direct = ["ping", "bob", "-c", "10", "--until-direct"];
            pair.alice.ask(&until_direct)?;
        }
        Ok(pair)
    }
}

impl Daemon {
    /// Its first virtual address.
    pub fn ip(&self) -> Result<Ipv4Addr> {
        self.virtual_ip
            .parse()
            .with_context(|| format!("{:?} is no IPv4 address", self.virtual_ip))
    }

    /// Pings `to` by its virtual address until an echo comes back; returns how long that took.
    pub fn first_echo(&self, to: &Self, limit: Duration) -> Result<Duration> {
        // A reply within 200 ms or another try: what is measured is the mesh, not the patience of ping.
        let target = to.virtual_ip.as_str();
        wait_until(
            &format!("echo from {} to {}", self.name, to.name),
            limit,
            || {
                let mut ping = self.host().command("ping");
                ping.args(["-n", "-c", "1", "-W", "0.2", target]);
                Ok(self.host().run_command(ping, limit)?.status.success())
            },
        )
        .with_context(|| format!("{}\n{}", self.view(), to.view()))
    }

    /// What it says of itself and the others, for the reader of a failure.
    fn view(&self) -> String {
        let peers = self.ask(&["status"]);
        format!(
            "{} says: {}",
            self.name,
            peers.unwrap_or_else(|error| format!("{error:#}"))
        )
    }
}

impl Host {
    /// Runs a line of shell, which must succeed within 60 s.
    pub fn sh(&self, line: &str) -> Result<Output> {
        self.run("sh", ["-ec", line])
    }

    /// Runs a line of shell, whatever its exit status.
    pub fn try_sh(&self, line: &str) -> Result<Output> {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        self.run_command(command, Duration::from_secs(60))
    }
}

/// Asks until it holds; returns how long that took. Fails after `limit`.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}
