//! What time is it on a clock that goes on while the machine sleeps? `Instant::now` stands still then on Linux and macOS; but
//! whatever was granted for a time, by NATs, servers and peers, ends in that time.

use std::time::Instant;

/// As [`Instant::now`], with the time asleep. To be compared with what this function returned, and with nothing else.
#[cfg(unix)]
pub fn now() -> Instant {
    use std::{sync::OnceLock, time::Duration};
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    let (start, up) = START.get_or_init(|| (Instant::now(), since_boot()));
    *start + since_boot().saturating_sub(*up)
}

/// As [`Instant::now`], which counts the time asleep here.
#[cfg(windows)]
pub fn now() -> Instant {
    Instant::now()
}

/// Time since boot, including the time asleep. Never goes backwards. It asks the C library, so that a test can stand between.
#[cfg(unix)]
fn since_boot() -> std::time::Duration {
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_BOOTTIME;
    // On macOS the monotonic clock counts the time asleep.
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable and of the right type. With such a clock the call cannot fail; if it did, no time would pass.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // Neither part is ever negative for these clocks.
    std::time::Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_runs_as_fast_as_the_monotonic_clock_while_awake() {
        let (start, monotonic) = (now(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (passed, expected) = (now() - start, monotonic.elapsed());
        assert!(
            passed.abs_diff(expected) < Duration::from_millis(40),
            "{passed:?} {expected:?}"
        );
    }
}
