//! Is a connection waiting for a request or sending a response? Shared between its socket, which times the client, and
//! its responses, which know.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The phase of one connection. Cheap to clone; clones are the same connection's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Requests whose header block was complete.
    requests: AtomicU64,
    /// Responses under way: 0 or 1, as a connection's requests are answered in turn.
    responding: AtomicUsize,
}

/// A response under way: from the moment its request is complete until this is dropped.
#[derive(Debug)]
pub(crate) struct Responding(Phase);

impl Phase {
    /// Marks the begin of a response.
    pub(crate) fn respond(&self) -> Responding {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.responding.fetch_add(1, Ordering::Relaxed);
        Responding(self.clone())
    }

    /// Whether a response is under way.
    pub(crate) fn responding(&self) -> bool {
        self.0.responding.load(Ordering::Relaxed) > 0
    }

    /// How many header blocks were complete so far.
    pub(crate) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.0.0.responding.fetch_sub(1, Ordering::Relaxed);
    }
}
