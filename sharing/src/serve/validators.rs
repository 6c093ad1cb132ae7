//! Does the client's copy still match (RFC 9110 sections 8.8 and 13)? Pure: takes the headers, the file's
//! validators and the time.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// A file written again within one tick of its clock keeps its time stamp. Until the stamp is this old, the entity tag
/// is weak: 2 s covers the coarsest file systems (FAT).
const RACY: Duration = Duration::from_secs(2);

/// What a response says about the version it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validators {
    /// Without the weakness mark, with quotes.
    opaque: String,
    weak: bool,
    modified: SystemTime,
}

/// What the preconditions allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it; `ranges` says whether a `Range` header may be honoured.
    Send {
        /// False where `If-Range` names another version.
        ranges: bool,
    },
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Validators {
    /// Validators of a file from its inode, size in bytes and time of last modification, as of `now`.
    pub(crate) fn new(inode: u64, size: u64, modified: SystemTime, now: SystemTime) -> Self {
        let (sign, since) = since_epoch(modified);
        // A stamp in the future is as good as an old one: a write now would move it.
        let distance = match now.duration_since(modified) {
            Ok(age) => age,
            Err(ahead) => ahead.duration(),
        };
        Self {
            opaque: format!("\"s-{inode:x}-{size:x}-{sign}{:x}\"", since.as_nanos()),
            weak: distance < RACY,
            modified,
        }
    }

    /// The value of `ETag`.
    pub(crate) fn etag(&self) -> String {
        format!("{}{}", if self.weak { "W/" } else { "" }, self.opaque)
    }

    /// The value of `Last-Modified`, never later than `now` (section 8.8.2.1). Times before 1970 become 1970,
    /// the earliest that the format's users read.
    pub(crate) fn last_modified(&self, now: SystemTime) -> String {
        httpdate::fmt_http_date(self.modified.min(now).max(SystemTime::UNIX_EPOCH))
    }

    /// Evaluates a GET's or HEAD's preconditions in the order of section 13.2.2.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Verdict {
        if headers.contains_key(header::IF_MATCH) {
            if !self.listed(headers, header::IF_MATCH, Self::equals_strongly) {
                return Verdict::Failed;
            }
        } else if date(headers, header::IF_UNMODIFIED_SINCE)
            .is_some_and(|date| whole_seconds(self.modified) > date)
        {
            return Verdict::Failed;
        }
        if headers.contains_key(header::IF_NONE_MATCH) {
            if self.listed(headers, header::IF_NONE_MATCH, Self::equals_weakly) {
                return Verdict::NotModified;
            }
        } else if date(headers, header::IF_MODIFIED_SINCE)
            .is_some_and(|date| whole_seconds(self.modified) <= date)
        {
            return Verdict::NotModified;
        }
        Verdict::Send {
            ranges: self.if_range(headers),
        }
    }

    /// Whether `If-Range` is absent or names this version. A date never does: it has whole seconds, and nobody can know
    /// that the file did not change twice within one (section 13.1.5 asks for a strong validator).
    fn if_range(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::IF_RANGE) {
            None => true,
            Some(value) => self.equals_strongly(value.as_bytes()),
        }
    }

    fn listed(
        &self,
        headers: &HeaderMap,
        name: header::HeaderName,
        equals: fn(&Self, &[u8]) -> bool,
    ) -> bool {
        headers.get_all(name).iter().any(|value| {
            let value = value.as_bytes().trim_ascii();
            value == b"*" || entity_tags(value).any(|tag| equals(self, tag))
        })
    }

    fn equals_strongly(&self, tag: &[u8]) -> bool {
        !self.weak && tag == self.opaque.as_bytes()
    }

    fn equals_weakly(&self, tag: &[u8]) -> bool {
        tag.strip_prefix(b"W/").unwrap_or(tag) == self.opaque.as_bytes()
    }
}

/// The members of a list of entity tags, with quotes and weakness mark. Ends at the first that is malformed.
fn entity_tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest
            .iter()
            .position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        rest = rest.get(start..)?;
        let open = if rest.starts_with(b"W/") { 2 } else { 0 };
        if rest.get(open) != Some(&b'"') {
            return None;
        }
        let inner = rest.get(open + 1..)?;
        let close = inner.iter().position(|byte| *byte == b'"')?;
        let (tag, after) = rest.split_at_checked(open + 1 + close + 1)?;
        rest = after;
        Some(tag)
    })
}

fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<SystemTime> {
    let text = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
}

/// HTTP dates have whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

