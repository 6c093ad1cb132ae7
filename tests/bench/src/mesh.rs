//! How is a pair of meshd started, so that only their own work is measured?
//!
//! They join a network of a discovery server on a host of its own, meet once, and end. What is
//! measured is their next start: of two members that know each other.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::{Daemon, Discovery, Host, wait_until};
use nix::sys::signal::Signal;

use crate::contestant::Variant;
use crate::echo::first_echo;
use crate::scene::{self, Scene};
use crate::tunnel::{Relay, Tunnel};

const START_LIMIT: Duration = Duration::from_secs(20);

/// Starts both ends and waits for the first echo, and for the direct path, or the relayed one of a contestant that has no other.
pub(crate) fn start(variant: &Variant, scene: &Scene) -> Result<Tunnel> {
    let discovery = discovery(variant, scene)?;
    let a = Launcher::new(variant, &scene.a)?;
    let b = Launcher::new(variant, &scene.b)?;
    let target = introduce(&a, &b, &discovery)?;

    let begun = Instant::now();
    let (mut alice, mut bob) = (a.launch(&[])?, b.launch(&[])?);
    let echo = first_echo(&scene.a, target, begun, START_LIMIT);
    let took = echo.with_context(|| {
        let logs = [&alice, &bob].map(|daemon| daemon.process.log_tail(20));
        format!("the daemons said:\n{}", logs.join("\n"))
    })?;
    alice.wait_ready()?;
    bob.wait_ready()?;
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        match variant.relayed {
            true => prove_relayed(from, &to.name)?,
            false => wait_direct(from, &to.name)?,
        }
    }
    let status = alice.status()?;
    let device = status["interface"].as_str();
    let device = device.context("the status of meshd names no interface")?;
    Ok(Tunnel {
        target,
        mtu: scene::mtu(&scene.a, device)?,
        daemons: vec![alice.process.clone(), bob.process.clone()],
        first_echo: Some(took),
        relay: variant.relayed.then(|| Relay {
            server: discovery.process.clone(),
            ends: [alice, bob],
        }),
    })
}

/// The discovery server, on a host of its own. Where it relays, it does so without the limit of a member, and the router lets
/// nothing pass from A to B or back but what the server sends.
fn discovery(variant: &Variant, scene: &Scene) -> Result<Discovery> {
    let host = scene.bystander("server")?;
    let program = match &variant.build {
        Some(build) if variant.relayed => build.join("discovery-server"),
        Some(_) | None => netlab::binary("discovery-server")?,
    };
    let arguments: &[&str] = match variant.relayed {
        true => &["--turn-rate", "100000"],
        false => &[],
    };
    if variant.relayed {
        scene.keep_apart()?;
    }
    Discovery::start_program(&program, &host, arguments)
}

/// Waits until `from` says that it reaches `peer` through the TURN server, and that a ping came back that way.
fn prove_relayed(from: &Daemon, peer: &str) -> Result<()> {
    let what = format!("a relayed path from {} to {peer}", from.name);
    wait_until(
        &what,
        START_LIMIT,
        || Ok(from.peer(peer)?["path"] == "turn"),
    )?;
    let pong = from.ask(&["ping", peer, "-c", "1"])?;
    ensure!(
        pong.contains("via turn "),
        "a ping that was not relayed: {pong}"
    );
    Ok(())
}

/// Waits until `from` says that it reaches `peer` directly.
pub(crate) fn wait_direct(from: &Daemon, peer: &str) -> Result<()> {
    let what = format!("a direct path from {} to {peer}", from.name);
    wait_until(&what, START_LIMIT, || {
        Ok(from.peer(peer)?["path"] == "direct")
    })?;
    Ok(())
}

/// Creates the network, lets the two meet, and ends both; returns B's address.
fn introduce(a: &Launcher, b: &Launcher, discovery: &Discovery) -> Result<Ipv4Addr> {
    let mut alice = a.launch(&["--server", &discovery.url(), "--name", "alice"])?;
    alice.wait_ready()?;
    let mut bob = b.launch(&["--join", &alice.join_link()?, "--name", "bob"])?;
    bob.wait_ready()?;
    alice.first_echo(&bob, START_LIMIT)?;
    for daemon in [&alice, &bob] {
        daemon.process.signal(Signal::SIGTERM)?;
        let status = daemon.process.wait(START_LIMIT)?;
        ensure!(
            status.success(),
            "{} ended with {status}",
            daemon.process.label()
        );
    }
    bob.ip()
}

/// Starts the same meshd on the same host again and again.
#[derive(Debug)]
struct Launcher {
    host: Host,
    program: PathBuf,
    config: Option<String>,
}

impl Launcher {
    fn new(variant: &Variant, host: &Host) -> Result<Self> {
        let program = match &variant.build {
            Some(build) => build.join("meshd"),
            None => netlab::binary("meshd")?,
        };
        let config = if variant.config.is_null() {
            None
        } else {
            Some(write_config(variant, &host.dir())?)
        };
        Ok(Self {
            host: host.clone(),
            program,
            config,
        })
    }

    fn launch(&self, args: &[&str]) -> Result<Daemon> {
        let config = self.config.iter().flat_map(|path| ["--config", path]);
        let args: Vec<&str> = config.chain(args.iter().copied()).collect();
        Daemon::launch_program(&self.program, &self.host, &args)
    }
}

/// JSON is YAML.
fn write_config(variant: &Variant, directory: &Path) -> Result<String> {
    let path = directory.join("meshd.yaml");
    fs::write(&path, variant.config.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}
