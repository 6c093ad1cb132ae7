//! Is anything lost while other things happen?

use std::time::Duration;

use netlab::{Daemon, Process};
use nix::sys::signal::Signal;

/// A ping that goes on while other things happen.
pub(crate) struct Heartbeat(Process);

impl Heartbeat {
    pub(crate) fn start(from: &Daemon, to: &Daemon) -> Self {
        let ping = ["-n", "-i", "0.1", &to.virtual_ip];
        Self(from.host().spawn("ping", ping).unwrap())
    }

    /// Ends it. Nothing may be lost but what was on its way.
    pub(crate) fn finish(self) {
        std::thread::sleep(Duration::from_secs(1));
        self.0.signal(Signal::SIGINT).unwrap();
        self.0.wait(Duration::from_secs(5)).unwrap();
        let log = self.0.log();
        let number = |before: &str| -> u32 {
            let (text, _) = log.split_once(before).unwrap();
            let word = text.split([' ', '\n']).next_back().unwrap();
            word.parse().unwrap()
        };
        let [sent, received] = [" packets transmitted", " received"].map(number);
        assert!(sent > 5 && sent - received <= 1, "{log}");
    }
}
