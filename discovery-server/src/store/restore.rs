//! How does a snapshot become the database again?

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use platform::files;

use super::{
    error::{Cause, FINISH, StoreError, doing},
    file,
    snapshot::{beside, check_file, copy_beside, directory_of, entries},
};
use crate::membership::now;

const OPERATION: &str = "restore the database";

/// A whole copy with a number behind this, beside the database: it is the database from now on, and what is left of the
/// old one's place is to be taken yet. What was there is kept with the same number behind [`REPLACED`].
const RESTORING: &str = ".restoring-";

const REPLACED: &str = ".replaced-";

/// What a restore that was killed before leaves; no backup's name begins so.
const UNFINISHED: &str = ".unfinished-restore-";

/// Puts a copy of `from`, which must be a whole database, in the place of a SQLite file that no server uses. What was there, if
/// anything, is kept under the name that is returned. A crash leaves the one or the other, whole: see `finish`.
pub async fn restore(database: &Path, from: &Path) -> Result<Option<PathBuf>, StoreError> {
    let _lock = file::lock_for_server(database)?;
    finish(database)?;
    check_file(from).await?;
    remove_unfinished(database).map_err(doing(OPERATION))?;
    let copy = copy_beside(from, database, UNFINISHED).await?;
    give(copy.as_file(), database)?;
    let restoring = numbered(database, RESTORING, free_number(database)?);
    // From here on the copy is the database, whoever opens it next.
    copy.persist_noclobber(restoring)
        .map_err(|error| doing(OPERATION)(error.error))?;
    finish(database)
}

/// Ends what [`restore`] has begun and could not end; each step may be done already. Who opens the database does this
/// first, under the lock. What was there, if anything, is kept under the name that is returned.
///
/// SQLite would read the log of the old file into the new one, and two names do not change at once: so the decision is one
/// name, [`RESTORING`], and all else follows from it.
pub(super) fn finish(database: &Path) -> Result<Option<PathBuf>, StoreError> {
    let mut aside = None;
    for (number, restoring) in found(database)? {
        aside = put(database, &restoring, &numbered(database, REPLACED, number))
            .map_err(doing(FINISH))?;
    }
    Ok(aside)
}

/// Refuses a database that [`finish`] has to do with: it may be the old one, without its log.
pub(super) fn check_finished(database: &Path) -> Result<(), StoreError> {
    match found(database)?.is_empty() {
        true => Ok(()),
        false => Err(doing("open the file")(Cause::HalfRestored)),
    }
}

fn put(database: &Path, restoring: &Path, aside: &Path) -> Result<Option<PathBuf>, Cause> {
    files::sync_parent(database)?;
    let is_kept = match fs::hard_link(database, aside) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
        // Or it was renamed by who was killed then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => is_there(aside)?,
        // Not each file system knows second names. Without a database the restore is finished all the same.
        Err(_) => fs::rename(database, aside).map(|()| true)?,
    };
    for companion in ["-wal", "-shm"] {
        moved(&beside(database, companion), &beside(aside, companion))?;
    }
    files::sync_parent(database)?;
    fs::rename(restoring, database)?;
    files::sync_parent(database)?;
    Ok(is_kept.then(|| aside.to_owned()))
}

/// Whether the name is taken, if only by a link to nothing.
fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies that a restore has decided for; one, unless somebody has put more there.
fn found(database: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let Some(name) = database.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let number = |path: &Path| {
        let found = path.file_name()?.to_str()?;
        let number = found.strip_prefix(name)?.strip_prefix(RESTORING)?;
        number.parse().ok()
    };
    let all = entries(directory_of(database)).map_err(doing(OPERATION))?;
    let mut found: Vec<(u64, PathBuf)> = all
        .into_iter()
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The time, or what comes behind it if that is taken.
fn free_number(database: &Path) -> Result<u64, StoreError> {
    let mut number = now();
    while is_there(&numbered(database, REPLACED, number)).map_err(doing(OPERATION))? {
        number += 1;
    }
    Ok(number)
}

fn numbered(database: &Path, infix: &str, number: u64) -> PathBuf {
    beside(database, &format!("{infix}{number}"))
}

/// Gives the copy to whom the server runs as.
fn give(copy: &File, database: &Path) -> Result<(), StoreError> {
    match database.try_exists().map_err(doing(OPERATION))? {
        true => files::give_to_owner_of(copy, database),
        false => files::give_from_root(copy, directory_of(database)),
    }
    .map_err(doing(OPERATION))
}

fn remove_unfinished(database: &Path) -> io::Result<()> {
    for entry in entries(directory_of(database))? {
        let name = entry.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(UNFINISHED)) {
            fs::remove_file(entry)?;
        }
    }
    Ok(())
}

/// Renames a file, if it is there.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
