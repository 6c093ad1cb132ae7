//! Resolution beneath a directory by the Linux kernel, or component by component where the kernel
//! or a sandbox has no `openat2`.

use super::walk;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::{File, Metadata},
    io,
    os::fd::OwnedFd,
    path::Path,
};

/// The kernel gives `EAGAIN` when a rename anywhere disturbed the resolution of a `..`. Somebody who
/// renames without pause must not keep us here for ever.
const ATTEMPTS: usize = 128;

/// A directory handle.
#[derive(Debug)]
pub(super) struct Root {
    walk: walk::Root,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            walk: walk::Root::open(path)?,
        })
    }

    /// `None` if it is no regular file.
    pub(super) fn open_file(&self, relative: &Path) -> io::Result<Option<File>> {
        // Looked at before it is opened, because opening a device may act on it.
        if !self.metadata(relative)?.is_file() {
            return Ok(None);
        }
        // A pipe put in its place meanwhile must not block us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(fd) = self.resolve(relative, flags)? else {
            return self.walk.open_file(relative);
        };
        let file = File::from(fd);
        Ok(file.metadata()?.is_file().then_some(file))
    }

    pub(super) fn open_dir(&self, relative: &Path) -> io::Result<Self> {
        let walk = match self.resolve(relative, OFlags::RDONLY | OFlags::DIRECTORY)? {
            Some(fd) => walk::Root::from(fd),
            None => self.walk.open_dir(relative)?,
        };
        Ok(Self { walk })
    }

    pub(super) fn metadata(&self, relative: &Path) -> io::Result<Metadata> {
        match self.resolve(relative, OFlags::PATH)? {
            Some(fd) => File::from(fd).metadata(),
            None => self.walk.metadata(relative),
        }
    }

    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        self.walk.names()
    }

    /// `None` if there is no `openat2` here.
    fn resolve(&self, relative: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS {
            match openat2(self.walk.fd(), relative, flags, Mode::empty(), beneath) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::AGAIN.into())
    }
}
