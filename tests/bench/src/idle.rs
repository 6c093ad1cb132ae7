//! What does a daemon with many silent peers cost?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlab::{Daemon, Discovery, Lab, wait_until};
use serde_json::{Value, json};

use crate::cpu::{resident_mb, thread_seconds};
use crate::options::Times;

/// For all peers together: each is a handshake, on a machine that runs them all.
const LINK_LIMIT: Duration = Duration::from_secs(60);
/// What the last link left to do is done.
const PAUSE: Duration = Duration::from_secs(5);

/// One daemon, observed while it and its peers had nothing to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) peers: usize,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_mb: f64,
}

/// Links one meshd with `peers` others, all of one network, and observes it.
pub(crate) fn observe(peers: usize, times: &Times) -> Result<Idle> {
    let lab = Lab::new("bench-idle")?;
    let discovery = Discovery::start(&lab.internet().public_host("server")?)?;
    let host = lab.internet().public_host("hub")?;
    let hub = Daemon::up(&host, &["--server", &discovery.url(), "--name", "hub"])?;
    let link = hub.join_link()?;
    for number in 1..=peers {
        let name = format!("peer-{number}");
        let peer = lab.internet().public_host(&name)?;
        let peer = Daemon::up(&peer, &["--join", &link, "--name", &name])?;
        hub.first_echo(&peer, LINK_LIMIT)?;
    }
    wait_until("all peers are linked", LINK_LIMIT, || {
        Ok(direct(&hub)? == peers)
    })?;
    std::thread::sleep(PAUSE);

    let pid = hub.process.pid();
    let (begun, before) = (Instant::now(), thread_seconds(pid)?);
    std::thread::sleep(times.idle);
    let (seconds, after) = (begun.elapsed().as_secs_f64(), thread_seconds(pid)?);
    Ok(Idle {
        peers,
        seconds,
        cpu_seconds: after - before,
        resident_mb: resident_mb(pid)?,
    })
}

impl Idle {
    pub(crate) fn to_json(self) -> Value {
        json!({
            "peers": self.peers,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "percent_of_a_core": self.percent(),
            "resident_mb": self.resident_mb,
        })
    }

    pub(crate) fn render(self) -> String {
        format!(
            "meshd with {} silent peers: {:.3} % of a core over {:.0} s, {:.1} MB resident\n",
            self.peers,
            self.percent(),
            self.seconds,
            self.resident_mb
        )
    }

    fn percent(self) -> f64 {
        100.0 * self.cpu_seconds / self.seconds
    }
}

fn direct(daemon: &Daemon) -> Result<usize> {
    let status = daemon.status()?;
    let peers = status["peers"].as_array();
    let peers = peers.context("the status of meshd has no peers")?;
    Ok(peers.iter().filter(|peer| peer["path"] == "direct").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_of_one_core() {
        let idle = Idle {
            peers: 20,
            seconds: 60.0,
            cpu_seconds: 0.03,
            resident_mb: 14.25,
        };
        let text = idle.render();
        assert!(text.contains("0.050 % of a core over 60 s"), "{text}");
        assert!(text.contains("20 silent peers"), "{text}");
    }
}
