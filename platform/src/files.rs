//! How are secrets and state written so that a crash leaves the old file or the new one, nobody
//! else can read a secret, and two processes never share one state directory?

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// A file could not be written, checked or locked.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file to be created is there already; it was not touched.
    #[error("create `{path}`: the file exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Other users may read the secret.
    #[error("`{path}` can be read by other users (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// The secret.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret must be a regular file.
    #[error("`{path}` is not a regular file")]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("lock `{path}`: another process holds it")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Any other failed step.
    #[error("{operation} `{path}`: {source}")]
    System {
        /// The step.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Writers within the process take turns, because temporary files have fixed names, so that one
/// left by a crash is overwritten and not left to pile up.
static WRITING: Mutex<()> = Mutex::new(());

/// Writes a new file with mode 0600 that holds all of `bytes` or does not exist, also after a crash.
/// Missing parent directories are made with mode 0700. Fails with [`FileError::Exists`] if there
/// is anything of that name, be it a dangling link.
pub fn create_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if let Some(parent) = parent(path) {
        create_private_dir(&parent)?;
    }
    let _turn = WRITING.lock().unwrap_or_else(|poison| poison.into_inner());
    let temporary = write_temporary(path, bytes, 0o600)?;
    // A hard link, unlike a rename, never replaces what is there.
    let result = fs::hard_link(&temporary, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists {
            path: path.to_owned(),
        },
        _ => system("create", path, source),
    });
    let removed = fs::remove_file(&temporary);
    result?;
    removed.map_err(|source| system("remove", &temporary, source))?;
    sync_parent(path)
}

/// Makes an empty file of mode 0600 if there is none, and takes the rights of group and others from one that is there. On
/// systems without Unix permissions it makes the file.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(path).and_then(|file| {
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        drop(file);
        Ok(())
    });
    made.map_err(|source| system("make private", path, source))
}

/// Refuses a secret that group or others may read, or that is no regular file. On systems without
/// Unix permissions every regular file passes.
pub fn check_secret_mode(path: &Path) -> Result<(), FileError> {
    let metadata = fs::metadata(path).map_err(|source| system("read", path, source))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular {
            path: path.to_owned(),
        });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FileError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
    }
    Ok(())
}

/// Replaces the file with one of `mode` (where modes exist) that holds all of `bytes`; after a
/// crash it is the old one or the new one. One process at a time may write a file: see
/// [`lock_exclusive`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let _turn = WRITING.lock().unwrap_or_else(|poison| poison.into_inner());
    let temporary = write_temporary(path, bytes, mode)?;
    if let Err(source) = fs::rename(&temporary, path) {
        let error = system("replace", path, source);
        fs::remove_file(&temporary).map_err(|source| system("remove", &temporary, source))?;
        return Err(error);
    }
    sync_parent(path)
}

/// Holds a lock until dropped or until the process ends, by whatever means.
#[derive(Debug)]
pub struct LockGuard {
    // Closing the file releases the lock. The file stays: removing it would let a third process
    // lock a new file of the same name while a second one waits on the old.
    _file: File,
}

/// Takes the lock that `path` (created if missing, mode 0600) stands for, without waiting.
/// [`FileError::Locked`] if another process, or another guard of this one, holds it.
pub fn lock_exclusive(path: &Path) -> Result<LockGuard, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    set_mode(&mut options, 0o600);
    let file = options
        .open(path)
        .map_err(|source| system("open", path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(LockGuard { _file: file }),
        Err(TryLockError::WouldBlock) => Err(FileError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(system("lock", path, source)),
    }
}

/// Opens the file that stands for a lock in a directory that may be another user's, and makes it if it is missing; whether
/// it was made, and so is nobody else's. Its own name is followed nowhere: a link, and whatever is no file, is
/// [`FileError::NotRegular`]. Root takes none with another name either, by which it may be anybody's.
pub fn open_lock(path: &Path) -> Result<(File, bool), FileError> {
    let failed = |source| system("open", path, source);
    match File::options().write(true).create_new(true).open(path) {
        Ok(file) => return Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(failed(source)),
    }
    let not_regular = || FileError::NotRegular {
        path: path.to_owned(),
    };
    // What the name stands for may change meanwhile: the open file is looked at too.
    if !fs::symlink_metadata(path).map_err(failed)?.is_file() {
        return Err(not_regular());
    }
    let file = open_unfollowed(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(not_regular());
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&about) != 1 && rustix::process::geteuid().is_root() {
        return Err(failed(io::Error::other("the file has another name too")));
    }
    Ok((file, false))
}

/// Opens a file that is there, through no link and without waiting for anybody at the other end of a pipe. What root has
/// made may be closed to writers; a lock takes readers too.
fn open_unfollowed(path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::{
            fs::{Mode, OFlags, open},
            io::Errno,
        };
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match open(path, OFlags::WRONLY | flags, Mode::empty()) {
            Err(Errno::ACCESS) => open(path, OFlags::RDONLY | flags, Mode::empty()),
            opened => opened,
        };
        Ok(opened?.into())
    }
    #[cfg(not(unix))]
    File::options().write(true).open(path)
}

