//! What does a URL path name? Decoded once, refused rather than repaired. Pure.

use percent_encoding::percent_decode;

/// The longest name that a file system has.
const MAX_SEGMENT: usize = 255;
/// Deeper than any real tree, shallow enough that resolving costs nothing.
const MAX_DEPTH: usize = 128;

/// What a URL path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/`: the shares.
    Root,
    /// Something in a share.
    Inside {
        /// The share's name, as asked for.
        share: String,
        /// The names below it; none for the share itself.
        names: Vec<Vec<u8>>,
        /// Whether the path ends with a slash.
        slash: bool,
    },
}

/// Reads the path of a URL. `None` is "not found": a dot segment, NUL, separator or empty name after decoding, or a
/// malformed escape.
pub(crate) fn parse(path: &str) -> Option<Target> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Target::Root);
    }
    let (path, slash) = match path.strip_suffix('/') {
        Some(shorter) => (shorter, true),
        None => (path, false),
    };
    let mut names = path.split('/').map(decode);
    let share = String::from_utf8(names.next()??).ok()?;
    let names = names.collect::<Option<Vec<_>>>()?;
    (names.len() <= MAX_DEPTH).then_some(Target::Inside {
        share,
        names,
        slash,
    })
}

/// One name of a path, percent-decoded once; `None` where it is no plain name.
fn decode(text: &str) -> Option<Vec<u8>> {
    if !escapes_are_well_formed(text.as_bytes()) {
        return None;
    }
    let name: Vec<u8> = percent_decode(text.as_bytes()).collect();
    let separator = |byte: &u8| *byte == b'/' || char::from(*byte) == std::path::MAIN_SEPARATOR;
    let bad = name.is_empty()
        || name.len() > MAX_SEGMENT
        || name == b"."
        || name == b".."
        || name.contains(&0)
        || name.iter().any(separator);
    (!bad).then_some(name)
}

fn escapes_are_well_formed(text: &[u8]) -> bool {
    text.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| {
            let digits = text.get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inside(share: &str, names: &[&[u8]], slash: bool) -> Option<Target> {
        Some(Target::Inside {
            share: share.to_owned(),
            names: names.iter().map(|name| name.to_vec()).collect(),
            slash,
        })
    }

    #[test]
    fn plain_and_escaped_names_are_read() {
        assert_eq!(parse("/"), Some(Target::Root));
        assert_eq!(parse("/docs"), inside("docs", &[], false));
        assert_eq!(parse("/docs/"), inside("docs", &[], true));
        assert_eq!(
            parse("/docs/a/b.txt"),
            inside("docs", &[b"a", b"b.txt"], false)
        );
        assert_eq!(
            parse("/docs/a%20b%25%23%3F/"),
            inside("docs", &[b"a b%#?"], true)
        );
        assert_eq!(parse("/docs/%FF%00x"), None);
        assert_eq!(parse("/docs/%FF"), inside("docs", &[b"\xff"], false));
        assert_eq!(parse("/%C3%9C/.hidden"), inside("Ü", &[b".hidden"], false));
    }

    #[test]
    fn escapes_are_decoded_only_once() {
        assert_eq!(parse("/d/%252e%252e"), inside("d", &[b"%2e%2e"], false));
    }

    #[test]
    fn traversal_and_malformed_paths_name_nothing() {
        for path in [
            "",
            "docs",
            "//",
            "//docs",
            "/docs//a",
            "/docs/a//",
            "/..",
            "/docs/..",
            "/docs/../etc",
            "/docs/%2e%2e/x",
            "/docs/.%2E/x",
            "/docs/.",
            "/docs/./a",
            "/docs/a%2Fb",
            "/docs/%2e%2e%2fetc",
            "/docs/%00",
            "/docs/%",
            "/docs/%4",
            "/docs/%zz",
            "/%ff/",
            "*",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse(&format!("/d/{}", "a".repeat(256))), None);
        assert_eq!(parse(&format!("/d{}", "/a".repeat(129))), None);
    }

    proptest! {
        #[test]
        fn no_path_yields_a_name_that_can_leave_its_folder(path in "/[a-z./%0-9A-F\\\\]{0,40}") {
            if let Some(Target::Inside { names, .. }) = parse(&path) {
                for name in names {
                    prop_assert!(!name.is_empty() && name != b".." && name != b".");
                    prop_assert!(!name.contains(&b'/') && !name.contains(&0));
                }
            }
        }
    }
}
