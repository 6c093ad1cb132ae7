//! Where is the built `meshd` or `discovery-server` that a test shall run?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The program `name` in the directory `NETLAB_BIN_DIR`, else next to the running test
/// (`target/<profile>/`). An error names the command that builds it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let directory = match std::env::var_os("NETLAB_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let exe = std::env::current_exe().context("cannot find the path of this test")?;
            profile_directory(&exe)?.to_path_buf()
        }
    };
    let program = directory.join(name);
    if !program.is_file() {
        let flag = if directory.ends_with("release") {
            "--release "
        } else {
            ""
        };
        bail!(
            "cannot find the program {}: the lab runs built binaries. Fix: cargo build \
             {flag}--workspace, or set NETLAB_BIN_DIR to the directory that holds it",
            program.display()
        );
    }
    Ok(program)
}

/// Test executables lie in `target/<profile>/deps`, binaries in `target/<profile>`.
fn profile_directory(exe: &Path) -> Result<&Path> {
    let directory = exe.parent().context("an executable has no directory")?;
    if directory.file_name().is_some_and(|name| name == "deps") {
        return directory
            .parent()
            .context("the deps directory has no parent");
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_executable_finds_its_profile_directory() {
        let test = Path::new("/src/target/release/deps/nat_kinds-0123");
        assert_eq!(
            profile_directory(test).unwrap(),
            Path::new("/src/target/release")
        );
        let tool = Path::new("/src/target/debug/tool");
        assert_eq!(
            profile_directory(tool).unwrap(),
            Path::new("/src/target/debug")
        );
    }

    #[test]
    fn a_missing_binary_names_the_command_that_builds_it() {
        let message = binary("no-such-program").unwrap_err().to_string();
        assert!(message.contains("cargo build"), "{message}");
        assert!(message.contains("no-such-program"), "{message}");
    }
}
