//! Is a connection waiting for a request or sending a response? Shared between its socket, which times the client, and
//! its responses, which know.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The phase of one connection. Cheap to clone; clones are the same connection's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase(Arc<AtomicUsize>);

/// A response under way: from the moment its request is complete until this is dropped.
#[derive(Debug)]
pub(crate) struct Responding(Phase);

impl Phase {
    /// Marks the begin of a response.
    pub(crate) fn respond(&self) -> Responding {
        self.0.fetch_add(1, Ordering::Relaxed);
        Responding(self.clone())
    }

    /// Whether a response is under way.
    pub(crate) fn responding(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
