//! Which folders are shared, and with whom? Kept in SQLite; requests read an in-memory snapshot of it.

mod error;
mod from_file;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{SystemTime, UNIX_EPOCH},
};

use platform::files::make_private;
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use crate::{
    acl::{Grant, Grantee},
    folder::Folder,
    name::{ShareName, fold},
    share::{Share, ShareInfo, ShareProblem, Shares},
};

pub use self::{error::StoreError, from_file::FileShare};

/// The shares and their rights. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct ShareStore {
    pool: SqlitePool,
    file: Arc<Path>,
    /// Canonical.
    private: Option<Arc<Path>>,
    shares: Arc<watch::Sender<Arc<Shares>>>,
    /// Rights of the configuration file that nobody has yet, by the key of the share: names of members that are not known.
    waiting: Arc<watch::Sender<BTreeMap<String, Vec<String>>>>,
    /// Makes "change, then publish what is there" one step, so that no older snapshot is published last.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl ShareStore {
    /// Opens the database file at `path`, creates it if it is absent, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |operation, source| StoreError::Database {
            operation,
            path: path.to_owned(),
            source,
        };
        // Whose folders are shared with whom is nobody's business; what SQLite lays beside the file gets the file's mode.
        let private = make_private(path).map_err(sqlx::Error::config);
        private.map_err(|source| failed("opening", source))?;
        // FULL: a right that was taken back must not return after a power cut.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        // Changes come from one person at a time and requests never come here: one connection is enough.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|source| failed("opening", source))?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| failed("updating the schema", source.into()))?;
        let store = Self {
            pool,
            file: path.into(),
            private: None,
            shares: Arc::new(watch::Sender::new(Arc::default())),
            waiting: Arc::default(),
            changing: Arc::default(),
        };
        store.publish().await?;
        Ok(store)
    }

    /// From now on no share is added through which files of `directory` could be seen.
    #[must_use]
    pub fn keeping_private(mut self, directory: &Path) -> Self {
        // A directory that cannot be resolved holds nothing yet; its name as given still counts.
        let canonical = directory.canonicalize();
        self.private = Some(canonical.unwrap_or_else(|_| directory.to_owned()).into());
        self
    }

    /// Shares the directory `path` (absolute or relative to the working directory) as `name`.
    pub async fn add(
        &self,
        name: &str,
        path: &Path,
        grants: &[Grant],
    ) -> Result<ShareInfo, StoreError> {
        let name = ShareName::parse(name).map_err(|reason| StoreError::BadName {
            name: name.to_owned(),
            reason,
        })?;
        self.insert(&name, path, None, grants).await
    }

    /// `written` is the path in the configuration file, if the share comes from there.
    async fn insert(
        &self,
        name: &ShareName,
        path: &Path,
        written: Option<&str>,
        grants: &[Grant],
    ) -> Result<ShareInfo, StoreError> {
        let folder = directory(path).await?;
        if let Some(private) = &self.private
            && (private.starts_with(&folder) || Path::new(&folder).starts_with(private))
        {
            return Err(StoreError::Private {
                path: path.to_owned(),
                private: private.to_path_buf(),
            });
        }
        let _changing = self.changing.lock().await;
        let mut transaction = self.begin().await?;
        let created = i64::try_from(now()).unwrap_or(i64::MAX);
        let added = sqlx::query(
            "INSERT INTO shares (name_key, name, path, created_at, written) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(name.key())
        .bind(name.as_str())
        .bind(folder)
        .bind(created)
        .bind(written)
        .execute(&mut *transaction)
        .await
        .map_err(|source| self.failed("adding a share", source))?;
        if added.rows_affected() == 0 {
            return Err(StoreError::NameTaken(name.to_string()));
        }
        for grant in grants {
            self.insert_grant(&mut transaction, &name.key(), *grant)
                .await?;
        }
        self.commit(transaction).await?;
        self.info(name.as_str())
    }

    /// Ends a share; transfers from it break off at their next block.
    pub async fn remove(&self, name: &str) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let mut transaction = self.begin().await?;
        let removed = sqlx::query("DELETE FROM shares WHERE name_key = ?")
            .bind(fold(name))
            .execute(&mut *transaction)
            .await
            .map_err(|source| self.failed("removing a share", source))?;
        if removed.rows_affected() == 0 {
            return Err(StoreError::NoSuchShare(name.to_owned()));
        }
        self.commit(transaction).await
    }

    /// All shares, in order of name.
    pub fn list(&self) -> Vec<ShareInfo> {
        self.snapshot()
            .0
            .values()
            .map(|share| share.info())
            .collect()
    }

    /// Gives a right; a grant that names the same peer is replaced.
    pub async fn grant(&self, name: &str, grant: Grant) -> Result<ShareInfo, StoreError> {
        let _changing = self.changing.lock().await;
        let share = self.info(name)?;
        let mut transaction = self.begin().await?;
        self.insert_grant(&mut transaction, &fold(&share.name), grant)
            .await?;
        self.commit(transaction).await?;
        self.info(name)
    }

    /// Takes a right back; transfers that lived by it break off at their next block.
    pub async fn revoke(&self, name: &str, peer: Grantee) -> Result<ShareInfo, StoreError> {
        let _changing = self.changing.lock().await;
        let share = self.info(name)?;
        let mut transaction = self.begin().await?;
        let removed = sqlx::query("DELETE FROM grants WHERE name_key = ? AND grantee = ?")
            .bind(fold(&share.name))
            .bind(peer.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(|source| self.failed("taking back a right", source))?;
        if removed.rows_affected() == 0 {
            return Err(StoreError::NoSuchGrant {
                share: share.name,
                peer,
            });
        }
        self.commit(transaction).await?;
        self.info(name)
    }

    /// The shares whose directory cannot be opened now: peers get "not found" for them.
    pub async fn problems(&self) -> Vec<ShareProblem> {
        let shares = self.snapshot();
        let check = move || {
            shares
                .0
                .values()
                .filter_map(|share| share.problem())
                .collect()
        };
        match tokio::task::spawn_blocking(check).await {
            Ok(problems) => problems,
            // Cancelled: the runtime is ending and nobody reads the answer.
            Err(error) => error
                .try_into_panic()
                .map_or_else(|_| Vec::new(), |panic| std::panic::resume_unwind(panic)),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Shares> {
        self.shares.borrow().clone()
    }

    fn info(&self, name: &str) -> Result<ShareInfo, StoreError> {
        match self.snapshot().find(name) {
            Some(share) => Ok(share.info()),
            None => Err(StoreError::NoSuchShare(name.to_owned())),
        }
    }

    async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, StoreError> {
        self.pool
            .begin()
            .await
            .map_err(|source| self.failed("beginning a change", source))
    }

    async fn commit(
        &self,
        transaction: sqlx::Transaction<'static, sqlx::Sqlite>,
    ) -> Result<(), StoreError> {
        transaction
            .commit()
            .await
            .map_err(|source| self.failed("storing a change", source))?;
        self.publish().await
    }

    async fn insert_grant(
        &self,
        transaction: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
        key: &str,
        grant: Grant,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO grants (name_key, grantee, rw) VALUES (?, ?, ?)")
            .bind(key)
            .bind(grant.peer.to_string())
            .bind(grant.rw)
            .execute(&mut **transaction)
            .await
            .map_err(|source| self.failed("giving a right", source))?;
        Ok(())
    }

    /// Reads everything back and makes it what requests see.
    async fn publish(&self) -> Result<(), StoreError> {
        let failed = |source| self.failed("reading", source);
        let mut shares = BTreeMap::new();
        let rows = sqlx::query("SELECT name_key, name, path, created_at FROM shares")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        for row in rows {
            let name: String = row.try_get("name").map_err(failed)?;
            let path: String = row.try_get("path").map_err(failed)?;
            let created: i64 = row.try_get("created_at").map_err(failed)?;
            let key: String = row.try_get("name_key").map_err(failed)?;
            let name =
                ShareName::parse(&name).map_err(|reason| StoreError::BadName { name, reason })?;
            let grants = self.grants(&key).await?;
            let share = Share {
                name,
                path: path.into(),
                grants,
                created_at: u64::try_from(created).unwrap_or(0),
                warned: AtomicBool::new(false),
            };
            shares.insert(key, Arc::new(share));
        }
        self.shares.send_replace(Arc::new(Shares(shares)));
        Ok(())
    }

    async fn grants(&self, key: &str) -> Result<Vec<Grant>, StoreError> {
        let failed = |source| self.failed("reading rights", source);
        let rows =
            sqlx::query("SELECT grantee, rw FROM grants WHERE name_key = ? ORDER BY grantee")
                .bind(key)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let grantee: String = row.try_get("grantee").map_err(failed)?;
                let peer = grantee
                    .parse()
                    .map_err(|error| failed(sqlx::Error::Decode(Box::new(error))))?;
                let rw = row.try_get("rw").map_err(failed)?;
                Ok(Grant { peer, rw })
            })
            .collect()
    }

    fn failed(&self, operation: &'static str, source: sqlx::Error) -> StoreError {
        StoreError::Database {
            operation,
            path: self.file.to_path_buf(),
            source,
        }
    }
}

/// The absolute form of a directory that can be opened now.
async fn directory(path: &Path) -> Result<String, StoreError> {
    let refused = |reason: String| StoreError::NoSuchDirectory {
        path: path.to_owned(),
        reason,
    };
    let given = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let absolute = given.canonicalize()?;
        if !absolute.is_dir() {
            return Err(std::io::Error::other("it is not a directory"));
        }
        Folder::open(&absolute).map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(absolute)
    });
    let absolute = match opened.await {
        Ok(Ok(absolute)) => absolute,
        Ok(Err(error)) => return Err(refused(error.to_string())),
        Err(error) => return Err(refused(error.to_string())),
    };
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_| refused("its path is not UTF-8".to_owned()))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
