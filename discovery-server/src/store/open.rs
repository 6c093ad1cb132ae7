//! How is the database opened, checked and brought up to date? The only place that knows how its two kinds differ, with
//! [`super::replicas`].

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Once,
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions as _, Connection as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
};
use tokio::time::timeout;

use super::{
    error::{Cause, StoreError, doing},
    file, restore,
    snapshot::{self, Snapshots, directory_of},
};
use crate::{
    database::{Database, PostgresUrl},
    membership::now,
};

/// Readers at once; with SQLite each costs a thread and a page cache of 2 MB.
const READERS: u32 = 4;

/// A database that is not there within this time is not there.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What each connection to SQLite is told first. `synchronous = FULL` means that what was acknowledged outlasts a power cut;
/// another program that reads the file (a backup) may hold it for 5 s.
const SQLITE: &[&str] = &[
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];

/// What each connection to PostgreSQL is told first. A server that was cut off in the middle of a change must not hold up the
/// others for long (twice as long as this, with a change in each of its two connections), nor wait for them longer than a request may
/// take.
const POSTGRES: &[&str] = &[
    "SET idle_in_transaction_session_timeout = '2s'",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '20s'",
];

static SQLITE_SCHEMA: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES_SCHEMA: Migrator = sqlx::migrate!("./migrations/postgres");

/// Characters of a path that stand for themselves in a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// An open database, not begun yet.
pub(super) struct Opened {
    pub(super) pools: Pools,
    pub(super) sharing: Sharing,
}

/// Connections to it.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pub(super) writer: AnyPool,
    pub(super) readers: AnyPool,
}

/// Whether other servers may use the database.
#[derive(Debug)]
pub(super) enum Sharing {
    /// No: they would not hear of this one's changes. The lock is held until it is dropped.
    Alone { _lock: File },
    /// Yes, at this address.
    Shared(PostgresUrl),
}

/// Opens the database, makes it if it is a missing file, and brings its schema up to date.
pub(super) async fn open(database: &Database) -> Result<Opened, StoreError> {
    install_drivers();
    match database {
        Database::Sqlite(path) => open_sqlite(path).await,
        Database::Postgres(url) => open_postgres(url).await,
    }
}

pub(super) fn install_drivers() {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
}

async fn open_sqlite(path: &Path) -> Result<Opened, StoreError> {
    let directory = directory_of(path);
    if matches!(directory.try_exists(), Ok(false)) {
        tracing::info!(directory = %directory.display(), "there was no such directory for the database; made it");
    }
    fs::create_dir_all(directory).map_err(doing("make the directory"))?;
    let lock = file::lock_beside(path)?;
    if let Some(aside) = restore::finish(path)? {
        tracing::warn!(replaced = %aside.display(), "finished a restore that was interrupted");
    }
    file::make_private(path).map_err(doing("make the file"))?;
    let url = sqlite_url(path)?;
    // One connection, so that writers queue instead of meeting SQLITE_BUSY.
    let writer = pool(1, SQLITE)
        .after_release(|connection, _| Box::pin(is_reusable(connection)))
        .connect_with(options(&url)?)
        .await
        .map_err(doing("open the file"))?;
    let mut connection = writer.acquire().await.map_err(doing("open the file"))?;
    snapshot::check(&mut connection).await?;
    drop(connection);
    if is_older(&writer).await.map_err(doing("read the schema"))? {
        keep_as_it_is(path).await;
    }
    migrate(&SQLITE_SCHEMA, &writer).await?;
    // They stay: the last connection that closes takes SQLite's companion files with it, and a full disk has no room for new ones.
    let readers = pool(READERS, SQLITE)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options(&format!("{url}?mode=ro"))?)
        .await
        .map_err(doing("open the file"))?;
    Ok(Opened {
        pools: Pools { writer, readers },
        sharing: Sharing::Alone { _lock: lock },
    })
}