/// Makes a directory with mode 0700 (where modes exist), with those above it; fine if it exists.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|source| system("create", path, source))
}

/// The permission bits of what is at `path`, if they let anybody but its owner in. `None` also where that cannot be asked.
pub fn mode_for_others(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
        (mode & 0o077 != 0).then_some(mode)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Writes `.NAME.tmp` beside `path`, on disk when this returns.
fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, FileError> {
    let Some(name) = path.file_name() else {
        return Err(system("write", path, io::ErrorKind::InvalidInput.into()));
    };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    let temporary = path.with_file_name(hidden);
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(system("remove", &temporary, source)),
    }
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        // `create_new` is O_EXCL, which never follows a link in the last component.
        options.write(true).create_new(true);
        set_mode(&mut options, mode);
        let mut file = options.open(&temporary)?;
        // The mode given at creation is cut by the umask.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| {
        let error = system("write", &temporary, source);
        match fs::remove_file(&temporary) {
            Ok(()) | Err(_) => error,
        }
    })?;
    Ok(temporary)
}

/// Gives an open file the owner and group of `model`, where files have such: what root makes shall serve whom it is made for.
/// The file and no name of it, which its directory's owner could make another file's meanwhile.
pub fn give_to_owner_of(file: &File, model: &Path) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let failed = |source| system("give a file to the owner of", model, source);
        let wanted = fs::metadata(model).map_err(failed)?;
        let is = file.metadata().map_err(failed)?;
        if (is.uid(), is.gid()) != (wanted.uid(), wanted.gid()) {
            fchown(file, Some(wanted.uid()), Some(wanted.gid())).map_err(failed)?;
        }
    }
    #[cfg(not(unix))]
    let _ = (file, model);
    Ok(())
}

/// As [`give_to_owner_of`], where root has made the file: what others make is theirs.
pub fn give_from_root(file: &File, model: &Path) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let made = file.metadata();
        let made = made.map_err(|source| system("give a file to the owner of", model, source))?;
        if made.uid() == 0 {
            give_to_owner_of(file, model)?;
        }
    }
    #[cfg(not(unix))]
    let _ = (file, model);
    Ok(())
}

/// How many bytes this user may still write to the file system of a directory. Systems without `statvfs` do not say, and
/// are taken at their word when a write fails.
pub fn free_bytes(directory: &Path) -> Result<u64, FileError> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(directory)
            .map_err(|error| system("ask for free space in", directory, error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        Ok(u64::MAX)
    }
}

/// Puts the new name on disk too. Windows has no such call.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        let directory = parent(path).unwrap_or_else(|| PathBuf::from("."));
        File::open(&directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| system("write", &directory, source))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

fn parent(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    (!parent.as_os_str().is_empty()).then(|| parent.to_owned())
}

fn set_mode(options: &mut OpenOptions, mode: u32) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, mode);
    #[cfg(not(unix))]
    let _ = (options, mode);
}

