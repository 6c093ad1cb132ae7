//! Does every test exist that the security document names for its claims?

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
    span.chars().all(|c| c.is_ascii_lowercase() || c == '_') && span.matches('_').count() >= 4
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
    }
}
