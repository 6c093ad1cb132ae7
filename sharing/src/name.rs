//! What may a share be called, and when do two names mean the same share?

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// Longest name in bytes of UTF-8: fits a DNS label and leaves room in every file system's 255.
pub const MAX_NAME_BYTES: usize = 63;

/// Separators, and what Windows and macOS clients cannot write in a path: a share must be mountable there.
const FORBIDDEN: &str = r#"/\:*?"<>|"#;

/// The name of a share as its owner spelled it, in Unicode normalization form C.
///
/// Two names are the same share when their [`ShareName::key`]s are equal: lower-cased and normalized again, so
/// `Docs`, `docs` and `DOCS` are one, and so are both encodings of `Übung`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareName(String);

impl ShareName {
    /// Checks a name. The error says which rule it breaks, as the end of a sentence that begins with the name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name: String = text.nfc().collect();
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err("must have 1 to 63 bytes");
        }
        if name.chars().any(|c| c.is_control()) {
            return Err("must not contain control characters");
        }
        if name.contains(|c| FORBIDDEN.contains(c)) {
            return Err(r#"must not contain any of / \ : * ? " < > |"#);
        }
        if name.starts_with('.') {
            return Err("must not begin with a dot (names such as .mesh are reserved)");
        }
        if name.starts_with(char::is_whitespace) {
            return Err("must not begin with a space");
        }
        if name.ends_with('.') || name.ends_with(char::is_whitespace) {
            return Err("must not end with a dot or a space");
        }
        Ok(Self(name))
    }

    /// The owner's spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form by which names are compared.
    pub fn key(&self) -> String {
        fold(&self.0)
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The comparison form of any text, also of one that is no valid name.
pub(crate) fn fold(text: &str) -> String {
    let lower: String = text.nfc().flat_map(char::to_lowercase).collect();
    lower.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_keep_their_spelling() {
        for good in ["docs", "My Photos", "a.b", "Übung", "日本", &"a".repeat(63)] {
            assert_eq!(ShareName::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_that_break_a_rule_are_refused() {
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            ".mesh",
            ".hidden",
            "a/b",
            "a\\b",
            "a:b",
            "a?",
            "a*",
            "a|b",
            "<b>",
            "\"q\"",
            "end.",
            "end ",
            " start",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            long.as_str(),
        ] {
            assert!(ShareName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_63_byte_limit_counts_bytes_after_normalization() {
        let decomposed = "u\u{308}".repeat(31);
        assert!(decomposed.len() > MAX_NAME_BYTES);
        assert_eq!(ShareName::parse(&decomposed).unwrap().as_str().len(), 62);
        assert!(ShareName::parse(&"ü".repeat(32)).is_err());
    }

    #[test]
    fn case_and_normalization_do_not_make_a_new_name() {
        let key = |text: &str| ShareName::parse(text).unwrap().key();
        assert_eq!(key("Docs"), key("dOCS"));
        assert_eq!(key("Übung"), key("u\u{308}bung"));
        assert_ne!(key("docs"), key("docs2"));
    }
}
