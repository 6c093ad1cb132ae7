//! The house rules, held over this repository.

use std::process::Command;
use std::{env, fs};

use tidy::tree::{self, File, root};
use tidy::{Violation, claims, claims::Scenarios, edges, map, names, places, sizes, unfinished};

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

#[track_caller]
fn assert_none(found: Vec<Violation>) {
    let list: String = found
        .iter()
        .map(|violation| format!("\n  {violation}"))
        .collect();
    assert!(found.is_empty(), "{} violations:{list}", found.len());
}

fn check_each(extensions: &[&str], check: impl Fn(&File) -> Vec<Violation>) {
    let files = tree::files(&root(), extensions).expect("the repository is readable");
    assert!(
        !files.is_empty(),
        "no file with extension {extensions:?} in {}",
        root().display()
    );
    assert_none(files.iter().flat_map(check).collect());
}

#[test]
fn crates_depend_on_each_other_in_the_allowed_directions_only() {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_none(edges::check(&String::from_utf8(output.stdout).unwrap()).unwrap());
}

#[test]
fn files_functions_and_structs_are_small() {
    check_each(&["rs"], sizes::check);
}

#[test]
fn unsafe_code_stays_in_platform() {
    check_each(&["rs"], places::unsafe_code);
}

#[test]
fn conditions_on_the_operating_system_stay_in_platform() {
    check_each(&["rs", "toml"], places::system_conditions);
}

#[test]
fn libraries_are_named_in_their_homes() {
    check_each(&["rs"], places::libraries_at_home);
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    check_each(&["rs", "toml", "sh"], unfinished::check);
}

#[test]
fn names_say_what_they_hold() {
    assert_none(names::paths(&tree::paths(&root()).unwrap()));
    check_each(&["rs"], names::definitions);
}

#[test]
fn every_path_in_the_architecture_document_exists() {
    let text = fs::read_to_string(root().join(ARCHITECTURE)).unwrap_or_else(|error| {
        panic!("{ARCHITECTURE} is the map of this repository and must exist: {error}")
    });
    assert_none(map::check(
        ARCHITECTURE,
        &text,
        &tree::paths(&root()).unwrap(),
    ));
}

#[test]
fn every_claim_about_security_has_its_test() {
    const SECURITY: &str = "docs/SECURITY.md";
    let text = fs::read_to_string(root().join(SECURITY)).unwrap();
    let files = tree::files(&root(), &["rs"]).unwrap();
    assert_none(claims::check(SECURITY, &text, &files));
}

#[test]
fn every_scenario_of_a_list_has_its_test_or_a_reason() {
    const TESTING: &str = "docs/TESTING.md";
    let text = fs::read_to_string(root().join(TESTING)).unwrap();
    let files = tree::files(&root(), &["rs"]).unwrap();
    for (label, count) in [("WG", 25), ("BT", 21), ("RT", 12)] {
        assert_none(Scenarios { label, count }.check(TESTING, &text, &files));
    }
}

#[test]
fn the_pure_crates_keep_the_lint_settings_of_the_root() {
    let shared = fs::read_to_string(root().join("clippy.toml")).unwrap();
    for crate_ in ["meshd/wire", "meshd/core"] {
        let path = format!("{crate_}/clippy.toml");
        let own = fs::read_to_string(root().join(&path)).unwrap();
        for line in shared
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            assert!(
                own.contains(line),
                "{path} replaces the root's clippy.toml but lacks `{line}`"
            );
        }
        for path_ in [
            "std::time::Instant::now",
            "std::collections::HashMap::iter",
            "std::net::UdpSocket",
        ] {
            assert!(
                own.contains(&format!("{path_}\"")),
                "{path} no longer forbids {path_}"
            );
        }
    }
}
