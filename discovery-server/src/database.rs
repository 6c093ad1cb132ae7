//! Which database is used?

use std::{fmt, path::PathBuf, str::FromStr};

/// Which database is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file, for one server; made, with its directory, if it is missing.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server, for any number of servers.
    Postgres(PostgresUrl),
}

/// A `postgres://` URL. It may hold a password, so it is never printed whole.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The URL, password included.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(..)")
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(_) => f.write_str("the PostgreSQL database"),
        }
    }
}

/// Why a database URL cannot be used: it is neither of the two kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database is given neither as sqlite://PATH nor as postgres://USER:PASSWORD@HOST/NAME")]
pub struct DatabaseUrlError;

impl FromStr for Database {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        match text.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
                Ok(Self::Postgres(PostgresUrl(text.to_owned())))
            }
            Some(_) | None => Err(DatabaseUrlError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_url() {
        let parsed = |text: &str| text.parse::<Database>();
        assert_eq!(
            parsed("sqlite:///a/b.db"),
            Ok(Database::Sqlite("/a/b.db".into()))
        );
        assert_eq!(parsed("sqlite://b.db"), Ok(Database::Sqlite("b.db".into())));
        for url in ["postgres://u:secret@h/d", "postgresql://u:secret@h/d"] {
            let database = parsed(url).unwrap();
            assert_eq!(database, Database::Postgres(PostgresUrl(url.to_owned())));
            assert!(!format!("{database} {database:?}").contains("secret"));
        }
        for bad in ["", "b.db", "sqlite://", "postgres://", "mysql://h/d"] {
            assert_eq!(parsed(bad), Err(DatabaseUrlError), "{bad}");
        }
    }
}