async fn open_postgres(url: &PostgresUrl) -> Result<Opened, StoreError> {
    const OPERATION: &str = "connect to PostgreSQL";
    // A pool that gets no connection does not say why.
    let options = options(url.expose())?;
    timeout(ACQUIRE_TIMEOUT, options.connect())
        .await
        .map_err(|_| doing(OPERATION)(io::Error::from(io::ErrorKind::TimedOut)))?
        .map_err(doing(OPERATION))?
        .close()
        .await
        .map_err(doing(OPERATION))?;
    let pools = postgres_pools(url)?;
    migrate(&POSTGRES_SCHEMA, &pools.writer).await?;
    Ok(Opened {
        pools,
        sharing: Sharing::Shared(url.clone()),
    })
}

/// One connection more to a shared database.
pub(super) async fn connect(sharing: &Sharing) -> Result<AnyConnection, StoreError> {
    const OPERATION: &str = "connect to PostgreSQL";
    match sharing {
        Sharing::Shared(url) => options(url.expose())?
            .connect()
            .await
            .map_err(doing(OPERATION)),
        Sharing::Alone { .. } => Err(doing(OPERATION)(Cause::CutOff)),
    }
}

/// Connections that are made when they are needed.
pub(super) fn postgres_pools(url: &PostgresUrl) -> Result<Pools, StoreError> {
    let options = options(url.expose())?;
    Ok(Pools {
        // Changes wait for one another anyway (see [`super::Store::begin`]); the second is there when the first broke.
        writer: pool(2, POSTGRES).connect_lazy_with(options.clone()),
        readers: pool(READERS, POSTGRES).connect_lazy_with(options),
    })
}

/// Whether migrations are to come for a SQLite file that holds something already.
async fn is_older(pool: &AnyPool) -> Result<bool, sqlx::Error> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
    let exists: i64 = sqlx::query_scalar(table).fetch_one(pool).await?;
    if exists == 0 {
        return Ok(false);
    }
    let version = "SELECT max(version) FROM _sqlx_migrations";
    let found: Option<i64> = sqlx::query_scalar(version).fetch_one(pool).await?;
    Ok(found.is_some_and(|found| found < newest(&SQLITE_SCHEMA)))
}

/// A way back from the migrations that follow. Each of them happens whole or not at all, so it goes on without one.
async fn keep_as_it_is(path: &Path) {
    match Snapshots::of(path).take(now()).await {
        Ok(snapshot) => {
            tracing::info!(snapshot = %snapshot.display(), "a snapshot before the schema is changed");
        }
        Err(error) => tracing::error!(%error, "no snapshot before the schema is changed"),
    }
}

async fn migrate(schema: &Migrator, pool: &AnyPool) -> Result<(), StoreError> {
    schema.run(pool).await.map_err(|error| {
        let known = newest(schema);
        let cause = if let MigrateError::VersionMissing(found) = error
            && found > known
        {
            Cause::Newer { found, known }
        } else {
            Cause::Migrate(error)
        };
        doing("bring the schema up to date")(cause)
    })
}

fn newest(schema: &Migrator) -> i64 {
    let versions = schema.iter().map(|migration| migration.version);
    versions.max().unwrap_or(0)
}

fn pool(connections: u32, first: &'static [&'static str]) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for statement in first {
                    sqlx::query(*statement).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
}

/// SQLite ends a transaction by itself when the disk is full, and its driver goes on counting it: all later ones would fail.
/// Such a connection is replaced.
async fn is_reusable(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // What a dropped transaction still has to do is done before the answer.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

pub(super) fn options(url: &str) -> Result<AnyConnectOptions, StoreError> {
    url.parse().map_err(doing("understand the database URL"))
}

pub(super) fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    const OPERATION: &str = "name the file";
    let absolute = std::path::absolute(path).map_err(doing(OPERATION))?;
    let text = absolute
        .to_str()
        .ok_or_else(|| doing(OPERATION)(Cause::NotText))?;
    Ok(format!("sqlite://{}", utf8_percent_encode(text, PATH)))
}
