//! The `meshd` program: one command line in, one exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshd::cli::run(std::env::args_os(), meshd::daemon::run)
}
