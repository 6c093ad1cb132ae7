//! For how long is a stream of packets cut off when one of its ends moves to another network?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{Home, Nat, Pair, SleepClock, stream::Stream};

/// The stream runs for so long before each move: all that the last one began has ended.
const CALM: Duration = Duration::from_secs(3);
/// For how long a cable is pulled, and a machine sleeps.
const FLAP: Duration = Duration::from_millis(500);
const SLEEP: Duration = Duration::from_secs(10);
/// For how long it sleeps by its clock when it sleeps for a night, and by everybody else's: after more than ten seconds of silence
/// they have given it up.
const NIGHT: Duration = Duration::from_secs(8 * 3600);
const GIVEN_UP: Duration = Duration::from_secs(13);

/// What happens to the machine that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roam {
    /// It leaves one network and joins another, as from Wi-Fi to a cable.
    OtherNetwork,
    /// It gets another address in the same network.
    OtherAddress,
    /// Its cable is pulled for half a second.
    Flap,
    /// Its routers forget all flows.
    Rebinding,
    /// It sleeps for ten seconds.
    Sleep,
    /// It sleeps for eight hours, and its routers forget all flows meanwhile.
    Night,
}

impl Roam {
    /// All kinds; the promise of a second holds for each.
    pub const ALL: [Self; 6] = [
        Self::OtherNetwork,
        Self::OtherAddress,
        Self::Flap,
        Self::Rebinding,
        Self::Sleep,
        Self::Night,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OtherNetwork => "other network",
            Self::OtherAddress => "other address",
            Self::Flap => "flap of 0.5 s",
            Self::Rebinding => "NAT rebinding",
            Self::Sleep => "sleep of 10 s",
            Self::Night => "sleep of 8 h",
        }
    }
}

/// Who sends; the other end only listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talker {
    /// The one that moves.
    Mover,
    /// The one that stays.
    Stayer,
}

/// Two linked daemons, of which `bob` moves between two homes.
#[derive(Debug)]
pub struct Roaming {
    pub pair: Pair,
    homes: [Home; 2],
    at: usize,
    clock: SleepClock,
}

impl Roaming {
    /// Alice behind `stays`, bob at home and in a cafe behind `moves`.
    pub fn new(name: &str, (stays, moves): (Nat, Nat)) -> Result<Self> {
        let mut pair = Pair::linked(name, [stays, moves])?;
        pair.bob.kill()?;
        let (clock, bob) = SleepClock::start(pair.bob.host())?;
        pair.bob = bob;
        let internet = pair.lab.internet();
        let homes = [
            internet.home("cafe", moves)?,
            internet.home("library", moves)?,
        ];
        homes[0].connect(pair.bob.host())?;
        let limit = Duration::from_secs(20);
        pair.bob.first_echo(&pair.alice, limit)?;
        pair.alice.first_echo(&pair.bob, limit)?;
        Ok(Self {
            pair,
            homes,
            at: 0,
            clock,
        })
    }

    /// Moves bob under a stream; returns for how long nothing arrived: from before the move on, or from when the cable is
    /// back and the machine awake.
    pub fn gap(&mut self, roam: Roam, talker: Talker) -> Result<Duration> {
        let gap = self.gap_of(talker, |roaming| roaming.roam(roam));
        gap.with_context(|| roam.name())
    }

    /// As [`Self::gap`], for whatever happens: it says from when on nothing but us holds the stream up.
    pub fn gap_of(
        &mut self,
        talker: Talker,
        happens: impl FnOnce(&mut Self) -> Result<Instant>,
    ) -> Result<Duration> {
        let (alice, bob) = (&self.pair.alice, &self.pair.bob);
        let stream = match talker {
            Talker::Mover => Stream::open(bob, alice)?,
            Talker::Stayer => Stream::open(alice, bob)?,
        };
        stream.during(|| happens(self)).with_context(|| {
            let logs = [&self.pair.alice, &self.pair.bob].map(|daemon| daemon.process.log_tail(30));
            format!("while the {talker:?} talks\n{}", logs.join("\n"))
        })
    }

    /// Lets it happen to bob; returns from when on nothing but us holds a stream up.
    pub fn roam(&mut self, roam: Roam) -> Result<Instant> {
        std::thread::sleep(CALM);
        let bob = self.pair.bob.host();
        let mut since = Instant::now();
        match roam {
            Roam::OtherNetwork => {
                self.at = 1 - self.at;
                // It is not a network that was left a moment ago, with mappings that the other side's packets keep.
                self.homes[self.at].forget_flows()?;
                self.homes[self.at].connect(bob)?;
            }
            Roam::OtherAddress => {
                self.homes[self.at].connect(bob)?;
            }
            Roam::Flap => {
                bob.set_link(false)?;
                std::thread::sleep(FLAP);
                bob.set_link(true)?;
                since = Instant::now();
            }
            Roam::Rebinding => self.homes[self.at].forget_flows()?,
            Roam::Sleep | Roam::Night => {
                self.pair.bob.process.signal(Signal::SIGSTOP)?;
                std::thread::sleep(if roam == Roam::Night { GIVEN_UP } else { SLEEP });
                if roam == Roam::Night {
                    self.clock.jump(NIGHT)?;
                    self.homes[self.at].forget_flows()?;
                }
                since = Instant::now();
                self.pair.bob.process.signal(Signal::SIGCONT)?;
            }
        }
        Ok(since)
    }
}

/// What so many percent of the gaps do not exceed.
pub fn percentile(gaps: &[Duration], percent: usize) -> Duration {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or_default()
}
