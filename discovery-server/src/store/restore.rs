//! How does a snapshot become the database again?

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use platform::files;

use super::{
    error::{StoreError, doing},
    file,
    snapshot::{beside, check_file, copy_beside},
};
use crate::membership::now;

const OPERATION: &str = "restore the database";

/// Puts a copy of `from`, which must be a whole database, in the place of a SQLite file that no server uses. What was there
/// is kept under the name that is returned; a crash leaves the one or the other.
pub async fn restore(database: &Path, from: &Path) -> Result<PathBuf, StoreError> {
    let _lock = file::lock_beside(database)?;
    check_file(from).await?;
    let copy = copy_beside(from, database).await?;
    let aside = beside(database, &format!(".replaced-{}", now()));
    if database.try_exists().map_err(doing(OPERATION))? {
        files::give_to_owner_of(copy.path(), database).map_err(doing(OPERATION))?;
        fs::hard_link(database, &aside).map_err(doing(OPERATION))?;
    }
    // SQLite would read the log of the old file into the new one.
    let [log, index] = ["-wal", "-shm"];
    moved(&beside(database, log), &beside(&aside, log)).map_err(doing(OPERATION))?;
    moved(&beside(database, index), &beside(&aside, index)).map_err(doing(OPERATION))?;
    files::sync_parent(database).map_err(doing(OPERATION))?;
    copy.persist(database)
        .map_err(|error| doing(OPERATION)(error.error))?;
    files::sync_parent(database).map_err(doing(OPERATION))?;
    Ok(aside)
}

/// Renames a file, if it is there.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
