//! How is one JSON file of the state directory read and written, so that it is whole or absent and nobody's but ours?

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

use platform::files::{self, FileError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

use crate::problem::{self, Problem};

/// The greatest file that is read, in bytes: a directory of 10,000 members has about 6 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Room for a file with keys, so that writing one never moves (and leaves behind) its buffer.
const SECRET_CAPACITY: usize = 8 * 1024;

/// Text that must not be shown: wiped when dropped, `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SecretString(pub(super) String);

impl Drop for SecretString {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(..)")
    }
}

/// Reads a file that only its owner may read; `None` when there is no such file.
pub(super) fn read_secret<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    let Some(bytes) = read_secret_bytes(path)? else {
        return Ok(None);
    };
    parse(path, &bytes).map(Some)
}

/// As [`read_secret`], the bytes as they are.
pub(super) fn read_secret_bytes(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    let Err(error) = files::check_secret_mode(path) else {
        return read(path);
    };
    match &error {
        FileError::System { source, .. } if source.kind() == ErrorKind::NotFound => Ok(None),
        FileError::Exposed { mode, .. } => Err(problem::key_file_mode(path, *mode)),
        FileError::NotRegular { .. } => Err(damaged(path, "it is not a regular file")),
        FileError::System { .. } | FileError::Exists { .. } | FileError::Locked { .. } => {
            Err(problem::state_unreadable(path, &error))
        }
    }
}

/// Reads a file without secrets; `None` when there is no such file.
pub(super) fn read_public<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    parse(path, &bytes).map(Some)
}

/// Replaces a file, or makes it, with mode 0600: after a crash there is the old one or the new one.
pub(super) fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), Problem> {
    let bytes = to_json(path, value)?;
    files::write_atomic(path, &bytes, 0o600)
        .map_err(|error| problem::state_unwritable(path, &error))
}

/// Makes a file with mode 0600 that must not exist yet.
pub(super) fn create<T: Serialize>(path: &Path, value: &T) -> Result<(), Problem> {
    let bytes = to_json(path, value)?;
    create_bytes(path, &bytes)
}

/// As [`create`], the bytes as they are.
pub(super) fn create_bytes(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    files::create_secret(path, bytes).map_err(|error| problem::state_unwritable(path, &error))
}

/// The problem of a file that is there and makes no sense.
pub(super) fn damaged(path: &Path, why: impl fmt::Display) -> Problem {
    problem::state_damaged(path, &why)
}

/// 32 bytes from the system's random source.
pub(super) fn random_bytes() -> Result<Zeroizing<[u8; 32]>, Problem> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| problem::operation_failed("get random bytes from the system", &error))?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Problem> {
    match read_bounded(path) {
        Ok(bytes) if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE => {
            Err(damaged(path, format!("it is larger than {MAX_FILE} bytes")))
        }
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(problem::state_unreadable(path, &error)),
    }
}

/// At most one byte more than [`MAX_FILE`].
fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_CAPACITY));
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The parser's own message may repeat a value, and here values are keys.
        let why = if error.is_eof() {
            "it ends too early".to_owned()
        } else {
            let (line, column) = (error.line(), error.column());
            format!("line {line}, column {column} is not what meshd writes there")
        };
        damaged(path, why)
    })
}

fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_CAPACITY));
    serde_json::to_writer_pretty(&mut *bytes, value)
        .map_err(|error| problem::state_unwritable(path, &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}
