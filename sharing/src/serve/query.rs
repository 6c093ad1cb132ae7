//! What does the query of a URL ask for: a form of listing, its order, a page of it, a download? Pure.

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// Entries on a page when nothing is asked for: some 300 KB of HTML.
pub(crate) const DEFAULT_LIMIT: usize = 1_000;
/// Entries on a page at most: bounds the memory of one listing to a few megabytes.
pub(crate) const MAX_LIMIT: usize = 10_000;

/// A query, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Whether `list=` stands in it, so that a folder answers without a slash at the end too.
    pub(crate) list: bool,
    pub(crate) form: Form,
    pub(crate) order: Order,
    /// Whether a limit or a cursor was asked for.
    pub(crate) paged: bool,
    pub(crate) limit: usize,
    pub(crate) after: Option<Cursor>,
    pub(crate) download: bool,
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A page for people.
    Html,
    /// One document with one page of entries.
    Json,
    /// One entry per line; the whole folder if no page is asked for.
    Ndjson,
}

/// The order of a listing. Folders always come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) by: Column,
    pub(crate) descending: bool,
}

/// What a listing can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Name,
    Size,
    Modified,
}

/// The entry after which a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) folder: bool,
    /// Size or time of the entry, in the form by which entries are sorted.
    pub(crate) value: u64,
    pub(crate) name: Vec<u8>,
}

impl Query {
    /// Reads a query, with `Accept` for what it leaves open. The error says what is wrong, for the client.
    pub(crate) fn parse(query: &str, headers: &HeaderMap) -> Result<Self, &'static str> {
        let mut read = Self {
            list: false,
            form: accepted(headers),
            order: Order {
                by: Column::Name,
                descending: false,
            },
            paged: false,
            limit: DEFAULT_LIMIT,
            after: None,
            download: false,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match key {
                "list" => {
                    read.list = true;
                    read.form =
                        Form::parse(&value).ok_or("list= must be json, ndjson or html.\n")?;
                }
                "sort" => {
                    read.order = Order::parse(&value)
                        .ok_or("sort= must be name, size or mtime, or -name, -size, -mtime.\n")?;
                }
                "limit" => {
                    read.paged = true;
                    let limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    read.limit = limit.ok_or("limit= must be a number from 1 to 10000.\n")?;
                }
                "cursor" => {
                    read.paged = true;
                    read.after = Some(
                        Cursor::parse(&value)
                            .ok_or("cursor= must be taken from the page before.\n")?,
                    );
                }
                "download" => read.download = true,
                // Another program's parameter (a cache buster, say) changes nothing.
                _ => {}
            }
        }
        Ok(read)
    }
}

impl Form {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "html" => Some(Self::Html),
            "json" => Some(Self::Json),
            "ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

impl Order {
    fn parse(text: &str) -> Option<Self> {
        let (name, descending) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let by = match name {
            "name" => Column::Name,
            "size" => Column::Size,
            "mtime" => Column::Modified,
            _ => return None,
        };
        Some(Self { by, descending })
    }

    /// The value of `sort=`.
    pub(crate) fn as_str(self) -> &'static str {
        match (self.by, self.descending) {
            (Column::Name, false) => "name",
            (Column::Name, true) => "-name",
            (Column::Size, false) => "size",
            (Column::Size, true) => "-size",
            (Column::Modified, false) => "mtime",
            (Column::Modified, true) => "-mtime",
        }
    }
}

impl Cursor {
    /// The value of `cursor=`: opaque to clients, safe in a URL.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![u8::from(self.folder)];
        bytes.extend_from_slice(&self.value.to_be_bytes());
        bytes.extend_from_slice(&self.name);
        BASE64URL_NOPAD.encode(&bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (folder, rest) = bytes.split_first()?;
        let (value, name) = rest.split_first_chunk()?;
        Some(Self {
            folder: *folder != 0,
            value: u64::from_be_bytes(*value),
            name: name.to_vec(),
        })
    }
}

/// The form that `Accept` prefers: a browser always names HTML, a script that wants JSON names only that.
fn accepted(headers: &HeaderMap) -> Form {
    let accepts = |kind: &str| {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.to_ascii_lowercase().contains(kind))
    };
    if accepts("text/html") {
        Form::Html
    } else if accepts("application/x-ndjson") {
        Form::Ndjson
    } else if accepts("application/json") {
        Form::Json
    } else {
        Form::Html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Query, &'static str> {
        Query::parse(query, &HeaderMap::new())
    }

    #[test]
    fn an_empty_query_is_a_page_of_html_by_name() {
        let query = parse("").unwrap();
        assert_eq!(
            (query.form, query.limit, query.list, query.paged),
            (Form::Html, DEFAULT_LIMIT, false, false)
        );
    }

    #[test]
    fn parameters_are_read_and_unknown_ones_ignored() {
        let query = parse("list=json&sort=-size&limit=7&download&x=%zz&&").unwrap();
        assert_eq!(
            (query.form, query.limit, query.download, query.list),
            (Form::Json, 7, true, true)
        );
        assert_eq!(
            query.order,
            Order {
                by: Column::Size,
                descending: true
            }
        );
    }

    #[test]
    fn bad_values_are_named() {
        for query in [
            "list=xml",
            "list",
            "sort=colour",
            "limit=0",
            "limit=10001",
            "limit=-1",
            "limit=x",
            "cursor=!",
            "cursor=AA",
        ] {
            assert!(parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_cursor_survives_its_text_form() {
        let cursor = Cursor {
            folder: true,
            value: 5,
            name: b"\xff\x00 &=".to_vec(),
        };
        let query = parse(&format!("cursor={}", cursor.encode())).unwrap();
        assert_eq!(query.after, Some(cursor));
    }

    #[test]
    fn accept_chooses_json_only_where_html_is_not_wanted() {
        let form = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            Query::parse("", &headers).unwrap().form
        };
        assert_eq!(form("application/json"), Form::Json);
        assert_eq!(form("application/x-ndjson"), Form::Ndjson);
        assert_eq!(form("text/html,application/json;q=0.9"), Form::Html);
        assert_eq!(form("*/*"), Form::Html);
    }
}
