//! How are shared files reached? Only beneath a share's open directory, by names, never by a path of the whole system.

use std::{
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use platform::beneath::{self, BeneathError, OpenRoot, Stamp};

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
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
            path.push(beneath::component(name).ok_or(io::ErrorKind::NotFound)?);
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
