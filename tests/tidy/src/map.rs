//! Does every path that the architecture document names exist?

use crate::Violation;

const EXTENSIONS: [&str; 7] = [".rs", ".md", ".toml", ".sh", ".sql", ".html", ".css"];

/// Paths in inline code of a Markdown text that the tree lacks. `paths` are all files and directories of the tree.
///
/// A path may be written from the root, or shortened at its front (`node/inbound.rs`). A text without any path is a
/// violation too: then this check would hold nothing.
pub fn check(document: &str, text: &str, paths: &[String]) -> Vec<Violation> {
    let named: Vec<(usize, &str)> = code_spans(text)
        .into_iter()
        .filter(|(_, span)| is_path(span, paths))
        .collect();
    if named.is_empty() {
        return vec![Violation::new(
            document,
            0,
            "names no path of the tree in `backticks`",
        )];
    }
    named
        .into_iter()
        .filter(|(_, span)| !exists(span.trim_end_matches('/'), paths))
        .map(|(line, span)| Violation::new(document, line, format!("`{span}` does not exist")))
        .collect()
}

/// Inline code with its line, outside fenced blocks.
fn code_spans(text: &str) -> Vec<(usize, &str)> {
    let mut spans = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(|span| (number, span)),
            );
        }
    }
    spans
}

/// A file name with a known extension, or a path below one of the root's entries. No patterns, commands or addresses.
fn is_path(span: &str, paths: &[String]) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/{},".contains(c);
    if span.starts_with(['/', '.']) || !span.chars().all(plain) {
        return false;
    }
    let top = span.split('/').next().unwrap_or_default();
    EXTENSIONS.iter().any(|extension| span.ends_with(extension))
        || span.contains('/') && paths.iter().any(|path| path == top)
}

fn exists(named: &str, paths: &[String]) -> bool {
    paths.iter().any(|path| {
        path.strip_suffix(named)
            .is_some_and(|front| front.is_empty() || front.ends_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let tree = [
            "meshd",
            "meshd/core",
            "meshd/core/src",
            "meshd/core/src/node",
            "meshd/core/src/node/inbound.rs",
        ];
        check("doc.md", text, &tree.map(str::to_owned))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_path_that_is_gone_is_named_with_its_line() {
        assert_eq!(
            missing(
                "see `meshd/core/src/node/inbound.rs`\nand `meshd/core/src/gone.rs` or `outbound.rs`"
            ),
            [
                "doc.md:2: `meshd/core/src/gone.rs` does not exist",
                "doc.md:2: `outbound.rs` does not exist"
            ]
        );
        assert_eq!(missing("`meshd/nowhere/`").len(), 1);
        assert_eq!(
            missing("`meshd/core/src/node/{inbound,outbound}.rs`").len(),
            1
        );
    }

    #[test]
    fn a_path_may_be_shortened_at_its_front() {
        assert!(missing("`node/inbound.rs`, `inbound.rs`, `meshd/core/`").is_empty());
        assert_eq!(missing("`bound.rs`").len(), 1);
    }

    #[test]
    fn other_code_is_not_taken_for_a_path() {
        let text = "`meshd/core`, `/dev/net/tun`, `Option<T>`, `meshd up --json`, `tests/*`, `STATE/token`, `a::b`";
        assert!(missing(text).is_empty());
        assert!(missing("`meshd/core`\n```\n`gone.rs`\n```").is_empty());
    }

    #[test]
    fn a_document_without_paths_holds_nothing() {
        assert_eq!(
            missing("just words"),
            ["doc.md:0: names no path of the tree in `backticks`"]
        );
    }
}
