//! What is wrong with the configuration file?
//!
//! Every problem names the file and the line; lists are complete, so that one run shows all there is to mend.

use std::{fmt, path::Path};

use super::{Problem, listed};
use crate::config::{Finding, NotBuilt, Place};

/// The file cannot be opened or read.
pub fn config_unreadable(file: &Path, error: &dyn fmt::Display) -> Problem {
    Problem::new(
        0,
        "config-unreadable",
        format!("cannot read the configuration {}", file.display()),
    )
    .detail(error.to_string())
    .fix("name the right file (--config FILE), or write one: meshd config example > FILE")
}

/// The file is far larger than any configuration.
pub fn config_too_large(file: &Path, limit: u64) -> Problem {
    Problem::new(
        0,
        "config-too-large",
        format!("{} is no configuration file", file.display()),
    )
    .detail(format!("it is larger than {limit} bytes"))
    .fix("name the right file (--config FILE)")
}

/// The code of what is wrong on the command line alone; such a command ends with 2, as one with an unknown option does.
pub const WRONG_USAGE: &str = "wrong-usage";

/// Values that cannot be used, each with its place.
pub fn config_invalid(file: &Path, findings: &[Finding]) -> Problem {
    let count = findings.len();
    let errors = if count == 1 { "error" } else { "errors" };
    let title = if findings.iter().any(Finding::is_in_file) {
        format!("{} has {count} {errors}", file.display())
    } else {
        format!("the command line has {count} {errors}")
    };
    let is_of_flag = |finding: &Finding| matches!(finding.place(), Place::Flag(_));
    let code = match findings.iter().all(is_of_flag) {
        true => WRONG_USAGE,
        false => "config-invalid",
    };
    Problem::new(0, code, title)
        .detail(listed(findings.iter().map(ToString::to_string)))
        .fix("correct the named lines; meshd config example shows every key with its form")
}

/// A key that does not exist; `hint` says which one may have been meant.
pub fn config_unknown_key(file: &Path, line: u64, key: &str, hint: Option<&str>) -> Problem {
    let key = shown_key(key);
    let fix = hint.map_or_else(
        || "remove it; meshd config example shows every key".to_owned(),
        |hint| format!("did you mean {hint}?"),
    );
    Problem::new(
        0,
        "config-unknown-key",
        format!(
            "{} line {line}: there is no key `{key}` here",
            file.display()
        ),
    )
    .detail("a misspelt key would silently leave its default in force, so it is refused")
    .fix(fix)
}

/// Variables that the file names and the environment lacks: line and name of each.
pub fn config_missing_variable(file: &Path, missing: &[(u64, String)]) -> Problem {
    let first = missing.first().map_or("VAR", |(_, name)| name.as_str());
    let fix = format!(
        "set it (export {first}=..., and sudo --preserve-env={first} where sudo drops it), \
         or give it a default: ${{{first}:-value}}"
    );
    let line = |(line, name): &(u64, String)| {
        format!("line {line}: the environment variable {name} is not set")
    };
    Problem::new(
        0,
        "config-missing-variable",
        format!("{} uses a variable that is not set", file.display()),
    )
    .detail(listed(missing.iter().map(line)))
    .fix(fix)
}

/// Keys whose features this version lacks.
pub fn config_feature_not_built(file: &Path, keys: &[NotBuilt]) -> Problem {
    let title = format!(
        "{} asks for what this version of meshd cannot do yet",
        file.display()
    );
    Problem::new(0, "config-feature-not-built", title)
        .detail(listed(keys.iter().map(ToString::to_string)))
        .fix("remove the named lines, or write # before them; nothing of the file was applied")
}

/// The file switches the mesh off, and `meshd up` was asked to switch it on.
pub fn mesh_disabled(file: &Path) -> Problem {
    Problem::new(
        0,
        "mesh-disabled",
        format!("{} disables the mesh", file.display()),
    )
    .detail("it says mesh.enabled: false")
    .fix("write mesh.enabled: true (or leave the key out), then start again")
}

/// A key as it stands in the file, fit for a terminal; the longest real one has 20 characters.
pub(crate) fn shown_key(key: &str) -> String {
    const LONGEST: usize = 40;
    let mut shown: String = key
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if key.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}
