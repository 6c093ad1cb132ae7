//! A stream of datagrams from one member to another: when does it stand still, and for how long?

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::Daemon;

/// Between two packets of a stream: a hundred a second, as a call sends.
const PAUSE: Duration = Duration::from_millis(10);
/// A stream that does not come back within this time does not come back.
const LOST: Duration = Duration::from_secs(60);

/// A stream of datagrams, one way.
pub(crate) struct Stream {
    near: UdpSocket,
    far: UdpSocket,
    /// When the last datagrams came.
    arrivals: Mutex<Vec<Instant>>,
}

impl Stream {
    pub(crate) fn open(from: &Daemon, to: &Daemon) -> Result<Self> {
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

    /// Lets it run while something `happens`, which says from when on nothing but us holds it up; returns for how long nothing
    /// arrived then.
    pub(crate) fn during(&self, happens: impl FnOnce() -> Result<Instant>) -> Result<Duration> {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.send(&ended));
            let receiver = scope.spawn(|| self.receive(&ended));
            let gap = happens().and_then(|since| self.resumed(since));
            ended.store(true, Ordering::Relaxed);
            for thread in [sender, receiver] {
                thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            gap
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
