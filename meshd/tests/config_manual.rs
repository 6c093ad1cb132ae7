//! `docs/CONFIG.md` says what the program knows, no more and no less.

use meshd::config::{KEYS, Key, not_built_features};

const MANUAL: &str = include_str!("../../docs/CONFIG.md");

/// The rows of the table whose header row begins with `header`.
fn rows_below(header: &str) -> Vec<&'static str> {
    let lines = MANUAL.lines().skip_while(|line| !line.starts_with(header));
    lines
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect()
}

fn row(key: &Key) -> String {
    let default = match key.default {
        "" => "-".to_owned(),
        default => format!("`{default}`"),
    };
    format!(
        "| `{}` | {} | {default} | {} |",
        key.path, key.kind, key.meaning
    )
}

#[test]
fn the_manual_lists_exactly_the_keys_of_the_program() {
    let expected: Vec<String> = KEYS.iter().map(row).collect();
    assert_eq!(
        rows_below("| key | value |"),
        expected,
        "docs/CONFIG.md shall say:\n{}",
        expected.join("\n")
    );
}

#[test]
fn the_manual_lists_exactly_what_is_not_built() {
    let expected: Vec<String> = not_built_features()
        .map(|(key, feature)| format!("| `{key}` | {feature} |"))
        .collect();
    assert_eq!(
        rows_below("| key | asks for |"),
        expected,
        "docs/CONFIG.md shall say:\n{}",
        expected.join("\n")
    );
}

#[test]
fn every_key_that_is_not_built_is_a_key_or_a_list_of_keys() {
    for (key, _) in not_built_features() {
        let list = format!("{key}[].");
        assert!(
            KEYS.iter()
                .any(|known| known.path == key || known.path.starts_with(&list)),
            "{key}"
        );
    }
}
