//! Where are a lab's files, and who removes them when its process was killed?
//!
//! The directory goes with its lab. A killed process cannot remove its own, so each new lab
//! first removes those whose lock nobody holds any more.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "netlab-";
const LOCK: &str = "lock";

/// A temporary directory of one lab. With `NETLAB_KEEP` set it stays.
#[derive(Debug)]
pub(crate) struct LabDir {
    path: PathBuf,
    /// What removes the directory, and the lock that tells others to leave it alone.
    _guard: Option<(TempDir, File)>,
}

impl LabDir {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::within(
            &std::env::temp_dir(),
            name,
            std::env::var_os("NETLAB_KEEP").is_some(),
        )
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn within(parent: &Path, name: &str, keep: bool) -> Result<Self> {
        remove_orphans(parent)
            .with_context(|| format!("cannot remove old labs in {}", parent.display()))?;
        let temp = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{name}-"))
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        if keep {
            return Ok(Self {
                path: temp.keep(),
                _guard: None,
            });
        }
        let lock =
            lock(temp.path()).with_context(|| format!("cannot lock {}", temp.path().display()))?;
        Ok(Self {
            path: temp.path().to_path_buf(),
            _guard: Some((temp, lock)),
        })
    }
}

/// The lock gets its name when it is held already, so that nobody finds it free meanwhile.
fn lock(dir: &Path) -> io::Result<File> {
    let unnamed = dir.join("lock.new");
    let file = File::create_new(&unnamed)?;
    file.lock()?;
    std::fs::rename(unnamed, dir.join(LOCK))?;
    Ok(file)
}

/// Several labs may do this at once, so what has gone meanwhile is no error. A directory
/// without a lock is being made, or is kept.
fn remove_orphans(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let removed = match File::open(entry.path().join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => std::fs::remove_dir_all(entry.path()),
                Err(TryLockError::WouldBlock) => Ok(()),
                Err(TryLockError::Error(error)) => Err(error),
            },
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {}
            // Another user's lab is that user's to remove.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Somebody's file, whose name begins like ours.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_lab_removes_the_files_of_killed_ones_and_leaves_others_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path();
        let killed = path.join("netlab-killed-1");
        std::fs::create_dir(&killed).unwrap();
        drop(lock(&killed).unwrap());
        let foreign = path.join("netlab-without-lock");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(path.join("netlab-build.log"), "").unwrap();
        let kept = LabDir::within(path, "kept", true).unwrap();
        let living = LabDir::within(path, "living", false).unwrap();
        let new = LabDir::within(path, "new", false).unwrap();
        assert!(!killed.exists());
        for dir in [&foreign, &kept.path, &living.path, &new.path] {
            assert!(dir.is_dir(), "{}", dir.display());
        }
        let gone = living.path.clone();
        drop(living);
        assert!(!gone.exists());
    }
}
