//! Where was a value written, so that an error can point there?

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use zeroize::Zeroize;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A flag of the command line (or its environment variable), such as `--cidr`.
    Flag(&'static str),
    /// A line of the configuration file, counted from 1.
    Line(u64),
    /// The state directory.
    State,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::State => f.write_str("state directory"),
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// Where it was written; for a list's item or a section, where that begins.
    pub place: Place,
    /// What was written.
    pub value: T,
}

/// A scalar as it was written, with `${VAR}` expanded once the file is loaded.
pub type Text = At<String>;

impl<T> At<T> {
    /// Wraps a value.
    pub const fn new(place: Place, value: T) -> Self {
        Self { place, value }
    }

    /// The line in the file; 0 for a value from elsewhere.
    pub const fn line(&self) -> u64 {
        match self.place {
            Place::Line(line) => line,
            Place::Flag(_) | Place::State => 0,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let place = Place::Line(spanned.referenced.line());
        Ok(Self::new(place, spanned.value))
    }
}

/// A scalar that must not be shown: wiped when dropped, and `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub Text);

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.value.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// One thing that is wrong: where, at which key, and which rule it breaks. Never holds the value itself, which
/// may be a secret that came from a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: Place,
    key: String,
    rule: String,
}

impl Finding {
    /// A finding about `key`; an empty key means the file as a whole.
    pub fn new(place: Place, key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            place,
            key: key.into(),
            rule: rule.into(),
        }
    }

    /// Where it is.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Whether it is the file that has to be corrected.
    pub const fn is_in_file(&self) -> bool {
        matches!(self.place, Place::Line(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.rule)
    }
}
