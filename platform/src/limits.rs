//! How many files and connections may this process have open, and who may have what is in its memory?

use std::io;

/// Raises the limit of open files to what the system allows without privilege (the hard `RLIMIT_NOFILE`), and returns
/// what then holds. Elsewhere than on Unix there is no such limit: `u64::MAX`.
pub fn raise_open_files() -> io::Result<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(open_files())
}

/// The limit of open files that holds now; `u64::MAX` where there is none.
pub fn open_files() -> u64 {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
    }
    #[cfg(not(unix))]
    {
        u64::MAX
    }
}

/// Keeps what is in this process's memory, its keys above all, out of files: it leaves no core when it dies. On Linux neither
/// does a program to which the kernel hands cores get one, for which a limit of nothing is no limit, and no other process
/// of the same user may look into this one (PR_SET_DUMPABLE of prctl(2)); root may. Elsewhere than on Unix nothing is done.
pub fn keep_memory_private() -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let nothing = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, nothing)?;
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::process::{Resource, getrlimit, setrlimit};

    #[test]
    fn a_lowered_limit_is_raised_to_the_hard_one() {
        let mut limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(u64::MAX);
        // Still enough for the other tests of this process.
        let low = hard.min(512);
        limit.current = Some(low);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(open_files(), low);
        assert_eq!(raise_open_files().unwrap(), hard);
        assert_eq!(open_files(), hard);
    }
}
