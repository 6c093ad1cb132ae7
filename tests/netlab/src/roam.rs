//! For how long is a stream of packets cut off when one of its ends moves to another network?

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use crate::{Daemon, Home, Nat, Pair};

/// Between two packets of a stream: a hundred a second, as a call sends.
const PAUSE: Duration = Duration::from_millis(10);
/// A stream that does not come back within this time does not come back.
const LOST: Duration = Duration::from_secs(60);
/// The stream runs for so long before each move: all that the last one began has ended.
const CALM: Duration = Duration::from_secs(3);
/// For how long a cable is pulled, and a machine sleeps.
const FLAP: Duration = Duration::from_millis(500);
const SLEEP: Duration = Duration::from_secs(10);

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
}

impl Roam {
    pub const ALL: [Self; 5] = [
        Self::OtherNetwork,
        Self::OtherAddress,
        Self::Flap,
        Self::Rebinding,
        Self::Sleep,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OtherNetwork => "other network",
            Self::OtherAddress => "other address",
            Self::Flap => "flap of 0.5 s",
            Self::Rebinding => "NAT rebinding",
            Self::Sleep => "sleep of 10 s",
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
}

impl Roaming {
    /// Alice behind `stays`, bob at home and in a cafe behind `moves`.
    pub fn new(name: &str, (stays, moves): (Nat, Nat)) -> Result<Self> {
        let pair = Pair::linked(name, [stays, moves])?;
        let internet = pair.lab.internet();
        let homes = [
            internet.home("cafe", moves)?,
            internet.home("library", moves)?,
        ];
        homes[0].connect(pair.bob.host())?;
        let limit = Duration::from_secs(20);
        pair.bob.first_echo(&pair.alice, limit)?;
        pair.alice.first_echo(&pair.bob, limit)?;
        Ok(Self { pair, homes, at: 0 })
    }

    /// Moves bob under a stream; returns for how long nothing arrived: from before the move on, or from when the cable is
    /// back and the machine awake.
    pub fn gap(&mut self, roam: Roam, talker: Talker) -> Result<Duration> {
        let (alice, bob) = (&self.pair.alice, &self.pair.bob);
        let stream = match talker {
            Talker::Mover => Stream::open(bob, alice)?,
            Talker::Stayer => Stream::open(alice, bob)?,
        };
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| stream.send(&ended));
            let receiver = scope.spawn(|| stream.receive(&ended));
            let gap = self.roam(roam).and_then(|since| stream.resumed(since));
            ended.store(true, Ordering::Relaxed);
            for thread in [sender, receiver] {
                thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            gap
        })
        .with_context(|| {
            let logs = [&self.pair.alice, &self.pair.bob].map(|daemon| daemon.process.log_tail(30));
            format!(
                "{} while the {talker:?} talks\n{}",
                roam.name(),
                logs.join("\n")
            )
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
            Roam::Sleep => {
                self.pair.bob.process.signal(Signal::SIGSTOP)?;
                std::thread::sleep(SLEEP);
                since = Instant::now();
                self.pair.bob.process.signal(Signal::SIGCONT)?;
            }
        }
        Ok(since)
    }
}

/// A stream of numbered datagrams, one way.
struct Stream {
    near: UdpSocket,
    far: UdpSocket,
    /// When the last datagrams came.
    arrivals: Mutex<Vec<Instant>>,
}

impl Stream {
    fn open(from: &Daemon, to: &Daemon) -> Result<Self> {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
        let far = to.host().namespace().enter(bind)??;
        let near = from.host().namespace().enter(bind)??;
        near.connect((to.ip()?, far.local_addr()?.port()))?;
        far.set_read_timeout(Some(PAUSE))?;
        Ok(Self {
            near,
            far,
            arrivals: Mutex::default(),
        })
    }

    fn send(&self, ended: &AtomicBool) -> Result<()> {
        while !ended.load(Ordering::Relaxed) {
            // A machine between two networks may have no route; the program tries again with its next packet.
            let _between = self.near.send(&[7; 100]);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn receive(&self, ended: &AtomicBool) -> Result<()> {
        let mut buffer = [0; 200];
        while !ended.load(Ordering::Relaxed) {
            match self.far.recv(&mut buffer) {
                Ok(_) => self.note(Instant::now()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("receive the stream"),
            }
        }
        Ok(())
    }

    fn note(&self, now: Instant) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push(now);
    }

    /// Waits until the stream has run without a pause for a second; returns the end of the last pause after `since`.
    fn resumed(&self, since: Instant) -> Result<Duration> {
        const STEADY: Duration = Duration::from_secs(1);
        const A_PAUSE: Duration = Duration::from_millis(60);
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let mut before = since;
            let mut resumed = since;
            for arrival in arrivals.iter().filter(|at| **at > since) {
                // What was under way when the move began comes in order.
                if *arrival - before > A_PAUSE {
                    resumed = *arrival;
                }
                before = *arrival;
            }
            let flows = before > since && now - before < A_PAUSE;
            if flows && now - resumed.max(since) > STEADY {
                return Ok(resumed - since);
            }
            if now - since > LOST {
                return Err(anyhow!("the stream does not come back within {LOST:?}"));
            }
        }
    }
}
