//! Does every test exist that a document names: the security document for its claims, the testing document for a list of
//! scenarios?

use crate::{Violation, tree::File};

/// Names of tests in inline code of a Markdown table of claims that no file defines. A table without any is a violation too.
pub fn check(document: &str, text: &str, files: &[File]) -> Vec<Violation> {
    let named: Vec<(usize, &str)> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.starts_with('|'))
        .flat_map(|(number, line)| {
            line.split('`')
                .skip(1)
                .step_by(2)
                .map(move |span| (number, span))
        })
        .filter(|(_, span)| is_test_name(span))
        .collect();
    if named.is_empty() {
        return vec![Violation::new(document, 0, "names no test for its claims")];
    }
    let is_missing = |name: &str| {
        let definition = format!("fn {name}(");
        !files.iter().any(|file| file.text.contains(&definition))
    };
    named
        .into_iter()
        .filter(|(_, name)| is_missing(name))
        .map(|(line, name)| Violation::new(document, line, format!("no test is called `{name}`")))
        .collect()
}

/// Tests are sentences here: five words or more.
fn is_test_name(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    span.chars().all(plain) && span.matches('_').count() >= 4
}

/// A list of scenarios by others, whose items are numbered from 1 on: `| XY-01 | what it asks | tests, or why there is none |`.
#[derive(Debug, Clone, Copy)]
pub struct Scenarios {
    /// `XY`.
    pub label: &'static str,
    /// The greatest number.
    pub count: usize,
}

impl Scenarios {
    /// Items that a document does not have exactly once, that say nothing, or that name a test (`path/of/file::name`) which
    /// is not in such a file.
    pub fn check(self, document: &str, text: &str, files: &[File]) -> Vec<Violation> {
        (1..=self.count)
            .flat_map(|number| {
                let item = format!("{}-{number:02}", self.label);
                let rows: Vec<(usize, &str)> = (1..)
                    .zip(text.lines())
                    .filter(|(_, row)| row.starts_with(&format!("| {item} |")))
                    .collect();
                let [(line, row)] = rows[..] else {
                    let what = format!("{} rows are about {item}", rows.len());
                    return vec![Violation::new(document, 0, what)];
                };
                let wrong = judge_row(row, files).into_iter();
                wrong
                    .map(|what| Violation::new(document, line, format!("{item}: {what}")))
                    .collect()
            })
            .collect()
    }
}

/// What is wrong with the last column of a row.
fn judge_row(row: &str, files: &[File]) -> Vec<String> {
    let answer = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
    let answer = answer.unwrap_or_default();
    let named = answer
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|span| span.split_once("::"));
    let missing = named
        .clone()
        .filter(|(file, name)| !files.iter().any(|it| is_at(it, file) && has_test(it, name)))
        .map(|(file, name)| format!("no test `{name}` in `{file}.rs`"));
    let silent = answer.split_whitespace().count() < 4 && named.clone().count() == 0;
    let silent = silent.then(|| "neither a test nor a reason".to_owned());
    missing.chain(silent).collect()
}

fn is_at(file: &File, named: &str) -> bool {
    let path = file.path.strip_suffix(".rs").unwrap_or_default();
    path.strip_suffix(named)
        .is_some_and(|front| front.is_empty() || front.ends_with('/'))
}

/// Whether a function of this name is there with an attribute that makes it a test.
fn has_test(file: &File, name: &str) -> bool {
    let definition = format!("fn {name}(");
    file.text.match_indices(&definition).any(|(at, _)| {
        let line = file.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let mut attributes = file.text[..line]
            .lines()
            .rev()
            .take_while(|line| line.trim_start().starts_with("#["));
        attributes.any(|attribute| attribute.contains("test]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> usize {
        let file = File {
            path: "a.rs".to_owned(),
            text: "#[test]\nfn a_thief_is_never_let_in() {}".to_owned(),
        };
        check("doc.md", text, &[file]).len()
    }

    #[test]
    fn a_claim_with_its_test_is_fine_and_one_with_another_is_not() {
        assert_eq!(complaints("| x | `mesh_x`: `a_thief_is_never_let_in` |"), 0);
        assert_eq!(complaints("| x | `a_thief_is_always_let_in` |"), 1);
        assert_eq!(complaints("no table, `a_thief_is_always_let_in`"), 1);
        assert_eq!(complaints("| x | `a_thief_is_let_in_at_3` |"), 1);
    }

    fn wrong(rows: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file(
                "a/node/tests.rs",
                "#[test]\nfn it_works() {}\nfn no_test() {}",
            ),
            file(
                "b/mesh.rs",
                "    #[cfg(x)]\n    #[tokio::test]\n    async fn waits() {}",
            ),
        ];
        let list = Scenarios {
            label: "XY",
            count: 2,
        };
        let found = list.check("doc.md", rows, &files);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_item_of_a_list_has_one_row_with_tests_that_exist_or_a_reason() {
        let reason = "| XY-02 | b | none: no such thing here |";
        for tests in ["`node/tests::it_works`", "`tests::it_works`; `mesh::waits`"] {
            assert!(wrong(&format!("| XY-01 | a | {tests} |\n{reason}")).is_empty());
        }
        assert_eq!(wrong(reason), ["doc.md:0: 0 rows are about XY-01"]);
        for (answer, what) in [
            ("`mesh::it_works`", "no test `it_works` in `mesh.rs`"),
            ("`tests::no_test`", "no test `no_test` in `tests.rs`"),
            ("`ests::it_works`", "no test `it_works` in `ests.rs`"),
            ("later", "neither a test nor a reason"),
        ] {
            let rows = format!("| XY-01 | a | {answer} |\n{reason}");
            assert_eq!(wrong(&rows), [format!("doc.md:1: XY-01: {what}")]);
        }
    }
}
