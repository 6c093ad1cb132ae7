//! How is a failure told over HTTP? (RFC 9457, `application/problem+json`)

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`] body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document (RFC 9457 section 3) with two members of our own: `code` and `fix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status, 400 to 599; 0 where none applies.
    #[serde(default)]
    pub status: u16,
    /// Stable machine-readable name, such as `network-exists`. Also the last part of RFC 9457's `type`.
    pub code: String,
    /// What went wrong, in one sentence.
    pub title: String,
    /// Why, as far as it is known.
    #[serde(default)]
    pub detail: String,
    /// What the reader can do about it.
    #[serde(default)]
    pub fix: String,
}

impl Problem {
    /// A problem with a status, a code and a title; add the rest with [`Self::detail`] and [`Self::fix`].
    pub fn new(status: u16, code: &str, title: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            title: title.into(),
            detail: String::new(),
            fix: String::new(),
        }
    }

    /// Says why.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Says what helps.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() {
            write!(f, "\n  why: {}", self.detail)?;
        }
        if !self.fix.is_empty() {
            write!(f, "\n  fix: {}", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
