//! Which thread may run before others?

use std::io;

/// Whether this system has it at all.
pub const AVAILABLE: bool = cfg!(target_os = "linux");

/// Lets the calling thread run as soon as it has something to do, before every thread of ordinary
/// processes (`SCHED_RR` at the lowest of the real-time priorities, sched(7)), or again among them.
/// Threads that this one starts are ordinary ones.
///
/// Fails where neither `CAP_SYS_NICE` nor `RLIMIT_RTPRIO` allows it, on other systems, and for a
/// thread that was given another policy than `SCHED_OTHER` from outside, which it keeps.
pub fn run_before_others(whether: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let (from, to) = match whether {
            true => (libc::SCHED_OTHER, (libc::SCHED_RR, 1)),
            false => (libc::SCHED_RR, (libc::SCHED_OTHER, 0)),
        };
        if policy()? != from {
            return Err(io::Error::other(
                "its scheduling policy was set from outside",
            ));
        }
        set_policy(to)
    }
    #[cfg(not(target_os = "linux"))]
    {
        match whether {
            true => Err(io::ErrorKind::Unsupported.into()),
            false => Ok(()),
        }
    }
}

/// The policy of the calling thread. By its number, as below: musl's functions of these names always fail.
#[cfg(target_os = "linux")]
fn policy() -> io::Result<libc::c_int> {
    // SAFETY: no memory is passed; thread 0 is the caller.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    match libc::c_int::try_from(policy) {
        Ok(policy @ 0..) => Ok(policy & !libc::SCHED_RESET_ON_FORK),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(target_os = "linux")]
fn set_policy((policy, priority): (libc::c_int, libc::c_int)) -> io::Result<()> {
    // SAFETY: `sched_param` is plain old data for which all zeros is a valid value.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    parameter.sched_priority = priority;
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call reads one `sched_param`, which outlives it; thread 0 is the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            policy,
            &raw const parameter,
        )
    };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_asks_runs_before_others() {
        // Without the privilege the system says so, and nothing changes.
        let asked = std::thread::spawn(|| match run_before_others(true) {
            Ok(()) => {
                assert_eq!(policy().unwrap(), libc::SCHED_RR);
                let child = std::thread::spawn(policy).join().unwrap();
                assert_eq!(child.unwrap(), libc::SCHED_OTHER, "inherited");
                run_before_others(false).unwrap();
                assert_eq!(policy().unwrap(), libc::SCHED_OTHER);
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(policy().unwrap(), libc::SCHED_OTHER);
            }
        });
        asked.join().unwrap();
        assert_eq!(policy().unwrap(), libc::SCHED_OTHER);
    }

    #[test]
    fn a_policy_from_outside_is_left_alone() {
        let batch = std::thread::spawn(|| {
            set_policy((libc::SCHED_BATCH, 0)).unwrap();
            for whether in [true, false] {
                run_before_others(whether).unwrap_err();
                assert_eq!(policy().unwrap(), libc::SCHED_BATCH);
            }
        });
        batch.join().unwrap();
    }
}
