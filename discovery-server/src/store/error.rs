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
            | Cause::CutOff
            | Cause::Damaged(_) => false,
        }
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
    #[error("this server is cut off from it")]
    CutOff,
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
