//! Does code that belongs in one place stay there: `unsafe`, system conditions, libraries with one home?

use crate::Violation;
use crate::items::closing;
use crate::tokens::{Kind, Token, tokens};
use crate::tree::{File, Role};

const PLATFORM: &str = "platform/";
/// Libraries that one file alone may name, so that what they are used for can be judged, or changed, in one place.
const HOMES: [(&str, &str); 2] = [
    ("snow", "meshd/core/src/wireguard/noise.rs"),
    ("boringtun", "meshd/core/tests/interop_boringtun.rs"),
];
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

/// A library's name in any other file than its home.
pub fn libraries_at_home(file: &File) -> Vec<Violation> {
    let away = HOMES.iter().filter(|(_, home)| *home != file.path);
    away.flat_map(|(library, home)| {
        tokens(&file.text)
            .into_iter()
            .filter(|token| token.kind == Kind::Word && token.is(library))
            .map(|token| {
                let what = format!("`{library}` named outside {home}");
                Violation::new(&file.path, token.line, what)
            })
            .collect::<Vec<_>>()
    })
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
    fn a_library_is_named_in_its_home_only() {
        let text = "// boringtun\nuse boringtun::noise;\nlet x = \"boringtun\";";
        let (_, home) = HOMES[1];
        assert_eq!(lines(libraries_at_home, "meshd/src/a.rs", text), [2]);
        assert!(lines(libraries_at_home, home, text).is_empty());
    }
}
