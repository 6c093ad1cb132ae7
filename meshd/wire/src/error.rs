//! What is wrong with bytes or text that came from outside?

/// A value that could not be decoded. Carries no part of the input, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct DecodeError {
    /// The format that was expected, such as `node id`.
    pub what: &'static str,
    /// The rule that the input broke.
    pub why: &'static str,
}

impl DecodeError {
    /// An error about the format `what`, which broke the rule `why`.
    pub const fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }
}
