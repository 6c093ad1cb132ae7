//! How does a wait end in time on a machine that sleeps meanwhile? The timeouts of `poll` stand still then; a timer of the
//! clock that goes on runs out at once when the machine wakes.

use std::{os::fd::BorrowedFd, time::Duration};

/// Shorter waits are over soon after the machine wakes, and go without an alarm, which costs a system call.
#[cfg(target_os = "linux")]
const LONG: Duration = Duration::from_secs(1);

/// A timer to be waited for beside the rest. Without one, where the system has none, a wait is longer by the time asleep.
#[derive(Debug)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    pub(super) fn new() -> Self {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC);
        Self { timer: timer.ok() }
    }

    /// Has it go off after this time, if that is long enough for it to matter; returns what becomes readable then.
    pub(super) fn set(&self, after: Option<Duration>) -> Option<BorrowedFd<'_>> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};
        use std::os::fd::AsFd as _;
        let (timer, after) = self
            .timer
            .as_ref()
            .zip(after.filter(|after| *after >= LONG))?;
        let once = Itimerspec {
            it_interval: super::system::timespec(Duration::ZERO),
            it_value: super::system::timespec(after),
        };
        let set = timerfd_settime(timer, TimerfdTimerFlags::empty(), &once);
        set.ok().map(|_| timer.as_fd())
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new() -> Self {
        Self {}
    }

    #[allow(clippy::unused_self, reason = "the same signature on all systems")]
    pub(super) fn set(&self, _after: Option<Duration>) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn it_goes_off_once_its_time_is_over_and_again_when_it_is_set_again() {
        let alarm = Alarm::new();
        assert!(alarm.set(None).is_none() && alarm.set(Some(LONG / 2)).is_none());
        for _ in 0..2 {
            let begun = Instant::now();
            let timer = alarm.set(Some(LONG)).unwrap();
            let mut polled = [PollFd::from_borrowed_fd(timer, PollFlags::IN)];
            let limit = super::super::system::timespec(10 * LONG);
            assert_eq!(poll(&mut polled, Some(&limit)), Ok(1));
            assert!(begun.elapsed() >= LONG, "too early");
        }
    }
}
