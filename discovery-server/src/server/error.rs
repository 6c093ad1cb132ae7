//! Why does the server not start, and what can be done about it?

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    auth::AdminTokenError,
    database::Database,
    store::{Snapshots, StoreError},
};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be bound.
    #[error("listen for {service} on {address}: {source}")]
    Listen {
        /// `HTTP` or `STUN`.
        service: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error("open {database}: {source}")]
    Database {
        /// Which one.
        database: Database,
        /// Why.
        source: StoreError,
    },
    /// The SQLite file is not as SQLite has left it.
    #[error("open {}: {source}", .database.display())]
    Damaged {
        /// Which one.
        database: PathBuf,
        /// In what way.
        source: StoreError,
        /// The newest snapshot that is whole.
        snapshot: Option<PathBuf>,
    },
    /// There is no admin token.
    #[error(transparent)]
    AdminToken(#[from] AdminTokenError),
    /// TURN lacks random numbers, or does not know which addresses are the host's own and must not be relayed to.
    #[error("prepare TURN: {0}")]
    Turn(io::Error),
}

impl ServeError {
    /// What the reader can do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Listen {
                service,
                address,
                source,
            } => listen_fix(service, address, source.kind()),
            Self::Database { source, database } if source.is_newer() => newer_fix(database),
            Self::Database { database, .. } => database_fix(database),
            Self::Damaged {
                database, snapshot, ..
            } => damaged_fix(database, snapshot.as_deref()),
            Self::AdminToken(_) => "give a file that this user can read, with a token of at \
                 least 16 characters; or a data directory that can be written"
                .to_owned(),
            Self::Turn(_) => {
                "let the program list the addresses of this host (netlink), or serve no TURN \
                 with --no-turn"
                    .to_owned()
            }
        }
    }
}

fn listen_fix(service: &str, address: &SocketAddr, kind: io::ErrorKind) -> String {
    if kind == io::ErrorKind::AddrInUse {
        format!(
            "another program uses {address}; stop it (ss -lntup shows which) or choose another \
             {service} address"
        )
    } else if kind == io::ErrorKind::PermissionDenied {
        "run as root, or choose a port above 1023".to_owned()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "choose an address that this host has (ip address shows them), or [::] for all".to_owned()
    } else {
        format!("choose another {service} address")
    }
}

fn database_fix(database: &Database) -> String {
    match database {
        Database::Sqlite(path) => format!(
            "make sure that {} is on a disk with room, is a database of this program, may be read and written by this \
             user, and is used by no other discovery-server; or name another one",
            path.display()
        ),
        Database::Postgres(_) => "make sure that the PostgreSQL server runs and can be reached from here (psql with the \
             same URL shows it), that the database exists (createdb makes one), and that its user may make tables in it"
            .to_owned(),
    }
}

fn newer_fix(database: &Database) -> String {
    let kept = match database {
        Database::Sqlite(path) => format!(
            "discovery-server restore with the snapshot that it took before, out of {}",
            Snapshots::of(path).directory.display()
        ),
        Database::Postgres(_) => "pg_restore with a dump from before".to_owned(),
    };
    format!("start that version or a later one; to go back to this one: {kept}")
}

fn damaged_fix(database: &Path, snapshot: Option<&Path>) -> String {
    let restore = format!(
        "discovery-server restore --database {} --from",
        quoted(&format!("sqlite://{}", database.display()))
    );
    match snapshot {
        Some(snapshot) => format!(
            "go back to the newest snapshot that is whole: {restore} {}; members bring again what they hold",
            quoted(&snapshot.display().to_string())
        ),
        None => format!(
            "no whole snapshot is in {}; restore a copy of your own: {restore} FILE; or move the file away and start with \
             an empty one, to which members bring again what they hold",
            Snapshots::of(database).directory.display()
        ),
    }
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte);
    if text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted("sqlite:///a-b/c_1.db"), "sqlite:///a-b/c_1.db");
        for odd in ["/my data", "/a$(x)", "/it's", "/a;b", "/a\\b", "/\u{e4}"] {
            let echoed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(odd))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&echoed.stdout), odd);
        }
    }
}
