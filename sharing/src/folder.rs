//! How are shared files reached? Only beneath a share's open directory, by names, never by a path of the whole system.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
}

/// Which version of a file this is. Two equal stamps mean equal content, but for writes within one tick of the
/// file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// Seconds and nanoseconds of the last change of content or inode: unlike `modified`, nobody can set it back.
    changed: (i64, i64),
}

/// A folder of a share. Links in it may lead anywhere in the share and nowhere else.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: Arc<File>,
    names: Vec<Vec<u8>>,
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    File(File, Stamp),
    Folder(Folder),
}

/// The names in a folder with their kinds where the folder itself tells; special files are left out.
pub(crate) struct Entries(Dir);

impl Stamp {
    /// The version that an open file has now.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        Self::read(&file.metadata()?)
    }

    fn read(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified()?,
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Folder {
    /// Opens the directory of a share.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            root: Arc::new(root.into()),
            names: Vec::new(),
        })
    }

    /// Opens what `names`, one below the other, lead to.
    pub(crate) fn find(&self, names: &[Vec<u8>]) -> io::Result<Found> {
        let names = [self.names.as_slice(), names].concat();
        let file = self.reach(&names)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            let root = self.root.clone();
            Ok(Found::Folder(Self { root, names }))
        } else if metadata.is_file() {
            Ok(Found::File(file, Stamp::read(&metadata)?))
        } else {
            Err(io::Error::other("neither a file nor a folder"))
        }
    }

    /// What is called `name` in this folder, without opening a file for reading.
    pub(crate) fn look(&self, name: &[u8]) -> io::Result<(Kind, Stamp)> {
        match self.find(&[name.to_vec()])? {
            Found::File(_, stamp) => Ok((Kind::File, stamp)),
            Found::Folder(folder) => Ok((Kind::Folder, Stamp::of(&folder.reach(&folder.names)?)?)),
        }
    }

    /// Everything in this folder, in its own order.
    pub(crate) fn entries(&self) -> io::Result<Entries> {
        Ok(Entries(Dir::read_from(self.reach(&self.names)?)?))
    }

    fn reach(&self, names: &[Vec<u8>]) -> io::Result<File> {
        let joined = names.join(&b'/');
        let path = if joined.is_empty() {
            OsStr::new(".")
        } else {
            OsStr::from_bytes(&joined)
        };
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&*self.root, path, flags, Mode::empty(), resolve)?.into())
    }
}

impl Iterator for Entries {
    type Item = io::Result<(Vec<u8>, Option<Kind>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Directory => Some(Kind::Folder),
                FileType::RegularFile => Some(Kind::File),
                FileType::Symlink | FileType::Unknown => None,
                FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice => continue,
            };
            return Some(Ok((name.to_vec(), kind)));
        }
    }
}
