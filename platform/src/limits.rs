//! How many files and connections may this process have open?

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