fn since_epoch(time: SystemTime) -> (&'static str, Duration) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => ("", since),
        Err(before) => ("m", before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Verdict = Verdict::Send { ranges: true };
    const WHOLE: Verdict = Verdict::Send { ranges: false };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Modified at 1,000,000 s, seen a day later.
    fn settled() -> Validators {
        Validators::new(7, 42, at(1_000_000), at(1_086_400))
    }

    fn headers(list: &[(header::HeaderName, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn check(name: header::HeaderName, value: &str) -> Verdict {
        settled().check(&headers(&[(name, value)]))
    }

    #[test]
    fn a_young_file_has_a_weak_tag_and_a_settled_or_future_one_a_strong_tag() {
        let tag = |modified, now| Validators::new(7, 42, modified, now).etag();
        assert!(tag(at(100), at(101)).starts_with("W/\"s-7-2a-"));
        assert!(tag(at(101), at(100)).starts_with("W/"));
        assert!(tag(at(100), at(102)).starts_with("\"s-"));
        assert!(tag(at(4_000_000_000), at(100)).starts_with("\"s-"));
        assert_ne!(
            tag(at(100), at(200)),
            tag(SystemTime::UNIX_EPOCH - Duration::from_secs(100), at(200))
        );
    }

    #[test]
    fn last_modified_is_never_in_the_future_nor_before_the_epoch() {
        let stamp = |modified| Validators::new(1, 1, modified, at(100)).last_modified(at(100));
        assert_eq!(stamp(at(4_000_000_000)), "Thu, 01 Jan 1970 00:01:40 GMT");
        assert_eq!(
            stamp(SystemTime::UNIX_EPOCH - RACY),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    #[test]
    fn if_none_match_compares_weakly_and_reads_lists() {
        let tag = settled().etag();
        for value in [
            &tag,
            "*",
            &format!("W/{tag}"),
            &format!("\"a,b\", {tag} , \"c\""),
        ] {
            assert_eq!(
                check(header::IF_NONE_MATCH, value),
                Verdict::NotModified,
                "{value}"
            );
        }
        for value in ["\"other\"", "", "nonsense", "\"open"] {
            assert_eq!(check(header::IF_NONE_MATCH, value), SENT, "{value}");
        }
    }

    #[test]
    fn if_match_compares_strongly() {
        let tag = settled().etag();
        assert_eq!(check(header::IF_MATCH, &tag), SENT);
        assert_eq!(check(header::IF_MATCH, "*"), SENT);
        assert_eq!(
            check(header::IF_MATCH, &format!("W/{tag}")),
            Verdict::Failed
        );
        assert_eq!(check(header::IF_MATCH, "\"other\""), Verdict::Failed);
        let young = Validators::new(7, 42, at(100), at(101));
        let own = headers(&[(header::IF_MATCH, &young.etag())]);
        assert_eq!(young.check(&own), Verdict::Failed);
    }

    #[test]
    fn dates_compare_by_whole_seconds() {
        let date = |seconds| httpdate::fmt_http_date(at(seconds));
        assert_eq!(
            check(header::IF_MODIFIED_SINCE, &date(1_000_000)),
            Verdict::NotModified
        );
        assert_eq!(check(header::IF_MODIFIED_SINCE, &date(999_999)), SENT);
        assert_eq!(check(header::IF_MODIFIED_SINCE, "yesterday"), SENT);
        assert_eq!(check(header::IF_UNMODIFIED_SINCE, &date(1_000_000)), SENT);
        assert_eq!(
            check(header::IF_UNMODIFIED_SINCE, &date(999_999)),
            Verdict::Failed
        );
    }

    #[test]
    fn tags_take_precedence_over_dates() {
        let tag = settled().etag();
        let old = httpdate::fmt_http_date(at(1));
        let new = httpdate::fmt_http_date(at(2_000_000));
        let both = |list: [(header::HeaderName, &str); 2]| settled().check(&headers(&list));
        assert_eq!(
            both([
                (header::IF_MATCH, &tag),
                (header::IF_UNMODIFIED_SINCE, &old)
            ]),
            SENT
        );
        assert_eq!(
            both([
                (header::IF_NONE_MATCH, "\"x\""),
                (header::IF_MODIFIED_SINCE, &new)
            ]),
            SENT
        );
        assert_eq!(
            both([(header::IF_MATCH, "\"x\""), (header::IF_NONE_MATCH, &tag)]),
            Verdict::Failed
        );
    }

    #[test]
    fn if_range_needs_the_same_strong_tag() {
        let tag = settled().etag();
        assert_eq!(check(header::IF_RANGE, &tag), SENT);
        assert_eq!(check(header::IF_RANGE, &format!("W/{tag}")), WHOLE);
        assert_eq!(check(header::IF_RANGE, "\"other\""), WHOLE);
        assert_eq!(
            check(header::IF_RANGE, &httpdate::fmt_http_date(at(1_000_000))),
            WHOLE
        );
        let young = Validators::new(7, 42, at(100), at(101));
        assert_eq!(
            young.check(&headers(&[(header::IF_RANGE, &young.etag())])),
            WHOLE
        );
    }
}
