//! Which bytes does a `Range` header ask for (RFC 9110 section 14)? Pure.

/// More ranges than this in one request serve no client and multiply our work.
pub(crate) const MAX_RANGES: usize = 16;

/// Bytes `first..=last` of a file; both lie inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl ByteRange {
    /// Number of bytes, at least 1.
    pub(crate) fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// The value of `Content-Range` for a file of `size` bytes.
    pub(crate) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.first, self.last)
    }
}

/// What to answer to a `Range` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The whole file: the header is malformed or in another unit, and must be ignored.
    Whole,
    /// These parts, in the order asked for; never empty.
    Parts(Vec<ByteRange>),
    /// 416: nothing in it lies inside the file, or it is abusive (too many or overlapping ranges).
    Unsatisfiable,
}

/// One range as written, before the size is known.
enum Spec {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

/// Reads a `Range` header for a file of `size` bytes.
pub(crate) fn parse(header: &str, size: u64) -> Wanted {
    let Some((unit, list)) = header.split_once('=') else {
        return Wanted::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    let mut seen = 0;
    // Empty list elements are legal (RFC 9110 section 5.6.1.2).
    for text in list.split(',').map(trim).filter(|text| !text.is_empty()) {
        let Some(spec) = parse_spec(text) else {
            return Wanted::Whole;
        };
        seen += 1;
        if seen > MAX_RANGES {
            return Wanted::Unsatisfiable;
        }
        // An empty file has a last part, but no byte in it that a Content-Range could name.
        if size == 0 && matches!(spec, Spec::Last(1..)) {
            return Wanted::Whole;
        }
        parts.extend(resolve(&spec, size));
    }
    if seen == 0 {
        return Wanted::Whole;
    }
    if parts.is_empty() || overlap(&parts) {
        return Wanted::Unsatisfiable;
    }
    Wanted::Parts(parts)
}

fn parse_spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => number(last).map(Spec::Last),
        (false, true) => number(first).map(Spec::From),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::Between(first, last))
        }
    }
}

/// Digits only; what does not fit 64 bits is beyond the end of any file all the same.
fn number(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

fn resolve(spec: &Spec, size: u64) -> Option<ByteRange> {
    let end = size.checked_sub(1)?;
    let (first, last) = match *spec {
        Spec::Between(first, last) => (first, last.min(end)),
        Spec::From(first) => (first, end),
        Spec::Last(0) => return None,
        Spec::Last(count) => (size.saturating_sub(count), end),
    };
    (first <= end).then_some(ByteRange { first, last })
}

fn overlap(parts: &[ByteRange]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_by_key(|range| range.first);
    sorted.windows(2).any(|pair| pair[0].last >= pair[1].first)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(list: &[(u64, u64)]) -> Wanted {
        let range = |&(first, last)| ByteRange { first, last };
        Wanted::Parts(list.iter().map(range).collect())
    }

    #[test]
    fn the_forms_of_rfc_9110_are_read() {
        assert_eq!(parse("bytes=0-99", 1000), parts(&[(0, 99)]));
        assert_eq!(parse("bytes=900-", 1000), parts(&[(900, 999)]));
        assert_eq!(parse("bytes=-5", 1000), parts(&[(995, 999)]));
        assert_eq!(parse("bytes=-5000", 1000), parts(&[(0, 999)]));
        assert_eq!(parse("bytes=0-0,-1", 1000), parts(&[(0, 0), (999, 999)]));
        assert_eq!(parse("Bytes= 5-6 ,, 1-2,", 1000), parts(&[(5, 6), (1, 2)]));
        assert_eq!(parse("bytes=990-2000", 1000), parts(&[(990, 999)]));
        let huge = "bytes=0-99999999999999999999999999";
        assert_eq!(parse(huge, 1000), parts(&[(0, 999)]));
    }

    #[test]
    fn parts_beyond_the_end_are_dropped_while_one_is_inside() {
        assert_eq!(parse("bytes=2000-,3-4", 1000), parts(&[(3, 4)]));
    }

    #[test]
    fn malformed_and_foreign_headers_are_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "items=0-5",
            "bytes=a-b",
            "bytes=5",
            "bytes=5-4",
            "bytes=-",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=0x1-2",
            "bytes=0-1,x",
        ] {
            assert_eq!(parse(header, 1000), Wanted::Whole, "{header}");
        }
    }

    #[test]
    fn nothing_inside_the_file_is_unsatisfiable() {
        for header in ["bytes=1000-", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(parse(header, 1000), Wanted::Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn an_empty_file_has_no_range() {
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0), Wanted::Whole);
    }

    #[test]
    fn overlapping_and_too_many_ranges_are_refused() {
        assert_eq!(parse("bytes=0-5,5-9", 1000), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=0-,0-", 1000), Wanted::Unsatisfiable);
        let list = |count: usize| {
            let ranges: Vec<_> = (0..count).map(|i| format!("{0}-{0}", i * 2)).collect();
            format!("bytes={}", ranges.join(","))
        };
        assert!(matches!(parse(&list(16), 1000), Wanted::Parts(parts) if parts.len() == 16));
        assert_eq!(parse(&list(17), 1000), Wanted::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn any_text_gives_ranges_inside_the_file(header in "(bytes=)?[-0-9, a=]{0,60}", size in any::<u64>()) {
            check(&header, size);
        }

        #[test]
        fn any_list_of_ranges_gives_ranges_inside_the_file(
            list in proptest::collection::vec((proptest::option::of(0..200u64), proptest::option::of(0..200u64)), 0..20),
            size in 0..150u64,
        ) {
            let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
            let ranges: Vec<_> = list.iter().map(|&(a, b)| format!("{}-{}", text(a), text(b))).collect();
            check(&format!("bytes={}", ranges.join(",")), size);
        }

        #[test]
        fn a_suffix_is_the_end_of_the_file(count in 1..u64::MAX, size in 1..u64::MAX) {
            let Wanted::Parts(parts) = parse(&format!("bytes=-{count}"), size) else {
                return Err(TestCaseError::fail("refused"));
            };
            prop_assert_eq!(parts[0].last, size - 1);
            prop_assert_eq!(parts[0].len(), count.min(size));
        }
    }

    fn check(header: &str, size: u64) {
        if let Wanted::Parts(parts) = parse(header, size) {
            assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
            for range in &parts {
                assert!(
                    range.first <= range.last && range.last < size,
                    "{range:?} of {size}"
                );
            }
            let total: u64 = parts.iter().map(|range| range.len()).sum();
            assert!(total <= size);
        }
    }
}
