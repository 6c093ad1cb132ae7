//! What stands between A and B while a contestant is measured?

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use netlab::{Daemon, Process};

use crate::contestant::{Contestant, Kind};
use crate::scene::{self, Scene};
use crate::tools::Tools;
use crate::{mesh, wireguard};

/// A tunnel that has carried its first echo.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Where B is reached from A.
    pub(crate) target: Ipv4Addr,
    /// Of A's interface.
    pub(crate) mtu: u32,
    /// The daemon of A, then that of B; nobody for the bare path.
    pub(crate) daemons: Vec<Process>,
    /// From just before the first daemon is started until an echo is answered, with all
    /// configuration between; `None` where nothing is started.
    pub(crate) first_echo: Option<Duration>,
    /// Where everything goes through a TURN server.
    pub(crate) relay: Option<Relay>,
}

/// A TURN server, and the two that it relays for.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) server: Process,
    pub(crate) ends: [Daemon; 2],
}

impl Relay {
    /// # Errors
    /// If the two reach each other in another way now.
    fn check(&self) -> Result<()> {
        let [a, b] = &self.ends;
        for (from, to) in [(a, b), (b, a)] {
            let path = &from.peer(&to.name)?["path"];
            ensure!(
                path == "turn",
                "{} reaches {} by the path {path}",
                from.name,
                to.name
            );
        }
        scene::check_alive(&self.server)
    }
}

impl Tunnel {
    pub(crate) fn start(contestant: &Contestant, scene: &Scene, tools: &Tools) -> Result<Self> {
        match &contestant.kind {
            Kind::Bare => Ok(Self {
                target: scene.b.address(),
                mtu: scene::mtu(&scene.a, "eth0")?,
                daemons: Vec::new(),
                first_echo: None,
                relay: None,
            }),
            Kind::Meshd(variant) => mesh::start(variant, scene),
            Kind::WireGuard(which) => wireguard::start(*which, &tools.wireguard(*which), scene),
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.daemons.iter().map(Process::pid).collect()
    }

    /// # Errors
    /// With its last words, if a daemon has ended; and if what was to be relayed is not.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.daemons.iter().try_for_each(scene::check_alive)?;
        self.relay.as_ref().map_or(Ok(()), Relay::check)
    }
}
