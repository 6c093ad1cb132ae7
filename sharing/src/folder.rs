//! How are shared files reached? Only beneath a share's open directory, by names, never by a path of the whole system.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use platform::beneath::{BeneathError, OpenRoot};

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
}

/// Which version of a file this is. Two equal stamps of one file mean equal content, but for writes within one tick of
/// the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// 0 where the system does not tell.
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    changed: system::ChangeTime,
}

/// A folder of a share. Links in it may lead anywhere in the share and nowhere else.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: Arc<OpenRoot>,
    path: PathBuf,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    File(File, Stamp),
    Folder(Folder),
}

/// One thing in a folder, links followed.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
}

impl Stamp {
    /// The version that an open file has now.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Self::read(&file.metadata()?)
    }

    fn read(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            inode: system::inode(metadata),
            size: metadata.len(),
            modified: metadata.modified()?,
            changed: system::changed(metadata)?,
        })
    }
}

impl Folder {
    /// Opens the directory of a share.
    pub(crate) fn open(path: &Path) -> Result<Self, BeneathError> {
        Ok(Self {
            root: Arc::new(OpenRoot::open(path)?),
            path: PathBuf::new(),
        })
    }

    /// Opens what `names`, one below the other, lead to.
    pub(crate) fn find(&self, names: &[Vec<u8>]) -> io::Result<Found> {
        let mut path = self.path.clone();
        for name in names {
            path.push(plain(name)?);
        }
        match self.root.open_file(&path) {
            Ok(file) => {
                let stamp = Stamp::of(&file)?;
                Ok(Found::File(file, stamp))
            }
            // A folder, then; a device or a pipe is none either.
            Err(BeneathError::WrongKind { .. }) if self.is_folder(&path)? => {
                Ok(Found::Folder(Self {
                    root: self.root.clone(),
                    path,
                }))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Everything in this folder that can be served, in the folder's own order.
    pub(crate) fn items(&self) -> io::Result<impl Iterator<Item = io::Result<Item>>> {
        let entries = self.root.read_dir(&self.path).map_err(io::Error::other)?;
        Ok(entries.map(|entry| {
            let entry = entry.map_err(io::Error::other)?;
            Ok(Item {
                name: entry.name.as_encoded_bytes().to_vec(),
                kind: kind(&entry.metadata),
                stamp: Stamp::read(&entry.metadata)?,
            })
        }))
    }

    fn is_folder(&self, path: &Path) -> io::Result<bool> {
        let metadata = self.root.metadata(path).map_err(io::Error::other)?;
        Ok(kind(&metadata) == Kind::Folder)
    }
}

fn kind(metadata: &Metadata) -> Kind {
    if metadata.is_dir() {
        Kind::Folder
    } else {
        Kind::File
    }
}

/// A name that is one component of a path, whatever this system's separators are.
fn plain(name: &[u8]) -> io::Result<&OsStr> {
    let name = system::name(name).ok_or(io::ErrorKind::NotFound)?;
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(std::path::Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// What the standard library tells only for Unix.
#[cfg(unix)]
mod system {
    use std::{
        ffi::OsStr,
        fs::Metadata,
        io,
        os::unix::{ffi::OsStrExt, fs::MetadataExt},
    };

    /// Seconds and nanoseconds of the last change of content or inode: unlike the time of modification, nobody can set
    /// it back.
    pub(super) type ChangeTime = (i64, i64);

    pub(super) fn changed(metadata: &Metadata) -> io::Result<ChangeTime> {
        Ok((metadata.ctime(), metadata.ctime_nsec()))
    }

    pub(super) fn inode(metadata: &Metadata) -> u64 {
        metadata.ino()
    }

    pub(super) fn name(bytes: &[u8]) -> Option<&OsStr> {
        Some(OsStr::from_bytes(bytes))
    }
}

/// What every system tells: names must be UTF-8, and a file is known by its creation.
#[cfg(not(unix))]
mod system {
    use std::{ffi::OsStr, fs::Metadata, io, time::SystemTime};

    pub(super) type ChangeTime = SystemTime;

    pub(super) fn changed(metadata: &Metadata) -> io::Result<ChangeTime> {
        metadata.created()
    }

    pub(super) fn inode(_metadata: &Metadata) -> u64 {
        0
    }

    pub(super) fn name(bytes: &[u8]) -> Option<&OsStr> {
        std::str::from_utf8(bytes).ok().map(OsStr::new)
    }
}
