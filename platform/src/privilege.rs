//! May this process change the machine's network?

/// The answer to a question about the process's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The process has it.
    Held,
    /// The process lacks it.
    Missing,
    /// This system cannot be asked in advance; trying will show.
    Unknown,
}

/// True if the effective user is root. False where there is no such user.
pub fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    return false;
}

/// The right to create interfaces and routes: effective `CAP_NET_ADMIN` of the calling thread on
/// Linux, root on other Unix systems.
pub fn network_administration() -> Privilege {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CapabilitySet, capabilities};
        match capabilities(None) {
            Ok(sets) if sets.effective.contains(CapabilitySet::NET_ADMIN) => Privilege::Held,
            Ok(_) => Privilege::Missing,
            Err(_) => Privilege::Unknown,
        }
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    {
        if is_root() {
            Privilege::Held
        } else {
            Privilege::Missing
        }
    }
    #[cfg(not(unix))]
    {
        Privilege::Unknown
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_right_is_held_until_it_is_dropped() {
        std::thread::spawn(|| {
            assert_eq!(
                network_administration(),
                Privilege::Held,
                "tests run as root"
            );
            crate::testing::drop_net_admin();
            assert_eq!(network_administration(), Privilege::Missing);
        })
        .join()
        .expect("no panic");
        assert!(is_root());
    }
}
