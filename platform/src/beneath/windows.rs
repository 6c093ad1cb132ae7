//! Resolution beneath a directory on Windows: the resolved path must begin with the root's. Between
//! the comparison and the opening somebody who can write there can swap a directory for a link.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

/// A directory by its resolved path.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path })
    }

    /// `None` if it is no regular file.
    pub(super) fn open_file(&self, relative: &Path) -> io::Result<Option<File>> {
        let path = self.resolve(relative)?;
        if !fs::metadata(&path)?.is_file() {
            return Ok(None);
        }
        let file = File::open(path)?;
        Ok(file.metadata()?.is_file().then_some(file))
    }

    pub(super) fn open_dir(&self, relative: &Path) -> io::Result<Self> {
        Self::open(&self.resolve(relative)?)
    }

    pub(super) fn metadata(&self, relative: &Path) -> io::Result<Metadata> {
        fs::metadata(self.resolve(relative)?)
    }

    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        let entries = fs::read_dir(&self.path)?;
        Ok(entries.map(|entry| entry.map(|entry| entry.file_name())))
    }

    fn resolve(&self, relative: &Path) -> io::Result<PathBuf> {
        let mut depth = 0usize;
        for component in relative.components() {
            match component {
                Component::CurDir => {}
                // Device names (`NUL`, `COM1`) and streams (`file:stream`) are no files of ours;
                // resolution below turns the former into `\\.\` paths outside the root.
                Component::Normal(name) if name.to_string_lossy().contains(':') => {
                    return Err(super::escape());
                }
                Component::Normal(_) => depth += 1,
                Component::ParentDir => {
                    depth = depth.checked_sub(1).ok_or_else(super::escape)?;
                }
                Component::RootDir | Component::Prefix(_) => return Err(super::escape()),
            }
        }
        let resolved = fs::canonicalize(self.path.join(relative))?;
        if resolved.starts_with(&self.path) {
            Ok(resolved)
        } else {
            Err(super::escape())
        }
    }
}
