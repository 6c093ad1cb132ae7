//! Resolution beneath a directory without help from the kernel: one component at a time, each
//! opened without following a link, so nothing can be swapped in between.

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::{File, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path},
};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A directory handle.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
}

impl From<OwnedFd> for Root {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self { fd })
    }

    #[cfg(target_os = "linux")]
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// `None` if it is no regular file.
    pub(super) fn open_file(&self, relative: &Path) -> io::Result<Option<File>> {
        let (parent, name) = self.descend(relative)?;
        let Some(name) = name else {
            return Ok(None);
        };
        // Looked at before it is opened, because opening a device may act on it.
        let stat = statat(
            directory(&parent, &self.fd),
            &name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(super::escape()),
            _ => return Ok(None),
        }
        // A pipe put in its place meanwhile must not block us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_component(directory(&parent, &self.fd), &name, flags)?;
        let file = File::from(fd);
        Ok(file.metadata()?.is_file().then_some(file))
    }

    pub(super) fn open_dir(&self, relative: &Path) -> io::Result<Self> {
        let (parent, name) = self.descend(relative)?;
        let parent = directory(&parent, &self.fd);
        let fd = match name {
            Some(name) => open_component(parent, &name, DIRECTORY)?,
            None => openat(parent, ".", DIRECTORY, Mode::empty())?,
        };
        Ok(Self { fd })
    }

    /// Opens what it looks at, so it needs the right to read it.
    pub(super) fn metadata(&self, relative: &Path) -> io::Result<Metadata> {
        let (parent, name) = self.descend(relative)?;
        let Some(name) = name else {
            return self.open_dir(Path::new("."))?.own_metadata();
        };
        let stat = statat(
            directory(&parent, &self.fd),
            &name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink => return Err(super::escape()),
            // Not opened: opening a device may act on it.
            _ => return Err(Errno::NXIO.into()),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_component(directory(&parent, &self.fd), &name, flags)?;
        File::from(fd).metadata()
    }

    /// Names in this directory without `.` and `..`.
    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        let entries = Dir::read_from(&self.fd)?;
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                let is_name = name != b"." && name != b"..";
                is_name.then(|| Ok(OsString::from_vec(name.to_vec())))
            }
            Err(error) => Some(Err(error.into())),
        }))
    }

    fn own_metadata(&self) -> io::Result<Metadata> {
        File::from(self.fd.try_clone()?).metadata()
    }

    /// Opens all components but the last. `..` steps back over what was opened, never by name;
    /// stepping back from the root is an escape. Without a last component the path is a directory
    /// that was already passed: the first part of the result, or the root.
    fn descend(&self, relative: &Path) -> io::Result<(Option<OwnedFd>, Option<OsString>)> {
        let mut passed: Vec<OwnedFd> = Vec::new();
        let mut components = relative.components().peekable();
        while let Some(component) = components.next() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => {
                    if passed.pop().is_none() {
                        return Err(super::escape());
                    }
                }
                Component::Normal(name) if components.peek().is_none() => {
                    return Ok((passed.pop(), Some(name.to_owned())));
                }
                Component::Normal(name) => {
                    let parent = passed.last().unwrap_or(&self.fd).as_fd();
                    passed.push(open_component(parent, name, DIRECTORY)?);
                }
                Component::RootDir | Component::Prefix(_) => return Err(super::escape()),
            }
        }
        Ok((passed.pop(), None))
    }
}

fn directory<'a>(passed: &'a Option<OwnedFd>, root: &'a OwnedFd) -> BorrowedFd<'a> {
    passed.as_ref().unwrap_or(root).as_fd()
}

/// Opens one name; a link is an escape, since we cannot tell where it leads.
fn open_component(
    parent: BorrowedFd<'_>,
    name: &std::ffi::OsStr,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::LOOP | Errno::MLINK) => Err(super::escape()),
        // With O_DIRECTORY a link gives ENOTDIR: look which it is.
        Err(Errno::NOTDIR) => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => Err(super::escape()),
                _ => Err(Errno::NOTDIR.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}
