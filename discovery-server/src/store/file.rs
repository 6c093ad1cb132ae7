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

const LOCK: &str = "lock the file";

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
    let (file, _) = files::open_lock(&beside(path, ".lock")).map_err(doing(LOCK))?;
    lock(file)
}

/// As [`lock_beside`]; a lock that root makes here is the server's, which runs as another user. One that is there is its
/// owner's, and stays so: in another user's directory it may be any file.
pub(super) fn lock_for_server(path: &Path) -> Result<File, StoreError> {
    let (file, is_made) = files::open_lock(&beside(path, ".lock")).map_err(doing(LOCK))?;
    if is_made {
        files::give_from_root(&file, model(path)).map_err(doing(LOCK))?;
    }
    lock(file)
}

fn lock(file: File) -> Result<File, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(doing(LOCK)(Cause::Locked)),
        Err(TryLockError::Error(error)) => Err(doing(LOCK)(error)),
    }
}

/// Whose what root makes in the place of this file shall be, or beside it: of the file's owner, or its directory's.
fn model(path: &Path) -> &Path {
    if path.exists() {
        path
    } else {
        directory_of(path)
    }
}
