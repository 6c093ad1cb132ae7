//! Does code that belongs in one place stay there: `unsafe`, system conditions, the WireGuard library?

use crate::Violation;
use crate::items::closing;
use crate::tokens::{Kind, Token, tokens};
use crate::tree::{File, Role};

const PLATFORM: &str = "platform/";
const SESSION: [&str; 2] = [
    "meshd/core/src/peer/session.rs",
    "meshd/core/src/peer/session/tests.rs",
];
const WIREGUARD_LIBRARY: &str = "boringtun";
const SYSTEM_CONDITIONS: [&str; 6] = [
    "target_os",
    "target_family",
    "target_env",
    "target_vendor",
    "windows",
    "unix",
];

/// `unsafe` outside `platform/` and the test crates.
pub fn unsafe_code(file: &File) -> Vec<Violation> {
    if file.path.starts_with(PLATFORM) || Role::of(&file.path) == Role::TestCrate {
        return Vec::new();
    }
    tokens(&file.text)
        .iter()
        .filter(|token| token.is("unsafe"))
        .map(|token| Violation::new(&file.path, token.line, "`unsafe` outside platform/"))
        .collect()
}

/// `cfg(target_os = ..)`, `cfg!(unix)`, `cfg_attr(windows, ..)` outside `platform/`, in Rust and in manifests.
pub fn system_conditions(file: &File) -> Vec<Violation> {
    if file.path.starts_with(PLATFORM) {
        return Vec::new();
    }
    if file.path.ends_with("Cargo.toml") {
        return manifest_conditions(file);
    }
    let tokens = tokens(&file.text);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if !token.is("cfg") && !token.is("cfg_attr") {
            continue;
        }
        let open = if tokens.get(at + 1).is_some_and(|t| t.is("!")) {
            at + 2
        } else {
            at + 1
        };
        if !tokens.get(open).is_some_and(|t| t.is("(")) {
            continue;
        }
        if let Some(word) = tokens[open..closing(&tokens, open)]
            .iter()
            .find(|t| is_system(t))
        {
            found.push(condition(file, word.line, word.text));
        }
    }
    found
}

/// The WireGuard library's name in any other file than the session's. Comments count in production code.
pub fn wireguard_library(file: &File) -> Vec<Violation> {
    if SESSION.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let what = format!("`{WIREGUARD_LIBRARY}` named outside {}", SESSION[0]);
    let lines: Vec<usize> = match Role::of(&file.path) {
        Role::Production | Role::Test => (1..)
            .zip(file.text.lines())
            .filter(|(_, line)| line.contains(WIREGUARD_LIBRARY))
            .map(|(number, _)| number)
            .collect(),
        Role::TestCrate => tokens(&file.text)
            .iter()
            .filter(|token| token.is(WIREGUARD_LIBRARY))
            .map(|token| token.line)
            .collect(),
    };
    lines
        .into_iter()
        .map(|line| Violation::new(&file.path, line, what.clone()))
        .collect()
}

fn manifest_conditions(file: &File) -> Vec<Violation> {
    if Role::of(&file.path) == Role::TestCrate {
        return Vec::new();
    }
    (1..)
        .zip(file.text.lines())
        .filter(|(_, line)| line.contains("cfg("))
        .filter_map(|(number, line)| {
            let word = SYSTEM_CONDITIONS
                .iter()
                .find(|word| line.contains(**word))?;
            Some(condition(file, number, word))
        })
        .collect()
}

fn condition(file: &File, line: usize, word: &str) -> Violation {
    Violation::new(
        &file.path,
        line,
        format!("condition on `{word}` outside platform/"),
    )
}

fn is_system(token: &Token<'_>) -> bool {
    token.kind == Kind::Word && SYSTEM_CONDITIONS.contains(&token.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(check: fn(&File) -> Vec<Violation>, path: &str, text: &str) -> Vec<usize> {
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
    fn unsafe_is_found_where_it_must_not_be() {
        let text = "// unsafe\n#![deny(unsafe_code)]\nfn a() { unsafe { b() } }";
        assert_eq!(lines(unsafe_code, "meshd/src/a.rs", text), [3]);
        assert!(lines(unsafe_code, "platform/src/a.rs", text).is_empty());
        assert!(lines(unsafe_code, "tests/netlab/src/a.rs", text).is_empty());
    }

    #[test]
    fn conditions_on_the_system_are_found_in_each_spelling() {
        let text = "#[cfg(target_os = \"linux\")]\n#[cfg(not(windows))]\nif cfg!(unix) {}\n\
                    #[cfg_attr(all(x, unix), y)]\n#[cfg(test)]\n// #[cfg(unix)]\nmod unix;\n#[cfg(windows)] mod z;";
        assert_eq!(
            lines(system_conditions, "sharing/src/a.rs", text),
            [1, 2, 3, 4, 8]
        );
        assert!(lines(system_conditions, "platform/src/a.rs", text).is_empty());
    }

    #[test]
    fn conditions_on_the_system_are_found_in_manifests() {
        let text = "[dependencies]\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"";
        assert_eq!(lines(system_conditions, "sharing/Cargo.toml", text), [2]);
        assert!(lines(system_conditions, "platform/Cargo.toml", text).is_empty());
        assert!(lines(system_conditions, "tests/netlab/Cargo.toml", text).is_empty());
    }

    #[test]
    fn the_wireguard_library_is_named_in_one_file_only() {
        let text = "// boringtun\nuse boringtun::noise;\nlet x = \"boringtun\";";
        assert_eq!(
            lines(wireguard_library, "meshd/core/src/node/inbound.rs", text),
            [1, 2, 3]
        );
        assert_eq!(
            lines(wireguard_library, "tests/sim/src/clock.rs", text),
            [2]
        );
        assert!(lines(wireguard_library, SESSION[0], text).is_empty());
    }
}
