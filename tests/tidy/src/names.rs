//! Does every file, module and type say what it holds, instead of `util`?

use crate::Violation;
use crate::tokens::{Kind, tokens};
use crate::tree::File;

const EMPTY_WORDS: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

/// Files and directories with an empty word in their name.
pub fn paths(paths: &[String]) -> Vec<Violation> {
    paths
        .iter()
        .filter_map(|path| {
            let name = path.rsplit('/').next()?;
            let stem = name.split('.').next()?;
            Some(Violation::new(path, 0, complaint(stem)?))
        })
        .collect()
}

/// Modules, structs, enums and traits with an empty word in their name.
pub fn definitions(file: &File) -> Vec<Violation> {
    tokens(&file.text)
        .windows(2)
        .filter(|pair| {
            ["mod", "struct", "enum", "trait"]
                .iter()
                .any(|k| pair[0].is(k))
        })
        .filter(|pair| pair[1].kind == Kind::Word)
        .filter_map(|pair| {
            Some(Violation::new(
                &file.path,
                pair[1].line,
                complaint(&snake_case(pair[1].text))?,
            ))
        })
        .collect()
}

fn complaint(name: &str) -> Option<String> {
    let word = name
        .split(['_', '-'])
        .find(|word| EMPTY_WORDS.contains(word))?;
    Some(format!("`{word}` in the name `{name}`: say what it holds"))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_word_is_found_in_file_and_directory_names() {
        let tree = [
            "a/utils.rs",
            "a/common/b.rs",
            "a/common",
            "a/peer_manager.rs",
            "a/commons.rs",
            "c.rs",
        ];
        let found: Vec<String> = paths(&tree.map(str::to_owned))
            .into_iter()
            .map(|v| v.path)
            .collect();
        assert_eq!(found, ["a/utils.rs", "a/common", "a/peer_manager.rs"]);
    }

    #[test]
    fn an_empty_word_is_found_in_modules_and_types() {
        let text = "mod helpers;\nstruct PeerManager;\nuse hyper_util::x;\nenum Common {}\nmod fine {}\n// mod util;";
        let file = File {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        let lines: Vec<usize> = definitions(&file).iter().map(|v| v.line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }
}
