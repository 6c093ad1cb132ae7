//! What every request needs to know of the server.

use std::sync::Arc;

use mesh_wire::peer_info::Directory;
use tokio::sync::{Semaphore, watch};

use super::limits::FILE_THREADS;
use crate::store::ShareStore;

/// Cheap to clone; clones are the same server's.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) store: ShareStore,
    pub(crate) directory: watch::Receiver<Arc<Directory>>,
    /// One permit per blocking file operation.
    pub(crate) threads: Arc<Semaphore>,
}

impl Site {
    pub(crate) fn new(store: ShareStore, directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self {
            store,
            directory,
            threads: Arc::new(Semaphore::new(FILE_THREADS)),
        }
    }
}
