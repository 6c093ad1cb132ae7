//! What is wrong with the state directory?

use std::{fmt, path::Path};

use sharing::StoreError;

use super::{Problem, operation_failed};

/// Others may read a file with secrets; `mode` are its permission bits.
pub fn key_file_mode(path: &Path, mode: u32) -> Problem {
    let path = path.display();
    Problem::new(
        0,
        "key-file-mode",
        format!("others may read the secrets in {path}"),
    )
    .detail(format!(
        "its permissions are {:03o}; only its owner may have any (600)",
        mode & 0o777
    ))
    .fix(format!(
        "chmod 600 {path}; if others had the chance to read it, start with a new state directory"
    ))
}

/// Another daemon holds the lock.
pub fn state_locked(path: &Path) -> Problem {
    let path = path.display();
    Problem::new(
        0,
        "state-locked",
        format!("another meshd uses the state directory {path}"),
    )
    .detail("one directory is one node: two daemons with one identity would cut each other off")
    .fix("stop it (meshd down), or give this one a directory of its own (--state-dir DIR)")
}

/// A file or the directory cannot be read.
pub fn state_unreadable(path: &Path, error: &dyn fmt::Display) -> Problem {
    Problem::new(
        0,
        "state-unreadable",
        format!("cannot read {}", path.display()),
    )
    .detail(error.to_string())
    .fix("run as the owner of the state directory (root, for the default one)")
}

/// The code of [`state_unwritable`].
pub const STATE_UNWRITABLE: &str = "state-unwritable";

/// A file or the directory cannot be written.
pub fn state_unwritable(path: &Path, error: &dyn fmt::Display) -> Problem {
    Problem::new(
        0,
        STATE_UNWRITABLE,
        format!("cannot write {}", path.display()),
    )
    .detail(error.to_string())
    .fix("check the free space and the owner of the state directory; --state-dir DIR names another one")
}

/// The list of shares cannot be opened; a damaged one is left as it is.
pub fn share_database(path: &Path, error: &StoreError) -> Problem {
    if !error.is_damage() {
        return operation_failed("open the list of shares", error);
    }
    let shown = path.display();
    state_damaged(path, error).fix(format!(
        "restore it from a backup; without one, move it away (mv {shown} {shown}.damaged) and share again: keys and network \
         are in other files"
    ))
}

/// A file is there and readable, and is not what it should be. It is left as it is.
pub fn state_damaged(path: &Path, why: &dyn fmt::Display) -> Problem {
    let path = path.display();
    Problem::new(0, "state-damaged", format!("{path} is damaged"))
        .detail(format!("{why}; meshd left the file as it is"))
        .fix(format!(
            "restore it from a backup; without one, move it away (mv {path} {path}.damaged) and join again"
        ))
}
