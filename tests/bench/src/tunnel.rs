//! What stands between A and B while a contestant is measured?

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use netlab::Process;

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
}

impl Tunnel {
    pub(crate) fn start(contestant: &Contestant, scene: &Scene, tools: &Tools) -> Result<Self> {
        match &contestant.kind {
            Kind::Bare => Ok(Self {
                target: scene.b.address(),
                mtu: scene::mtu(&scene.a, "eth0")?,
                daemons: Vec::new(),
                first_echo: None,
            }),
            Kind::Meshd(variant) => mesh::start(variant, scene),
            Kind::WireGuard(which) => wireguard::start(*which, &tools.wireguard(*which), scene),
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.daemons.iter().map(Process::pid).collect()
    }

    /// # Errors
    /// With its last words, if a daemon has ended.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.daemons.iter().try_for_each(scene::check_alive)
    }
}
