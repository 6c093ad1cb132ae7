//! `meshd config ...`: is this file right, and what could it say?

use std::path::PathBuf;

use clap::Subcommand;

use super::{Failure, output::Output};
use crate::config::{self, Settings};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Judge a configuration file without using it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a complete configuration with comments
    Example,
}

pub(super) fn run(output: &mut Output, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => {
            let raw = config::load(file)?;
            // The host's name only fills in for a missing one, which is right in any case.
            Settings::parse(&raw, "host")?;
            output.line(format_args!("{} is correct", file.display()))?;
        }
        ConfigCommand::Example => output.line(config::EXAMPLE.trim_end())?,
    }
    Ok(())
}
