//! How is the database file made, and kept to one server?

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

use platform::files;

use super::{
    error::{Cause, StoreError, doing},
    snapshot::{beside, directory_of},
};

/// Makes the database file, readable by its owner only, if it is missing. SQLite gives its companion files the
/// same mode, and takes an empty file as an empty database.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let made = tempfile::NamedTempFile::new_in(directory_of(path))?.persist_noclobber(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// Locks `PATH.lock` until the file is closed; a process that dies lets go of it.
pub(super) fn lock_beside(path: &Path) -> Result<File, StoreError> {
    const OPERATION: &str = "lock the file";
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(beside(path, ".lock"))
        .map_err(doing(OPERATION))?;
    files::give_from_root(&file, model(path)).map_err(doing(OPERATION))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(doing(OPERATION)(Cause::Locked)),
        Err(TryLockError::Error(error)) => Err(doing(OPERATION)(error)),
    }
}

/// Whose what root makes in the place of this file shall be, or beside it: of the file's owner, or its directory's.
pub(super) fn model(path: &Path) -> &Path {
    if path.exists() {
        path
    } else {
        directory_of(path)
    }
}