fn system(operation: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError::System {
        operation,
        path: path.to_owned(),
        source,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).expect("read");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_secret_is_private_and_so_is_a_directory_made_for_it() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("state/keys/identity");
        create_secret(&path, b"secret").expect("create");
        assert_eq!(fs::read(&path).expect("read"), b"secret");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&root.path().join("state")), 0o700);
        assert_eq!(mode(&root.path().join("state/keys")), 0o700);
        check_secret_mode(&path).expect("private");
        assert_eq!(names(path.parent().expect("a parent")), ["identity"]);
    }

    #[test]
    fn a_secret_replaces_nothing_and_follows_no_link() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("identity");
        create_secret(&path, b"first").expect("create");
        let error = create_secret(&path, b"second").expect_err("exists");
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!(fs::read(&path).expect("read"), b"first");
        let link = root.path().join("link");
        symlink(root.path().join("target"), &link).expect("link");
        let error = create_secret(&link, b"second").expect_err("a link");
        assert!(matches!(error, FileError::Exists { .. }), "{error}");
        assert_eq!(names(root.path()), ["identity", "link"]);
    }

    #[test]
    fn a_temporary_file_left_by_a_crash_is_no_obstacle_and_no_trap() {
        let root = tempfile::tempdir().expect("a directory");
        let victim = root.path().join("victim");
        fs::write(&victim, b"precious").expect("write");
        symlink(&victim, root.path().join(".state.tmp")).expect("link");
        let path = root.path().join("state");
        write_atomic(&path, b"new", 0o644).expect("write");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read(&victim).expect("read"), b"precious");
        assert_eq!(names(root.path()), ["state", "victim"]);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_cure() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("identity");
        create_secret(&path, b"secret").expect("create");
        for bad in [0o640, 0o604, 0o644, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bad)).expect("chmod");
            let error = check_secret_mode(&path).expect_err("exposed").to_string();
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
            assert!(error.contains(&format!("{bad:04o}")), "{error}");
        }
        let error = check_secret_mode(root.path()).expect_err("a directory");
        assert!(matches!(error, FileError::NotRegular { .. }), "{error}");
    }

    #[test]
    fn an_atomic_write_gives_the_mode_whatever_was_there() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("state.json");
        write_atomic(&path, b"one", 0o600).expect("write");
        write_atomic(&path, b"two", 0o664).expect("write");
        assert_eq!(
            (fs::read(&path).expect("read"), mode(&path)),
            (b"two".to_vec(), 0o664)
        );
        let error = write_atomic(&root.path().join("none/state"), b"", 0o600);
        error.expect_err("no such directory");
        fs::create_dir(root.path().join("taken")).expect("mkdir");
        let error = write_atomic(&root.path().join("taken"), b"x", 0o600);
        error.expect_err("a directory is in the way");
        assert_eq!(names(root.path()), ["state.json", "taken"]);
    }

    #[test]
    fn readers_never_see_half_a_file() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("state");
        write_atomic(&path, &[0; 5_000], 0o600).expect("write");
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || {
                for _ in 0..500 {
                    let bytes = fs::read(&path).expect("read");
                    assert_eq!(bytes.len(), 5_000);
                    assert!(
                        bytes.iter().all(|byte| *byte == bytes[0]),
                        "one version only"
                    );
                }
            })
        };
        for version in 0..100 {
            write_atomic(&path, &[version; 5_000], 0o600).expect("write");
        }
        reader.join().expect("no panic");
    }

    #[test]
    fn a_lock_is_no_way_to_what_is_elsewhere() {
        let root = tempfile::tempdir().expect("a directory");
        let victim = root.path().join("victim");
        fs::write(&victim, b"precious").expect("write");
        let (link, dangling) = (root.path().join("link"), root.path().join("dangling"));
        symlink(&victim, &link).expect("link");
        symlink(root.path().join("missing"), &dangling).expect("link");
        let pipe = root.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo").success());
        for bad in [&link, &dangling, &pipe, &root.path().to_owned()] {
            let error = open_lock(bad).expect_err("no file");
            assert!(matches!(error, FileError::NotRegular { .. }), "{error}");
        }
        assert!(!root.path().join("missing").exists());
        let second = root.path().join("second");
        fs::hard_link(&victim, &second).expect("link");
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(open_lock(&second).is_err(), is_root, "a second name");
        let lock = root.path().join("lock");
        let (file, is_made) = open_lock(&lock).expect("missing");
        assert!(is_made);
        file.try_lock().expect("free");
        let (other, is_made) = open_lock(&lock).expect("there");
        assert!(!is_made);
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        assert_eq!(fs::read(&victim).expect("read"), b"precious");
    }

    #[test]
    fn free_space_is_told_and_shrinks_by_no_more_than_there_is() {
        let root = tempfile::tempdir().expect("a directory");
        let free = free_bytes(root.path()).expect("free space");
        assert!(free > 0 && free < 1 << 60, "{free}");
        free_bytes(&root.path().join("none")).expect_err("no such directory");
    }

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("lock");
        let guard = lock_exclusive(&path).expect("lock");
        let error = lock_exclusive(&path).expect_err("held");
        assert!(matches!(error, FileError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("another process holds it"));
        drop(guard);
        lock_exclusive(&path).expect("free again");
        assert_eq!(mode(&path), 0o600);
    }
}
