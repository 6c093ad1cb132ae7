//! How is a listing written for programs?

use serde::Serialize;

use super::{
    Page,
    entry::{Entry, What},
};
use crate::serve::text::{segment, url_path};

#[derive(Serialize)]
struct Document<'a> {
    /// URL path of the folder.
    path: String,
    entries: Vec<Line<'a>>,
    /// The value of `cursor=` for the next page; null on the last.
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: String,
    kind: &'a str,
    /// URL path, exact also where the name is not UTF-8.
    href: String,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'a str>,
}

#[derive(Serialize)]
struct Next<'a> {
    next: &'a str,
}

/// One page as one document.
pub(super) fn document(page: &Page<'_>) -> String {
    let base = base(page.trail);
    let document = Document {
        entries: page
            .entries
            .iter()
            .map(|entry| line(&base, entry))
            .collect(),
        path: base,
        next: page.next.as_deref(),
    };
    text(&document)
}

/// One page as lines; a last line `{"next": cursor}` where there is more.
pub(super) fn lines(page: &Page<'_>) -> String {
    let base = base(page.trail);
    let mut lines: String = page
        .entries
        .iter()
        .map(|entry| entry_line(&base, entry))
        .collect();
    if let Some(next) = &page.next {
        lines.push_str(&text(&Next { next }));
    }
    lines
}

/// One entry as one line; `base` is the URL path of its folder.
pub(super) fn entry_line(base: &str, entry: &Entry) -> String {
    text(&line(base, entry))
}

/// The URL path of the folder that `trail` leads to.
pub(super) fn base(trail: &[Vec<u8>]) -> String {
    match trail.split_first() {
        None => "/".to_owned(),
        Some((share, names)) => url_path(&String::from_utf8_lossy(share), names, true),
    }
}

fn line<'a>(base: &str, entry: &Entry) -> Line<'a> {
    let slash = if entry.is_folder() { "/" } else { "" };
    let (kind, size, mtime, access) = match entry.what {
        What::Share { rw } => (
            "share",
            None,
            None,
            Some(if rw { "read-write" } else { "read" }),
        ),
        What::Folder { modified } => ("folder", None, Some(modified), None),
        What::File { size, modified } => ("file", Some(size), Some(modified), None),
    };
    Line {
        name: entry.text(),
        kind,
        href: format!("{base}{}{slash}", segment(&entry.name)),
        size,
        mtime,
        access,
    }
}

fn text(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string(value).expect("strings, numbers and lists always have a JSON form");
    text.push('\n');
    text
}
