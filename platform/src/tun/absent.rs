//! The TUN device of systems on which we have none: creating it is a plain error.

use super::{Merge, TunConfig, TunError};
use std::{convert::Infallible, io};

/// Cannot exist here.
pub(super) struct Device(Infallible);

impl Device {
    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn create(config: &TunConfig) -> Result<Self, TunError> {
        Err(TunError::Unsupported {
            name: config.name.clone(),
            system: std::env::consts::OS,
        })
    }

    pub(super) fn name(&self) -> &str {
        match self.0 {}
    }

    pub(super) fn merge(&self) -> Merge {
        match self.0 {}
    }

    pub(super) fn another_queue(&self) -> io::Result<Self> {
        match self.0 {}
    }

    #[cfg(unix)]
    pub(super) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        match self.0 {}
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_async, reason = "the same signature on all systems")]
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn try_read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(super) fn try_write(&self, _frame: &[u8]) -> io::Result<()> {
        match self.0 {}
    }
}

pub(super) fn is_gone(_error: &io::Error) -> bool {
    false
}
