//! What is wrong with a share?

use std::{fmt, path::Path};

use super::Problem;

/// The name breaks a rule; `why` says which.
pub fn share_name_invalid(name: &str, why: &str) -> Problem {
    Problem::new(
        400,
        "share-name-invalid",
        format!("a share cannot be called {}", name.escape_debug()),
    )
    .detail(why)
    .fix("choose a name such as docs or holiday-2026")
}

/// The path depends on the directory that somebody stands in.
pub fn share_path_relative(path: &Path) -> Problem {
    Problem::new(
        400,
        "share-path-relative",
        format!("{} is not an absolute path", path.display()),
    )
    .detail("the daemon does not stand where you do")
    .fix("write the path from / on")
}

/// The directory is, holds or lies in the state directory.
pub fn share_path_private(path: &Path, state_dir: &Path) -> Problem {
    Problem::new(
        400,
        "share-path-private",
        format!("{} cannot be shared", path.display()),
    )
    .detail(format!(
        "it would show {}, where this daemon keeps its keys",
        state_dir.display()
    ))
    .fix("share a directory that neither holds the state directory nor lies in it")
}

/// The directory is missing, no directory, or not readable for the daemon.
pub fn share_path_unreadable(path: &Path, error: &dyn fmt::Display) -> Problem {
    Problem::new(
        400,
        "share-path-unreadable",
        format!("{} cannot be shared", path.display()),
    )
    .detail(error.to_string())
    .fix("name a directory that exists and that meshd may read")
}

/// There is a share of that name.
pub fn share_exists(name: &str) -> Problem {
    Problem::new(
        409,
        "share-exists",
        format!("there is already a share called {}", name.escape_debug()),
    )
    .detail("names of shares are unique on one machine")
    .fix("choose another name, or remove the old share first: meshd share rm NAME")
}

/// There is no share of that name.
pub fn share_not_found(name: &str) -> Problem {
    Problem::new(
        404,
        "share-not-found",
        format!("there is no share called {}", name.escape_debug()),
    )
    .detail("nothing was changed")
    .fix("meshd share list shows what is shared")
}
