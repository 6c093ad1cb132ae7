//! How is a SQLite file copied while it is in use, where are the copies kept, and which of them is whole?

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use platform::files;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _};
use tempfile::NamedTempFile;

use super::{
    error::{CHECK, Cause, OPEN, StoreError, doing},
    open, restore,
};

/// With one a day, a week to notice that something is wrong.
const KEPT: usize = 7;

/// What must be left beside a copy: four times what SQLite lets its log grow to before it is taken into the file. Members write
/// while a copy is made.
const RESERVE: u64 = 16 * 1024 * 1024;

/// Copies that are not done; whoever was killed has left its own.
const UNFINISHED: &str = ".unfinished-";

const OPERATION: &str = "take a snapshot";

/// The copies of a database file that its server makes, in `FILE.snapshots` beside it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    database: PathBuf,
    pub(crate) directory: PathBuf,
}

impl Snapshots {
    /// Those of this database file.
    pub(crate) fn of(database: &Path) -> Self {
        Self {
            database: database.to_owned(),
            directory: beside(database, ".snapshots"),
        }
    }

    /// When each was taken, in seconds since 1970, from the newest on.
    pub(crate) fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in entries(&self.directory)? {
            let name = entry.file_name();
            let number = name
                .and_then(|name| name.to_str()?.strip_prefix("snapshot-"))
                .and_then(|rest| rest.strip_suffix(".sqlite")?.parse().ok());
            found.extend(number.map(|number| (number, entry)));
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        Ok(found)
    }

    /// Takes one more, and removes those that are too many. Writers are not held up: with a write-ahead log, who reads
    /// sees the file as it was when it began.
    pub(crate) async fn take(&self, now: u64) -> Result<PathBuf, StoreError> {
        files::create_private_dir(&self.directory).map_err(doing(OPERATION))?;
        self.remove_unfinished().map_err(doing(OPERATION))?;
        self.check_room()?;
        // Also with a clock that was set back, the newest has the highest number.
        let newest = self.list().map_err(doing(OPERATION))?.into_iter().next();
        let number = newest.map_or(now, |(newest, _)| now.max(newest.saturating_add(1)));
        let path = self.directory.join(format!("snapshot-{number}.sqlite"));
        backup(&self.database, &path).await?;
        for (_, old) in self
            .list()
            .map_err(doing(OPERATION))?
            .into_iter()
            .skip(KEPT)
        {
            fs::remove_file(old).map_err(doing(OPERATION))?;
        }
        Ok(path)
    }

    /// The newest that SQLite finds nothing wrong with.
    pub(crate) async fn newest_whole(&self) -> Option<PathBuf> {
        for (_, path) in self.list().ok()? {
            match check_file(&path).await {
                Ok(()) => return Some(path),
                Err(error) => {
                    tracing::warn!(%error, snapshot = %path.display(), "it is no way back");
                }
            }
        }
        None
    }

    /// A copy is as large as the file and its log at most. Where it would fill the disk it is not begun: until it had failed
    /// there would be no room for what members write.
    fn check_room(&self) -> Result<(), StoreError> {
        let size = |path: &Path| match fs::metadata(path) {
            Ok(about) => Ok(about.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        let file = size(&self.database).map_err(doing(OPERATION))?;
        let log = size(&beside(&self.database, "-wal")).map_err(doing(OPERATION))?;
        let needed = file.saturating_add(log).saturating_add(RESERVE);
        let free = files::free_bytes(&self.directory).map_err(doing(OPERATION))?;
        match free >= needed {
            true => Ok(()),
            false => Err(doing(OPERATION)(Cause::NoRoom { needed, free })),
        }
    }

    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in entries(&self.directory)? {
            let name = entry.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.starts_with(UNFINISHED)) {
                fs::remove_file(entry)?;
            }
        }
        Ok(())
    }
}

/// Copies a SQLite database, which may be in use, to a new file that only its owner may read. The file is whole or not
/// there, also after a crash and on a full disk.
pub async fn backup(database: &Path, to: &Path) -> Result<(), StoreError> {
    restore::check_finished(database)?;
    let copy = copy_beside(database, to, UNFINISHED).await?;
    files::give_from_root(copy.as_file(), directory_of(to)).map_err(doing(OPERATION))?;
    copy.persist_noclobber(to)
        .map_err(|error| doing(OPERATION)(error.error))?;
    files::sync_parent(to).map_err(doing(OPERATION))
}

/// A whole copy of a database, on disk, that is to become `target`; gone when it is dropped. Until then its name begins with
/// `unfinished`.
pub(super) async fn copy_beside(
    database: &Path,
    target: &Path,
    unfinished: &str,
) -> Result<NamedTempFile, StoreError> {
    let copy = tempfile::Builder::new()
        .prefix(unfinished)
        .tempfile_in(directory_of(target))
        .map_err(doing(OPERATION))?;
    let name = copy
        .path()
        .to_str()
        .ok_or_else(|| doing(OPERATION)(Cause::NotText))?;
    let mut connection = read_only(database).await?;
    // It writes into an empty file, which is private already, and leaves no companion files.
    let copied = sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(&mut connection)
        .await;
    let closed = connection.close().await;
    copied.map_err(doing(OPERATION))?;
    closed.map_err(doing(OPERATION))?;
    let synced = tokio::task::spawn_blocking(move || copy.as_file().sync_all().map(|()| copy));
    synced
        .await
        .map_err(|error| doing(OPERATION)(io::Error::other(error)))?
        .map_err(doing(OPERATION))
}

/// Refuses a file that is no whole database.
pub(super) async fn check_file(path: &Path) -> Result<(), StoreError> {
    let mut connection = read_only(path).await?;
    let checked = check(&mut connection).await;
    let closed = connection.close().await;
    checked?;
    closed.map_err(doing(CHECK))
}

/// Refuses a database whose pages do not fit together.
pub(super) async fn check(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(doing(CHECK))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(doing(CHECK)(Cause::Damaged(verdict)))
    }
}

async fn read_only(path: &Path) -> Result<AnyConnection, StoreError> {
    open::install_drivers();
    let url = format!("{}?mode=ro", open::sqlite_url(path)?);
    let options = open::options(&url)?;
    options.connect().await.map_err(doing(OPEN))
}

/// What is in a directory; nothing in one that is not there.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|it| it.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// `PATH` with something behind its last name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
