//! How is a path that a stranger wrote opened without ever leaving a directory? Every look-up
//! starts at a handle of the root and stays beneath it, links and races included; only regular
//! files and directories are given out.

#[cfg(target_os = "linux")]
mod linux;
mod stamp;
#[cfg(unix)]
mod walk;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(all(unix, not(target_os = "linux")))]
use walk as system;
#[cfg(windows)]
use windows as system;

pub use stamp::Stamp;

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

/// A path beneath a root could not be opened. None of these tells a stranger more than "no".
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// The path or a link on it leads out of the root.
    #[error("open `{path}`: it leads out of the shared directory")]
    Escapes {
        /// As it was asked for, relative to the root.
        path: PathBuf,
    },
    /// There is nothing of this name.
    #[error("open `{path}`: no such file or directory")]
    NotFound {
        /// As it was asked for, relative to the root.
        path: PathBuf,
    },
    /// It exists, but is of another kind: a directory where a file was asked for or the reverse, or
    /// a device, a pipe, a socket.
    #[error("open `{path}`: not a {expected}")]
    WrongKind {
        /// As it was asked for, relative to the root.
        path: PathBuf,
        /// What was asked for.
        expected: &'static str,
    },
    /// Any other reason, permissions among them.
    #[error("open `{path}`: {source}")]
    System {
        /// As it was asked for, relative to the root.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A directory handle beneath which all look-ups stay, even if the directory is moved or the path
/// to it is replaced afterwards.
///
/// Linux resolves in the kernel (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_MAGICLINKS`): links
/// that stay inside are followed. Other Unix systems, and Linux before 5.6, walk one component at a
/// time and refuse every link. Windows compares the resolved path with the root's and then opens
/// it, which somebody who can change the directory meanwhile can outrun: do not share there
/// what others may write to.
#[derive(Debug)]
pub struct OpenRoot {
    root: system::Root,
}

/// An entry of a directory, links already followed.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the directory.
    pub name: OsString,
    /// What it leads to: a regular file or a directory.
    pub metadata: Metadata,
}

impl OpenRoot {
    /// Opens the directory at `path`, which is trusted: links in it are followed.
    pub fn open(path: &Path) -> Result<Self, BeneathError> {
        let root = system::Root::open(path).map_err(|source| classify(path, source))?;
        Ok(Self { root })
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, relative: &Path) -> Result<File, BeneathError> {
        self.root
            .open_file(within(relative))
            .map_err(|source| classify(relative, source))
            .and_then(|file| match file {
                Some(file) => Ok(file),
                None => Err(wrong_kind(relative, "file")),
            })
    }

    /// Opens a directory as a root of its own. An empty path or `.` is this root again.
    pub fn open_dir(&self, relative: &Path) -> Result<Self, BeneathError> {
        match self.root.open_dir(within(relative)) {
            Ok(root) => Ok(Self { root }),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(wrong_kind(relative, "directory"))
            }
            Err(error) => Err(classify(relative, error)),
        }
    }

    /// Looks at a regular file or directory without opening it for reading.
    pub fn metadata(&self, relative: &Path) -> Result<Metadata, BeneathError> {
        let metadata = self
            .root
            .metadata(within(relative))
            .map_err(|source| classify(relative, source))?;
        if metadata.is_file() || metadata.is_dir() {
            Ok(metadata)
        } else {
            Err(wrong_kind(relative, "file or directory"))
        }
    }

    /// Lists a directory in the system's order. Entries that could not be opened (links that
    /// escape or dangle, devices, pipes, what vanished meanwhile) are left out.
    pub fn read_dir(
        &self,
        relative: &Path,
    ) -> Result<impl Iterator<Item = Result<Entry, BeneathError>>, BeneathError> {
        let directory = self.open_dir(relative)?;
        let names = directory
            .root
            .names()
            .map_err(|source| classify(relative, source))?;
        Ok(names.filter_map(move |name| match name {
            Ok(name) => {
                let path = relative.join(&name);
                let metadata = self.metadata(&path).ok()?;
                Some(Ok(Entry { name, metadata }))
            }
            Err(source) => Some(Err(classify(relative, source))),
        }))
    }
}

/// A name as one component of a path beneath a root. `None` if it is empty, `.`, `..`, holds a separator of this
/// system, or is no name here: Unix takes any bytes, other systems UTF-8.
pub fn component(name: &[u8]) -> Option<&OsStr> {
    #[cfg(unix)]
    let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name);
    #[cfg(not(unix))]
    let name = OsStr::new(std::str::from_utf8(name).ok()?);
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Some(name),
        _ => None,
    }
}

/// The root itself is asked for by an empty path.
fn within(relative: &Path) -> &Path {
    if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    }
}

/// The error by which the systems' modules tell an escape.
fn escape() -> io::Error {
    io::ErrorKind::CrossesDevices.into()
}

fn classify(path: &Path, source: io::Error) -> BeneathError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::CrossesDevices => BeneathError::Escapes { path },
        // A file where the path needs a directory: the name below it does not exist.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => BeneathError::NotFound { path },
        _ => BeneathError::System { path, source },
    }
}

fn wrong_kind(path: &Path, expected: &'static str) -> BeneathError {
    BeneathError::WrongKind {
        path: path.to_owned(),
        expected,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
