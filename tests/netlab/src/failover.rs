//! For how long is a stream of packets cut off when the direct path that it takes carries no more, though nobody has moved?

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{Daemon, Nat, Pair, stream::Stream};

/// The stream runs for so long before: all that the last run began has ended.
const CALM: Duration = Duration::from_secs(3);
/// A path that has healed is taken again within this time.
const BACK: Duration = Duration::from_secs(90);
/// A path that loses much is left within this time, or never.
const LEFT: Duration = Duration::from_secs(15);

/// What becomes of the direct path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// Nothing gets through.
    Dead,
    /// Nothing gets from the sender to the receiver.
    DeadThere,
    /// Nothing gets from the receiver to the sender, which nobody but the sender's daemon could notice.
    DeadBack,
    /// A fifth is lost each way. What counts is when both sides have left it: the stream goes on all the time.
    Lossy,
}

impl Failover {
    pub const ALL: [Self; 4] = [Self::Dead, Self::DeadThere, Self::DeadBack, Self::Lossy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead both ways",
            Self::DeadThere => "dead to the receiver",
            Self::DeadBack => "dead to the sender",
            Self::Lossy => "a fifth lost",
        }
    }

    /// What is lost of what the sender sends, and of what it is sent, in percent.
    fn losses(self) -> [u32; 2] {
        match self {
            Self::Dead => [100, 100],
            Self::DeadThere => [100, 0],
            Self::DeadBack => [0, 100],
            Self::Lossy => [20, 20],
        }
    }
}

/// Two daemons with a direct path, and a relay that they could take.
#[derive(Debug)]
pub struct Failing(pub Pair);

impl Failing {
    pub fn new(name: &str) -> Result<Self> {
        Pair::linked(name, [Nat::PortRestricted, Nat::FullCone]).map(Self)
    }

    /// How long the stream from alice to bob stood still, or how long a path that loses was kept; afterwards it is whole and in
    /// use again.
    pub fn run(&self, failover: Failover) -> Result<Duration> {
        let Self(pair) = self;
        let is_at = |way: &str, limit| {
            pair.alice.wait_for_way("bob", way, limit)?;
            pair.bob.wait_for_way("alice", way, limit)
        };
        is_at("direct ", BACK)?;
        let stream = Stream::open(&pair.alice, &pair.bob)?;
        let mut left = None;
        let gap = stream.during(|| {
            sleep(CALM);
            pair.lose(failover.losses())?;
            let since = Instant::now();
            if failover == Failover::Lossy {
                is_at("turn udp", LEFT)?;
                left = Some(since.elapsed());
            }
            Ok(since)
        });
        let logs = |daemon: &Daemon| daemon.process.log_tail(30);
        let gap = gap.with_context(|| [&pair.alice, &pair.bob].map(logs).join("\n"))?;
        // For both sides to have settled before it heals.
        sleep(CALM);
        pair.lose([0, 0])?;
        Ok(left.unwrap_or(gap))
    }
}

impl Pair {
    /// What goes straight from alice's home to bob's, and from bob's to alice's, loses these percentages. What goes to the server and
    /// comes from it does not.
    pub fn lose(&self, [there, back]: [u32; 2]) -> Result<()> {
        let [a, b] = [&self.homes[0], &self.homes[1]].map(|home| home.router().address());
        let chance = |percent| match percent {
            0 => "accept".to_owned(),
            100 => "drop".to_owned(),
            _ => format!("numgen random mod 100 < {percent} drop"),
        };
        let script = format!(
            "add table ip lossy
             delete table ip lossy
             table ip lossy {{
                 chain forward {{
                     type filter hook forward priority 0;
                     ip saddr {a} ip daddr {b} {}
                     ip saddr {b} ip daddr {a} {}
                 }}
             }}",
            chance(there),
            chance(back)
        );
        self.lab.internet().router().namespace().nft(&script)
    }
}
