//! How do two daemons behind any two kinds of NAT meet, and how soon?

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sim::oracle::{must_be_direct, must_meet_by_birthday};

use crate::{Daemon, Host, Nat, Pair};

/// The kinds whose pairs make the matrix.
pub const MATRIX: [Nat; 9] = [
    Nat::OneToOne,
    Nat::FullCone,
    Nat::AddressRestricted,
    Nat::PortRestricted,
    Nat::Leaky,
    Nat::Symmetric,
    Nat::Cgnat,
    Nat::CgnatSymmetric,
    Nat::UdpBlocked,
];

/// How two daemons met that had not spoken before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// What bob shows at the end: `direct`, `turn`, `relay` or `none`.
    pub path: String,
    /// From the first ping to its answer, or that to a later one.
    pub first_reply: Option<Duration>,
    /// From the first ping until `meshd ping` has an answer over a direct path.
    pub direct: Option<Duration>,
}

impl Nat {
    /// Whether daemons behind these two must find a direct path: the simulator's oracle.
    pub fn must_be_direct(self, other: Self) -> bool {
        must_be_direct(self.place(), other.place())
    }

    /// Whether they must find one by birthday probing, after they were relayed: likewise.
    pub fn must_meet_by_birthday(self, other: Self) -> bool {
        must_meet_by_birthday(self.place(), other.place())
    }
}

impl Pair {
    /// Lets bob ping alice until there is an answer, and then watches for a direct path, each for at most `limit`.
    pub fn meet(&self, limit: Duration) -> Result<Meeting> {
        let start = Instant::now();
        let first_reply = self.bob.host().first_reply(self.alice.ip()?, limit)?;
        let Some(end) = first_reply.map(|took| took + limit) else {
            let peer = self.bob.peer(&self.alice.name)?;
            let path = peer["path"].as_str().unwrap_or_default().to_owned();
            return Ok(Meeting {
                path,
                first_reply,
                direct: None,
            });
        };
        loop {
            let path = self.bob.path_of_pong(&self.alice)?;
            let took = start.elapsed();
            let direct = (path == "direct").then_some(took);
            if direct.is_some() || took > end {
                return Ok(Meeting {
                    path,
                    first_reply,
                    direct,
                });
            }
        }
    }
}

impl Daemon {
    /// Over what kind of path the answer to one ping comes; `none` without an answer. Newer than the status, which is
    /// published once a second.
    fn path_of_pong(&self, to: &Self) -> Result<String> {
        let answer = self.cli(&["ping", &to.name, "-c", "1"])?.stdout;
        let mut words = answer.split_whitespace().skip_while(|word| *word != "via");
        Ok(words.nth(1).unwrap_or("none").to_owned())
    }
}

impl Host {
    /// Pings `target` fifty times a second until the first answer, and returns how long after the first ping that came.
    pub fn first_reply(&self, target: Ipv4Addr, limit: Duration) -> Result<Option<Duration>> {
        let mut ping = self.command("ping");
        ping.args(["-n", "-q", "-i", "0.02", "-c", "1", "-w"])
            .args([limit.as_secs().max(1).to_string(), target.to_string()]);
        let start = Instant::now();
        let output = self.run_command(ping, limit + Duration::from_secs(5))?;
        ensure!(output.stderr.is_empty(), "ping: {}", output.stderr);
        Ok(output.status.success().then(|| start.elapsed()))
    }
}
