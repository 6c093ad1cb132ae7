//! Does the tree keep the house rules that the compiler does not know?
//!
//! One module per rule; each takes text and returns [`Violation`]s, and proves in its own tests that it can fail.
//! `tests/tree.rs` runs them all over the workspace.

pub mod claims;
pub mod edges;
pub mod items;
pub mod map;
pub mod names;
pub mod places;
pub mod sizes;
pub mod tokens;
pub mod tree;
pub mod unfinished;

use std::fmt;

/// A broken rule, and where. `line` counts from 1; 0 means the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl Violation {
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}
