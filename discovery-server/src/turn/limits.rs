//! How many allocations and connections does the relay take in all?

/// Allocations of all members: 20 MB of state if each uses all that it may, and a relayed port out of 16,384 each.
const MAX_ALLOCATIONS: usize = 2_048;

/// TCP connections at once; each holds up to 300 kB while its client does not read.
const MAX_CONNECTIONS: usize = 2_048;

/// The share of the open files that allocations may take, and connections again: HTTP has what is left.
const SHARE: u64 = 8;

/// A server that may open next to nothing still relays for a home.
const MIN: usize = 16;

/// Both limits, with this limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) allocations: usize,
    pub(crate) connections: usize,
}

impl Limits {
    /// With this many files that may be open.
    pub(crate) fn new(open_files: u64) -> Self {
        let share = usize::try_from(open_files / SHARE).unwrap_or(usize::MAX);
        Self {
            allocations: share.clamp(MIN, MAX_ALLOCATIONS),
            connections: share.clamp(MIN, MAX_CONNECTIONS),
        }
    }

    /// Files that all of them have open.
    pub(crate) fn files(self) -> u64 {
        (self.allocations + self.connections) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_takes_a_quarter_of_the_open_files_at_most() {
        assert_eq!(Limits::new(1_024).files(), 256);
        assert_eq!(Limits::new(0).files(), 32);
        assert_eq!(Limits::new(u64::MAX).files(), 4_096);
    }
}
