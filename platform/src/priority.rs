//! Which thread may run before others?

use std::io;

/// The lowest priority of the real-time policies (sched(7)).
#[cfg(target_os = "linux")]
const BEFORE_PROCESSES: i32 = 1;

/// Lets the calling thread run as soon as it has something to do, before every thread of ordinary
/// processes (`SCHED_RR`), or again among them. Linux leaves ordinary processes at least a
/// twentieth of each core all the same. Threads that this one starts are ordinary ones.
/// Fails without `CAP_SYS_NICE`, and on other systems.
pub fn run_before_others(whether: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let (policy, priority) = match whether {
            true => (libc::SCHED_RR, BEFORE_PROCESSES),
            false => (libc::SCHED_OTHER, 0),
        };
        // SAFETY: `sched_param` is plain old data for which all zeros is a valid value.
        let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
        parameter.sched_priority = priority;
        // By its number: musl's function of this name always fails.
        // SAFETY: the call reads one `sched_param`, which outlives it; thread 0 is the caller.
        let result = unsafe {
            libc::syscall(
                libc::SYS_sched_setscheduler,
                0,
                policy | libc::SCHED_RESET_ON_FORK,
                &raw const parameter,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        match whether {
            true => Err(io::ErrorKind::Unsupported.into()),
            false => Ok(()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The policy of the calling thread.
    fn policy() -> i32 {
        // SAFETY: no memory is passed; thread 0 is the caller.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn only_the_thread_that_asks_runs_before_others() {
        // Without the privilege the system says so, and nothing changes.
        let asked = std::thread::spawn(|| {
            let ordinary = policy();
            match run_before_others(true) {
                Ok(()) => {
                    assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_RR);
                    let child = std::thread::spawn(policy).join().unwrap();
                    assert_eq!(child, libc::SCHED_OTHER, "a thread of its own inherits it");
                    run_before_others(false).unwrap();
                    assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_OTHER);
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                    assert_eq!(policy(), ordinary);
                }
            }
        });
        asked.join().unwrap();
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
