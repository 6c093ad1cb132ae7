//! Does the operations manual explain every problem code, and none that does not exist?
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use std::collections::BTreeSet;

const MANUAL: &str = include_str!("../../docs/OPERATIONS.md");

/// The codes of the manual's table: the first cell of each row, in backticks.
fn explained() -> Vec<&'static str> {
    let (_, table) = MANUAL.split_once("## Problem codes").unwrap();
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code)
        .collect()
}

#[test]
fn the_manual_explains_each_code_once_and_no_other() {
    let made: Vec<&str> = [meshd::problem::CODES, meshd::api::CODES, meshd::cli::CODES]
        .concat()
        .into_iter()
        .map(|(code, _)| code)
        .collect();
    let explained = explained();
    let as_set = |codes: &[&'static str]| codes.iter().copied().collect::<BTreeSet<_>>();
    let (explained_set, made_set) = (as_set(&explained), as_set(&made));
    let unexplained: Vec<_> = made_set.difference(&explained_set).collect();
    assert!(unexplained.is_empty(), "not in the manual: {unexplained:?}");
    let unmade: Vec<_> = explained_set.difference(&made_set).collect();
    assert!(unmade.is_empty(), "in the manual only: {unmade:?}");
    assert_eq!(explained.len(), as_set(&explained).len(), "explained twice");
    assert_eq!(made.len(), as_set(&made).len(), "one code, two meanings");
}

#[test]
fn every_row_has_a_cure() {
    let (_, table) = MANUAL.split_once("## Problem codes").unwrap();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        assert!(cells.iter().all(|cell| cell.trim().len() > 5), "{row}");
    }
}
