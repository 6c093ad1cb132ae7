//! How does the rest of the daemon tell the data plane what to do? By a bounded queue and a bell that wakes the thread.

use mesh_core::Command;
use platform::readiness::Bell;
use tokio::sync::mpsc;

/// Room for commands on their way.
const QUEUE: usize = 1024;

/// The side that tells.
#[derive(Debug, Clone)]
pub struct Commands {
    queue: mpsc::Sender<Command>,
    bell: Bell,
}

/// The data plane has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data plane has ended")]
pub struct Ended;

impl Commands {
    /// The side that tells, and the side that is told.
    pub(super) fn channel(bell: Bell) -> (Self, mpsc::Receiver<Command>) {
        let (queue, told) = mpsc::channel(QUEUE);
        (Self { queue, bell }, told)
    }

    /// Tells nobody, for tests of those who tell.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        let (_watch, bell) = platform::readiness::Watch::new().expect("a watch");
        Self::channel(bell).0
    }

    /// Hands a command over; waits while the queue is full.
    pub async fn send(&self, command: Command) -> Result<(), Ended> {
        self.queue.send(command).await.map_err(|_| Ended)?;
        self.bell.ring();
        Ok(())
    }
}
