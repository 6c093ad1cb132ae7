//! Why did the database not do something?

use std::io;

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
        match &self.cause {
            Cause::Sqlx(error) => error
                .as_database_error()
                .and_then(|error| error.code())
                .is_some_and(|code| FULL.contains(&code.as_ref())),
            Cause::Io(_)
            | Cause::Migrate(_)
            | Cause::Locked
            | Cause::NotText
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
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("another discovery-server uses it")]
    Locked,
    #[error("its path is not plain text")]
    NotText,
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
