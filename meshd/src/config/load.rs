//! How does a file become a [`RawConfig`], and what does its reader say when it cannot?

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use serde_saphyr::{
    DuplicateKeyPolicy, Error, MessageFormatter, Options, UserMessageFormatter,
    options::MergeKeyPolicy,
};

use super::{
    keys,
    place::{Finding, Place},
    raw::RawConfig,
    variables,
};
use crate::problem::{self, Problem};

/// The greatest file that is read, in bytes: hundreds of times any real one, and quick to refuse.
pub const MAX_FILE: u64 = 1024 * 1024;

/// The deepest nesting of the format is 5 (`mesh.turn.servers[].url`); the rest is room to report a wrong level.
const MAX_DEPTH: usize = 16;

/// Values and collections in one file: room for some thousand shares.
const MAX_NODES: usize = 50_000;

/// Nodes that aliases (`*name`) may add. Anchors save typing; what needs more than this is a bomb.
const MAX_ALIASED: usize = 1_000;

/// The longest unknown key that is compared with the known ones, in bytes: three times the longest of those.
const MAX_COMPARED: usize = 60;

/// Reads the file, with `${VAR}` from the environment.
pub fn load(file: &Path) -> Result<RawConfig, Problem> {
    let text = read(file).map_err(|error| problem::config_unreadable(file, &error))?;
    parse_bytes(file, &text)
}

/// As [`load()`]; a file that is not there says nothing. For the default path, which may be absent.
pub fn load_if_present(file: &Path) -> Result<RawConfig, Problem> {
    match read(file) {
        Ok(text) => parse_bytes(file, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(RawConfig::default()),
        Err(error) => Err(problem::config_unreadable(file, &error)),
    }
}

/// Reads `text` as if it stood in `file`; `lookup` gives the value of a variable, `None` if it is not set.
pub fn parse_text(
    file: &Path,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<RawConfig, Problem> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(problem::config_too_large(file, MAX_FILE));
    }
    // An empty document says nothing, and nothing is wrong with that.
    let parsed = serde_saphyr::from_str_with_options::<Option<RawConfig>>(text, options());
    let mut raw = parsed
        .map_err(|error| explain(file, &error))?
        .unwrap_or_default();
    raw.file = file.to_owned();
    let failures = variables::expand_all(&mut raw, lookup);
    if !failures.malformed.is_empty() {
        return Err(problem::config_invalid(file, &failures.malformed));
    }
    if !failures.missing.is_empty() {
        return Err(problem::config_missing_variable(file, &failures.missing));
    }
    Ok(raw)
}

/// At most one byte more than [`MAX_FILE`].
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn parse_bytes(file: &Path, bytes: &[u8]) -> Result<RawConfig, Problem> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(problem::config_too_large(file, MAX_FILE));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = good.split(|byte| *byte == b'\n').count();
        let line = Place::Line(u64::try_from(line).unwrap_or(u64::MAX));
        problem::config_invalid(file, &[Finding::new(line, "", "the text is not UTF-8")])
    })?;
    parse_text(file, text, &|name| std::env::var(name).ok())
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_anchors: MAX_ALIASED,
            max_aliases: MAX_ALIASED,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
            max_replay_stack_depth: MAX_DEPTH,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // A merged section would carry lines that are not its own into every message.
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        emit_comments: false,
        // A snippet would show neighbouring lines, which may hold a password.
        with_snippet: false,
    }
}

fn explain(file: &Path, error: &Error) -> Problem {
    let line = error.location().map_or(1, |at| at.line());
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error.without_snippet();
    }
    if let Error::SerdeUnknownField {
        field, expected, ..
    } = cause
    {
        let hint = hint(field, expected);
        return problem::config_unknown_key(file, line, field, hint.as_deref());
    }
    let rule = rule_of(cause);
    problem::config_invalid(file, &[Finding::new(Place::Line(line), "", rule)])
}

/// The rule that the text breaks, without any of the values.
fn rule_of(error: &Error) -> String {
    if let Error::DuplicateMappingKey { key: Some(key), .. } = error {
        let key = problem::shown_key(key);
        return format!("the key `{key}` stands here for the second time");
    }
    if let Error::SerdeInvalidType { expected, .. } = error {
        return format!("{} is expected here", shape(expected));
    }
    if let Error::Unexpected { expected, .. } = error {
        return format!("{} is expected here", shape(expected));
    }
    let is_bomb = matches!(
        error,
        Error::Budget { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
    );
    if is_bomb {
        return "the file is nested too deeply, too large, or built of too many aliases".to_owned();
    }
    let message = UserMessageFormatter.format_message(error);
    message.replace(char::is_control, " ")
}

/// The reader's word for what it wants, in the words of the manual.
fn shape(expected: &str) -> &str {
    if expected.contains("struct") || expected.contains("map") {
        "a section (keys on lines of their own, indented below this one)"
    } else if expected.contains("sequence") {
        "a list (each item on a line of its own, behind a hyphen)"
    } else {
        "a single value"
    }
}

/// The nearest key of the same level, or else the section where a key of that name belongs.
fn hint(field: &str, level: &[&'static str]) -> Option<String> {
    // Comparing takes time and memory by the product of the lengths.
    if field.len() > MAX_COMPARED {
        return None;
    }
    let nearest = level
        .iter()
        .map(|key| (strsim::damerau_levenshtein(field, key), key))
        .filter(|(distance, key)| *distance <= 1.max(key.len() / 3))
        .min();
    if let Some((_, key)) = nearest {
        return Some(format!("`{key}`"));
    }
    let homes: Vec<String> = keys::homes_of(field)
        .into_iter()
        .map(|home| match home.as_str() {
            "" => format!("`{field}` at the top level, without indentation"),
            home => format!("`{field}` below `{home}`, indented"),
        })
        .collect();
    (!homes.is_empty()).then(|| homes.join(", or "))
}

#[cfg(test)]
mod tests;
