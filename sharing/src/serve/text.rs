//! How do arbitrary names become safe text in URLs, pages and header fields? Pure.

use std::fmt::Write;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What RFC 3986 lets stand in a path segment unescaped, less the characters that pages and shells trip over.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One name as a path segment of a URL, exact for any bytes.
pub(crate) fn segment(name: &[u8]) -> String {
    percent_encode(name, SEGMENT).to_string()
}

/// The path of something in a share, as an absolute URL path; ends with a slash for a folder.
pub(crate) fn url_path(share: &str, names: &[Vec<u8>], folder: bool) -> String {
    let mut path = format!("/{}", segment(share.as_bytes()));
    for name in names {
        path.push('/');
        path.push_str(&segment(name));
    }
    if folder {
        path.push('/');
    }
    path
}

/// Text for HTML content and quoted attributes. Control and direction-changing characters become visible, so that a name
/// cannot pretend to be another.
pub(crate) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.push('\u{fffd}')
            }
            control if control.is_control() => safe.push('\u{fffd}'),
            plain => safe.push(plain),
        }
    }
    safe
}

/// The value of `Content-Disposition` for a download under `name`: the plain form for old clients and the exact
/// one of RFC 8187.
pub(crate) fn disposition(name: &[u8]) -> HeaderValue {
    let plain: String = name
        .iter()
        .map(|byte| match *byte {
            b'"' | b'\\' | b'%' => '_',
            printable @ 0x20..=0x7e => char::from(printable),
            _ => '_',
        })
        .collect();
    // RFC 8187 has no way to carry bytes that are not UTF-8.
    let exact = segment(String::from_utf8_lossy(name).as_bytes());
    HeaderValue::try_from(format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
    ))
    .unwrap_or(HeaderValue::from_static("attachment"))
}

/// A size for people: three digits and a binary unit.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        // 999.5 and more would print as four digits.
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = match value {
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// `2026-11-20 15:04 UTC` from seconds since the epoch.
pub(crate) fn human_time(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let minutes = seconds.rem_euclid(86_400) / 60;
    let mut text = String::new();
    let (hour, minute) = (minutes / 60, minutes % 60);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC"
    );
    text
}

/// The Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin on 1 March.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_survives_the_way_through_a_url() {
        for name in [
            "a b", "100%", "a?b#c", "Übung", "<script>", "'\"", "a+b&c;d", "\n",
        ] {
            let encoded = segment(name.as_bytes());
            assert!(
                encoded.is_ascii() && !encoded.contains(['?', '#', '<', '"', ' ', '\'', '&']),
                "{encoded}"
            );
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(&encoded).collect();
            assert_eq!(decoded, name.as_bytes());
        }
        assert_eq!(segment(b"\xff%"), "%FF%25");
        assert_eq!(
            url_path("My Docs", &[b"a/b".to_vec(), b"c".to_vec()], true),
            "/My%20Docs/a%2Fb/c/"
        );
    }

    #[test]
    fn markup_and_hidden_characters_are_defused() {
        assert_eq!(
            html("<a href=\"x\">'&"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;"
        );
        assert_eq!(html("exe\u{202e}txt\n"), "exe\u{fffd}txt\u{fffd}");
    }

    #[test]
    fn a_download_name_cannot_break_its_header() {
        let value = |name: &[u8]| disposition(name).to_str().unwrap().to_owned();
        assert_eq!(
            value(b"a b.txt"),
            "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"
        );
        assert_eq!(
            value("ü\"\r\nX: y".as_bytes()),
            "attachment; filename=\"_____X: y\"; filename*=UTF-8''%C3%BC%22%0D%0AX%3A%20y"
        );
    }

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10_240, "10.0 KiB"),
            (1_048_576, "1.00 MiB"),
            (1_047_552, "1.00 MiB"),
            (5_368_709_120, "5.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
            (951_826_140, "2000-02-29 12:09 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_time(seconds), text);
        }
    }
}
