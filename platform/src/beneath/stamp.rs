//! Was a file written to since it was last looked at?

use std::{
    fs::{File, Metadata},
    io,
    time::SystemTime,
};

/// Which version of a file this is. Two equal stamps of one file mean equal content, but for writes within one tick of
/// the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The file's number in its file system; 0 where the system does not tell.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// The time of modification, which the file's owner can set to anything.
    pub modified: SystemTime,
    changed: Changed,
}

/// Seconds and nanoseconds of the last change of content or inode: unlike the time of modification, nobody can set it
/// back.
#[cfg(unix)]
type Changed = (i64, i64);
/// The time of creation: it tells at least that a file was put in another one's place.
#[cfg(not(unix))]
type Changed = SystemTime;

impl Stamp {
    /// The version that an open file has now.
    pub fn of(file: &File) -> io::Result<Self> {
        Self::read(&file.metadata()?)
    }

    /// The version that `metadata` was read from.
    pub fn read(metadata: &Metadata) -> io::Result<Self> {
        let (inode, changed) = identity(metadata)?;
        Ok(Self {
            inode,
            size: metadata.len(),
            modified: metadata.modified()?,
            changed,
        })
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> io::Result<(u64, Changed)> {
    use std::os::unix::fs::MetadataExt;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Ok((metadata.ino(), changed))
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> io::Result<(u64, Changed)> {
    Ok((0, metadata.created()?))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::{io::Write, time::Duration};

    #[test]
    fn a_write_shows_even_if_size_and_time_of_modification_are_put_back() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(b"before").expect("write");
        let before = Stamp::of(file.as_file()).expect("stamp");
        assert_eq!(Stamp::of(file.as_file()).expect("stamp"), before);
        // More than a tick of any file system's clock.
        std::thread::sleep(Duration::from_millis(50));
        std::fs::write(file.path(), b"behind").expect("write");
        file.as_file()
            .set_modified(before.modified)
            .expect("set the time");
        let after = Stamp::of(file.as_file()).expect("stamp");
        assert_eq!(
            (after.inode, after.size, after.modified),
            (before.inode, before.size, before.modified)
        );
        assert_ne!(after, before);
    }

    #[test]
    fn another_file_in_the_same_place_has_another_stamp() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, other) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&path, b"text").expect("write");
        std::fs::write(&other, b"text").expect("write");
        let read = || Stamp::read(&std::fs::metadata(&path).expect("metadata")).expect("stamp");
        let before = read();
        std::fs::rename(&other, &path).expect("rename");
        assert_ne!(read().inode, before.inode);
        assert_ne!(read(), before);
    }
}
