//! Which files make up the repository, and which rules meet them?

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A text file of the repository; `path` is relative to its root, with `/` on every system.
#[derive(Debug, Clone)]
pub struct File {
    pub path: String,
    pub text: String,
}

/// What kind of Rust code a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ends up in a program.
    Production,
    /// Tests beside production code: `tests.rs` and everything under a crate's `tests/`.
    Test,
    /// One of the packages under the root's `tests/`.
    TestCrate,
}

impl Role {
    pub fn of(path: &str) -> Self {
        if path.starts_with("tests/") {
            Self::TestCrate
        } else if path.ends_with("/tests.rs") || path.contains("/tests/") {
            Self::Test
        } else {
            Self::Production
        }
    }
}

/// The repository's root directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files with one of the extensions, sorted by path.
///
/// # Errors
/// A directory or file that cannot be read, or is not UTF-8.
pub fn files(root: &Path, extensions: &[&str]) -> io::Result<Vec<File>> {
    paths(root)?
        .into_iter()
        .filter(|path| {
            extensions
                .iter()
                .any(|e| path.rsplit_once('.').is_some_and(|(_, x)| x == *e))
        })
        .map(|path| {
            Ok(File {
                text: fs::read_to_string(root.join(&path))?,
                path,
            })
        })
        .collect()
}

/// The paths of all files and directories, sorted, without hidden ones and build output.
///
/// # Errors
/// A directory that cannot be read.
pub fn paths(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    collect(root, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(directory: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name.starts_with('.') || path == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found)?;
        }
        found.push(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_role() {
        assert_eq!(Role::of("meshd/src/daemon.rs"), Role::Production);
        assert_eq!(Role::of("meshd/core/src/routing/tests.rs"), Role::Test);
        assert_eq!(Role::of("sharing/tests/http.rs"), Role::Test);
        assert_eq!(Role::of("tests/sim/tests/mesh.rs"), Role::TestCrate);
        assert_eq!(Role::of("meshd/src/tests_of_patience.rs"), Role::Production);
    }

    #[test]
    fn the_walk_sees_this_file_and_no_build_output() {
        let found = paths(&root()).unwrap();
        assert!(found.iter().any(|path| path == "tests/tidy/src/tree.rs"));
        assert!(
            !found
                .iter()
                .any(|path| path.starts_with("target/") || path.starts_with(".git/"))
        );
    }
}
