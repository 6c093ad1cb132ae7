//! Whatever stands in the file: an answer, soon, and never a panic.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use meshd::{
    config::{self, Settings},
    problem::Problem,
};
use proptest::prelude::*;

fn read(text: &str) -> Result<Settings, Problem> {
    let variables = |name: &str| (name == "X").then(|| "value".to_owned());
    let raw = config::parse_text(Path::new("m.yaml"), text, &variables)?;
    Settings::parse(&raw, "box")
}

/// Refused as wrong, well within the time that a person would wait.
fn is_refused_at_once(text: &str, what: &str) {
    let start = Instant::now();
    let problem = read(text).expect_err(what);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{what} took {:?}",
        start.elapsed()
    );
    assert!(
        ["config-invalid", "config-unknown-key", "config-too-large"]
            .contains(&problem.code.as_str()),
        "{what}: {problem}"
    );
    assert!(
        problem.to_string().len() < 10_000,
        "{what}: a message of {} bytes",
        problem.to_string().len()
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![below; 10].join(", ")
        ));
    }
    is_refused_at_once(&text, "unknown keys in front");

    // The same behind a key that exists, so that the aliases are followed.
    let mut text = "mesh:\n  stun:\n    servers:\n      - &a0 x\n".to_owned();
    for level in 0..100_000 {
        text.push_str(if level % 2 == 0 {
            "      - *a0\n"
        } else {
            "      - x\n"
        });
    }
    is_refused_at_once(&text, "many aliases");

    let nested = (1..20).fold("&a0 [x, x]".to_owned(), |inner, level| {
        format!("&a{level} [{inner}, *a{}, *a{}]", level - 1, level - 1)
    });
    is_refused_at_once(
        &format!("mesh: {{stun: {{servers: {nested}}}}}"),
        "nested aliases",
    );
}

#[test]
fn an_anchor_that_contains_itself_is_refused() {
    is_refused_at_once("mesh: &m\n  device: *m\n", "a section in itself");
    is_refused_at_once("mesh: {stun: {servers: &s [*s]}}\n", "a list in itself");
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [
        ("[", "]"),
        ("{a: ", "}"),
        ("- ", ""),
        ("? ", ""),
        ("!!str ", ""),
        ("[", ""),
    ] {
        let deep = format!("mesh: {}{}", open.repeat(100_000), close.repeat(100_000));
        is_refused_at_once(&deep, open);
        is_refused_at_once(
            &format!("{}x{}", open.repeat(100_000), close.repeat(100_000)),
            open,
        );
    }
    let indented: String = (0..1_400)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    is_refused_at_once(&indented, "indentation");
}

#[test]
fn an_endless_list_and_an_endless_name_are_refused() {
    let list = format!("mesh: {{stun: {{servers: [{}]}}}}", "a,".repeat(400_000));
    is_refused_at_once(&list, "a list");
    is_refused_at_once(&"a".repeat(900_000), "a word");
    is_refused_at_once(&format!("{}: 1", "a".repeat(1_000)), "a key");
    is_refused_at_once(&format!("? {}\n: 1", "a".repeat(900_000)), "a long key");
    is_refused_at_once(
        &format!("mesh: {{name: {}}}", "a".repeat(900_000)),
        "a value",
    );
    is_refused_at_once(
        &format!("mesh: {{name: \"{}\"}}", "${".repeat(400_000)),
        "references",
    );
    is_refused_at_once(&"a".repeat(2_000_000), "a file");
}

#[test]
fn merge_keys_tags_and_second_documents_are_refused() {
    for text in [
        "mesh: &m {enabled: true}\napi:\n  <<: *m\n",
        "mesh: {name: !python/object x}\n",
        "mesh: {name: !!binary aGk=}\n---\nmesh: {}\n",
        "mesh: {}\n---\nmesh: {}\n",
    ] {
        is_refused_at_once(text, text);
    }
}

/// Pieces of YAML and of our own keys: far more of these texts get past the scanner than of arbitrary ones.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "mesh",
        "device",
        "shares",
        "servers",
        "turn",
        "name",
        "mtu",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "!!str ",
        "! ",
        "|",
        ">",
        "|-\n",
        "'",
        "\"",
        "\\",
        "#",
        "%",
        "@",
        "---\n",
        "...\n",
        "? ",
        "<<",
        "~",
        "null",
        "true",
        "1",
        "-1",
        "1e999",
        "0x10",
        ".nan",
        "${X}",
        "${Y}",
        "${",
        "$${",
        "}",
        "\t",
        "\r",
        "\u{feff}",
        "\u{2028}",
        "é",
        "\0",
        "\u{1F600}",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        if let Err(problem) = read(&text) {
            prop_assert!(!problem.title.is_empty() && !problem.fix.is_empty());
        }
    }

    #[test]
    fn anything_like_yaml_is_read_or_refused(text in yaml_like()) {
        if let Err(problem) = read(&text) {
            prop_assert!(!problem.title.is_empty() && !problem.fix.is_empty());
            // A message is printed on a terminal: nothing in it may steer one.
            prop_assert!(!problem.to_string().contains(|c: char| c.is_control() && c != '\n'), "{problem:?}");
        }
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(value in any::<String>(), key in 0..config::KEYS.len()) {
        let path = config::KEYS[key].path.replace("[]", "");
        let depth = path.split('.').count();
        let quoted = serde_json::to_string(&value).expect("JSON text, which is also YAML");
        let open = path.replace('.', ": {");
        let text = format!("{open}: {quoted}{}", "}".repeat(depth - 1));
        if let Err(problem) = read(&text) {
            prop_assert!(!problem.title.is_empty());
        }
    }
}
