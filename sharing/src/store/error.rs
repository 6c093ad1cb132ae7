//! Why can a change to the shares not be made?

use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use crate::acl::Grantee;

/// Why a change to the shares was refused or failed. Each message says what, why and, where there is one, the fix.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name breaks a rule of [`ShareName`](crate::ShareName).
    #[error("bad share name `{name}`: it {reason}")]
    BadName {
        /// As given.
        name: String,
        /// The broken rule.
        reason: &'static str,
    },
    /// A share of this name exists.
    #[error("name taken: there is already a share `{0}`; remove it first or choose another name")]
    NameTaken(String),
    /// No share of this name exists.
    #[error("no share is called `{0}`; see the list of shares")]
    NoSuchShare(String),
    /// The path is not a directory that can be opened.
    #[error("no such directory: cannot share `{path}`: {reason}")]
    NoSuchDirectory {
        /// As given.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The path is, holds or lies in the directory of [`ShareStore::keeping_private`](crate::ShareStore::keeping_private).
    #[error("private directory: sharing `{path}` would show `{private}`")]
    Private {
        /// As given.
        path: PathBuf,
        /// What must not be seen.
        private: PathBuf,
    },
    /// The grant to take back does not exist.
    #[error("share `{share}` is not granted to `{peer}`; nothing was changed")]
    NoSuchGrant {
        /// The share's name.
        share: String,
        /// Whom the grant would have named.
        peer: Grantee,
    },
    /// The database failed.
    #[error("{operation} in the share database {path}: {source}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// Whether the database file itself makes no sense, so that only another file would help.
    pub fn is_damage(&self) -> bool {
        // The result codes of SQLite; an extended one has the primary one in its low byte.
        const CORRUPT: i32 = 11;
        const NOT_A_DATABASE: i32 = 26;
        let Self::Database { source, .. } = self else {
            return false;
        };
        let inner = if let sqlx::Error::Migrate(error) = source
            && let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) =
                &**error
        {
            error
        } else {
            source
        };
        let database = inner.as_database_error();
        let code = database.and_then(|error| error.code()?.parse::<i32>().ok());
        let says_so = code.is_some_and(|code| [CORRUPT, NOT_A_DATABASE].contains(&(code & 0xff)));
        says_so
            || matches!(
                source,
                sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }
            )
    }
}
