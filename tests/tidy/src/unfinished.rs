//! Does the tree hold work that someone put off, or a test that does not run?

use crate::Violation;
use crate::items::closing;
use crate::tokens::{Token, tokens};
use crate::tree::File;

// In two pieces each, so that this file passes its own check.
const MARKS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
const MACROS: [&str; 2] = ["todo", "unimplemented"];
const IGNORED_EXAMPLE: &str = concat!("```", "ignore");

/// Marks of unfinished work in a Rust, TOML or shell file; in Rust also its macros and ignored tests.
pub fn check(file: &File) -> Vec<Violation> {
    let mut found = marks(file);
    if file.path.ends_with(".rs") {
        let tokens = tokens(&file.text);
        for (at, token) in tokens.iter().enumerate() {
            if let Some(what) = unfinished(&tokens, at) {
                found.push(Violation::new(&file.path, token.line, what));
            }
        }
    }
    found
}

fn marks(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            found.push(Violation::new(
                &file.path,
                number,
                format!("`{mark}`: finish it or drop it"),
            ));
        }
        if file.path.ends_with(".rs") && line.contains(IGNORED_EXAMPLE) {
            found.push(Violation::new(
                &file.path,
                number,
                "ignored example: make it compile, or `text`",
            ));
        }
    }
    found
}

fn unfinished(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let next = tokens.get(at + 1)?;
    if next.is("!") {
        let name = MACROS.iter().find(|name| tokens[at].is(name))?;
        return Some(format!("`{name}!` is a stub"));
    }
    if !tokens[at].is("#") || !next.is("[") {
        return None;
    }
    let attribute = &tokens[at + 2..closing(tokens, at + 1)];
    let first = attribute.first()?;
    let ignores =
        first.is("ignore") || first.is("cfg_attr") && attribute.iter().any(|t| t.is("ignore"));
    ignores.then(|| "ignored test: make it run, or delete it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&file)
            .iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn marks_are_found_in_comments_and_strings_of_every_kind_of_file() {
        for mark in MARKS {
            let text = format!("a\n# {mark}: later\nmktemp /tmp/{mark}{mark}\nx = \"{mark}\"");
            assert_eq!(lines("test.sh", &text), [2, 4]);
            assert_eq!(lines("Cargo.toml", &text), [2, 4]);
        }
    }

    #[test]
    fn stub_macros_and_ignored_tests_are_found() {
        let text = "fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }\n#[ignore]\n#[ignore = \"slow\"]\n\
                    #[cfg_attr(x, ignore)]\nlet todo = a; // #[ignore]\n#[serde(x)]";
        assert_eq!(lines("meshd/src/a.rs", text), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_ignored_example_is_found() {
        assert_eq!(
            lines("meshd/src/a.rs", &format!("/// {IGNORED_EXAMPLE}")),
            [1]
        );
        assert!(lines("meshd/src/a.rs", "/// ```text").is_empty());
    }
}
