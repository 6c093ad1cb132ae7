//! What did the command line of the last start say that the configuration file does not? So that later starts need no flag.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stored;
use crate::problem::Problem;

/// `options.json`: options of `meshd up` that belong to this machine, as they were typed. What stands in the configuration
/// file wins over them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartOptions {
    /// `--listen-port`
    pub listen_port: Option<String>,
    /// `--interface`
    pub interface: Option<String>,
    /// `--api`
    pub api_listen: Option<String>,
}

impl StartOptions {
    /// Those of this start, and where it says nothing, those of an earlier one.
    #[must_use]
    pub fn or(self, earlier: Self) -> Self {
        Self {
            listen_port: self.listen_port.or(earlier.listen_port),
            interface: self.interface.or(earlier.interface),
            api_listen: self.api_listen.or(earlier.api_listen),
        }
    }
}

/// Nothing where nothing was ever said.
pub(super) fn load(path: &Path) -> Result<StartOptions, Problem> {
    Ok(stored::read_public(path)?.unwrap_or_default())
}

/// Replaces the file, unless it says the same.
pub(super) fn save(path: &Path, options: &StartOptions) -> Result<(), Problem> {
    match load(path)? == *options {
        true => Ok(()),
        false => stored::replace(path, options),
    }
}
