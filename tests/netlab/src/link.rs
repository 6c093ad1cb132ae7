//! How does a cable between two namespaces get delay, jitter, loss, reordering and a rate?
//!
//! Kernels without netem cannot do it, so this process is the cable: it holds a TAP device at
//! both ends and moves frames between them on a thread. Precision: a fraction of a millisecond.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::delay_queue::DelayQueue;
use crate::namespace::Namespace;
use crate::tap;

/// Larger than any frame of a device with MTU 9000.
const LARGEST_FRAME: usize = 9216;
/// Frames read from one end before the other end and the clock get their turn.
const BATCH: usize = 64;

/// What one direction of a cable does to frames. The default does nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkShape {
    /// One way.
    pub delay: Duration,
    /// Added to the delay, uniformly from zero to this; never reorders.
    pub jitter: Duration,
    /// Probability that a frame is lost, 0 to 1.
    pub loss: f64,
    /// Probability, 0 to 1, that a frame takes one more delay (at least 5 ms), so that the
    /// frames behind overtake it.
    pub reorder: f64,
    /// Bits of Ethernet frames per second; `None` is as fast as this machine can.
    pub rate: Option<u64>,
    /// Bytes that may wait for a line with a rate; more are dropped.
    pub queue: usize,
}

impl Default for LinkShape {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            rate: None,
            // What a home router buffers: 20 ms at 100 Mbit/s, 200 ms at 10 Mbit/s.
            queue: 256 * 1024,
        }
    }
}

impl LinkShape {
    fn check(&self) -> Result<()> {
        ensure!(
            (0.0..=1.0).contains(&self.loss),
            "loss {} is not in 0..=1",
            self.loss
        );
        ensure!(
            (0.0..=1.0).contains(&self.reorder),
            "reorder {} is not in 0..=1",
            self.reorder
        );
        ensure!(
            self.rate != Some(0),
            "a rate of 0 sends nothing: use loss 1.0 for a dead cable"
        );
        Ok(())
    }
}

/// A shaped cable. Clones are handles of the same cable; the last one dropped, with the host or
/// router that hangs on it, takes the cable away.
#[derive(Debug, Clone)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shapes: Arc<Mutex<[LinkShape; 2]>>,
    taps: [File; 2],
    thread: Mutex<Option<(PipeWriter, JoinHandle<()>)>>,
}

impl Link {
    /// Lays a cable: `device` of `namespace` at its near end, likewise at its far end.
    pub(crate) fn lay(
        near: (&Namespace, &str),
        far: (&Namespace, &str),
        shape: LinkShape,
    ) -> Result<Self> {
        shape.check()?;
        let taps = [tap::open(near.0, near.1)?, tap::open(far.0, far.1)?];
        let shapes = Arc::new(Mutex::new([shape; 2]));
        let (stopped, stop) = io::pipe().context("cannot make a pipe for a shaped cable")?;
        let seed = seed_of(far.1);
        let forwarder = Forwarder {
            taps: [taps[0].try_clone()?, taps[1].try_clone()?],
            queues: [DelayQueue::new(seed), DelayQueue::new(!seed)],
            shapes: Arc::clone(&shapes),
            stopped,
            born: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("netlab-cable".to_owned())
            .spawn(move || forwarder.run())
            .context("cannot start the thread of a shaped cable")?;
        Ok(Self(Arc::new(Inner {
            shapes,
            taps,
            thread: Mutex::new(Some((stop, thread))),
        })))
    }

    /// Gives both directions a new shape; frames already on their way keep their times.
    pub fn set(&self, shape: LinkShape) -> Result<()> {
        self.set_directions(shape, shape)
    }

    /// Shapes what the near end (host or router) sends and what it receives each for itself.
    pub fn set_directions(&self, up: LinkShape, down: LinkShape) -> Result<()> {
        up.check()?;
        down.check()?;
        *self.0.shapes.lock().unwrap_or_else(PoisonError::into_inner) = [up, down];
        Ok(())
    }

    pub(crate) fn set_carrier(&self, on: bool) -> Result<()> {
        for tap in &self.0.taps {
            tap::set_carrier(tap, on).context("cannot switch the carrier of a shaped cable")?;
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((stop, thread)) = thread {
            drop(stop);
            // A panic of the cable's thread has been printed by the panic itself.
            let _printed = thread.join();
        }
    }
}

/// The thread of a cable: `queues[i]` carries what end `i` sends.
struct Forwarder {
    taps: [File; 2],
    queues: [DelayQueue; 2],
    shapes: Arc<Mutex<[LinkShape; 2]>>,
    /// Readable, by hang-up, when the cable shall end.
    stopped: PipeReader,
    born: Instant,
}

impl Forwarder {
    fn run(mut self) {
        while self.wait() {
            let shapes = *self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
            for (end, shape) in shapes.iter().enumerate() {
                self.take_in(end, shape);
            }
            for end in 0..2 {
                self.hand_out(end);
            }
        }
    }

    /// Sleeps until a frame comes or is due. False when the cable or a device is gone.
    fn wait(&self) -> bool {
        let next = self
            .queues
            .iter()
            .filter_map(DelayQueue::next_arrival)
            .min();
        let pause = next.map(|at| TimeSpec::from(at.saturating_sub(self.born.elapsed())));
        let mut ends = [
            PollFd::new(self.taps[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.taps[1].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut ends, pause, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
        let seen = |end: &PollFd<'_>| end.revents().unwrap_or(PollFlags::empty());
        let gone = PollFlags::POLLERR | PollFlags::POLLNVAL;
        seen(&ends[2]).is_empty() && !seen(&ends[0]).union(seen(&ends[1])).intersects(gone)
    }

    fn take_in(&mut self, end: usize, shape: &LinkShape) {
        let mut buffer = [0; LARGEST_FRAME];
        for _ in 0..BATCH {
            // Any error means "no frame now"; a device that is gone shows in the next poll.
            let Ok(size) = (&self.taps[end]).read(&mut buffer) else {
                return;
            };
            self.queues[end].offer(buffer[..size].to_vec(), self.born.elapsed(), shape);
        }
    }

    fn hand_out(&mut self, end: usize) {
        while let Some(frame) = self.queues[end].due(self.born.elapsed()) {
            // A device that is down or full drops frames, as a network card does.
            let _dropped = (&self.taps[1 - end]).write(&frame);
        }
    }
}

/// FNV-1a: a cable draws the same dice in every run of a test.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
