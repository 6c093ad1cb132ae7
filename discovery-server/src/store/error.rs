//! Why did the database not do something?

use std::{borrow::Cow, io};

use platform::files::FileError;
use sqlx::migrate::MigrateError;

/// What is done to a file that may be no database.
pub(super) const OPEN: &str = "open the file";
pub(super) const CHECK: &str = "check the file";

/// What is done once a restore has decided for the copy.
pub(super) const FINISH: &str = "finish a restore that was interrupted";

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
#[error("database: {operation}: {cause}")]
pub struct StoreError {
    operation: &'static str,
    cause: Cause,
}

impl StoreError {
    /// Whether there was no room on the disk. What was to be written was not, and everything else is as it was.
    pub(crate) fn is_disk_full(&self) -> bool {
        /// `SQLITE_FULL`, and `disk_full` of PostgreSQL.
        const FULL: [&str; 2] = ["13", "53100"];
        self.code()
            .is_some_and(|code| FULL.contains(&code.as_ref()))
    }

    /// Whether a copy was not begun because the disk has no room for it.
    pub(crate) fn is_without_room(&self) -> bool {
        matches!(self.cause, Cause::NoRoom { .. })
    }

    /// Whether something else used the SQLite file for too long. What was to be written was not.
    pub(crate) fn is_busy(&self) -> bool {
        /// `SQLITE_BUSY` and `SQLITE_LOCKED`; what is above the low byte says more.
        const BUSY: [u32; 2] = [5, 6];
        // PostgreSQL's codes have five digits or letters.
        let code = self.code().filter(|code| code.len() < 5);
        let code = code.and_then(|code| code.parse::<u32>().ok());
        matches!(self.cause, Cause::Busy) || code.is_some_and(|code| BUSY.contains(&(code & 0xff)))
    }

    /// Whether the SQLite file is not as SQLite has left it.
    pub(crate) fn is_damaged(&self) -> bool {
        /// `SQLITE_CORRUPT` and `SQLITE_NOTADB`; what is above the low byte says more.
        const DAMAGED: [u32; 2] = [11, 26];
        let code = self.code().and_then(|code| code.parse::<u32>().ok());
        matches!(self.cause, Cause::Damaged(_))
            || code.is_some_and(|code| DAMAGED.contains(&(code & 0xff)))
    }

    /// Whether a later version of this program has made the database.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self.cause, Cause::Newer { .. })
    }

    /// Whether a restore has decided for another file and has not put it in place.
    pub fn is_half_restored(&self) -> bool {
        matches!(self.cause, Cause::HalfRestored)
    }

    /// What to do where a restore ended with this.
    pub fn fix_of_restore(&self) -> &'static str {
        if matches!(self.cause, Cause::Locked) {
            "stop the server first"
        } else if self.operation == FINISH {
            "mend what the reason names; then start the server, which puts the copy in place, or restore again"
        } else if self.is_damaged() || [OPEN, CHECK].contains(&self.operation) {
            "name a file that is a whole database"
        } else {
            "mend what the reason names, and restore again: the database is as it was"
        }
    }

    /// What the database calls the error.
    fn code(&self) -> Option<Cow<'_, str>> {
        let error = match &self.cause {
            Cause::Sqlx(error)
            | Cause::Migrate(
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _),
            ) => error,
            Cause::Migrate(_)
            | Cause::Io(_)
            | Cause::File(_)
            | Cause::Locked
            | Cause::NotText
            | Cause::CutOff
            | Cause::Busy
            | Cause::NoRoom { .. }
            | Cause::HalfRestored
            | Cause::Newer { .. }
            | Cause::Damaged(_) => return None,
        };
        error.as_database_error().and_then(|error| error.code())
    }

    /// Whether the database is not there, or not for this server, so that another server may do what this one cannot.
    pub(crate) fn is_away(&self) -> bool {
        /// Of PostgreSQL: `lock_not_available`, `idle_in_transaction_session_timeout`, `too_many_connections`; and the classes of
        /// broken connections and of an operator's intervention.
        const AWAY: [&str; 5] = ["55P03", "25P03", "53300", "08", "57"];
        match &self.cause {
            Cause::CutOff => true,
            Cause::Sqlx(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) => true,
            Cause::Sqlx(error) => error
                .as_database_error()
                .and_then(|error| error.code())
                .is_some_and(|code| {
                    let is_postgres = code.len() == 5;
                    is_postgres && AWAY.iter().any(|away| code.starts_with(away))
                }),
            Cause::Io(_)
            | Cause::File(_)
            | Cause::Migrate(_)
            | Cause::Locked
            | Cause::NotText
            | Cause::Busy
            | Cause::NoRoom { .. }
            | Cause::HalfRestored
            | Cause::Newer { .. }
            | Cause::Damaged(_) => false,
        }
    }
}

/// Why, from below.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("another discovery-server uses it")]
    Locked,
    #[error(
        "there is no room for it: {free} bytes are free, and it takes {needed} with what is left for members"
    )]
    NoRoom { needed: u64, free: u64 },
    #[error("it was busy for too long")]
    Busy,
    #[error("a restore of it was interrupted")]
    HalfRestored,
    #[error("this server is cut off from it")]
    CutOff,
    #[error("its path is not plain text")]
    NotText,
    #[error(
        "a newer version of this program has made it: its schema is number {found}, this version knows {known}"
    )]
    Newer { found: i64, known: i64 },
    #[error("{0}")]
    Damaged(String),
}

/// Turns a lower error into one that names the operation.
pub(super) fn doing<E: Into<Cause>>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| StoreError {
        operation,
        cause: error.into(),
    }
}
