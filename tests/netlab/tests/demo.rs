//! Does a newcomer's first command show what it promises, and leave nothing behind?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn the_demo_links_two_homes_fetches_a_file_and_shows_the_status() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{shown}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for promise in ["3 received", "Hello over the mesh.", "first echo", "direct"] {
        assert!(shown.contains(promise), "{promise:?} is missing:\n{shown}");
    }
    // The shared path stands in the output; it went with the lab.
    let path = shown
        .split_whitespace()
        .find(|word| word.ends_with("/documents"))
        .unwrap();
    assert!(!std::path::Path::new(path).exists(), "{path}");
}
