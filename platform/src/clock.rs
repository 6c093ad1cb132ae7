//! How long has the machine been up, sleep included? Compared with a clock that stops during
//! sleep (`std::time::Instant` on Linux) it tells that the machine was suspended.

use std::time::Duration;

/// Time since boot, including the time asleep. Never goes backwards.
#[cfg(unix)]
pub fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    // On macOS the monotonic clock counts the time asleep.
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    // Neither part is ever negative for these clocks.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Time since boot, including the time asleep. Never goes backwards.
#[cfg(windows)]
pub fn since_boot() -> Duration {
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetTickCount64() -> u64;
    }
    // SAFETY: the function takes nothing, touches no memory of ours and cannot fail.
    Duration::from_millis(unsafe { GetTickCount64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_as_fast_as_the_monotonic_clock_while_awake() {
        let (start, monotonic) = (since_boot(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (passed, expected) = (since_boot() - start, monotonic.elapsed());
        assert!(
            passed.abs_diff(expected) < Duration::from_millis(40),
            "{passed:?} {expected:?}"
        );
    }
}
