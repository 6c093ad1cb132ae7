//! What does a folder look like from outside? One page of entries, as HTML, JSON or lines of JSON.

mod entry;
mod html;
mod json;
mod page;
mod stream;

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::Semaphore;

use self::entry::Entry;
use super::{
    body::Body,
    lease::Lease,
    query::{Form, Order, Query},
    reply,
};
use crate::folder::Folder;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The page has no script, loads nothing, is framed by nobody and sends its forms nowhere.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A listing, ready to be sent.
pub(crate) enum Listing {
    /// In memory.
    Document(Document),
    /// Page by page, while it is sent.
    Lines(Box<stream::Lines>),
}

/// A listing in memory.
pub(crate) struct Document {
    kind: HeaderValue,
    content: String,
}

/// One page of a listing, in the terms that all forms share.
struct Page<'a> {
    /// Decoded names on the way here: the share, then the folders.
    trail: &'a [Vec<u8>],
    entries: Vec<Entry>,
    /// The value of `cursor=` for the page behind this one.
    next: Option<String>,
    order: Order,
    limit: usize,
    /// Whether this is not the first page.
    continued: bool,
}

/// Lists the folder that `trail` (share, then names) leads to. Blocks on the file system.
pub(crate) fn of_folder(
    folder: Folder,
    trail: &[Vec<u8>],
    query: &Query,
    lease: Lease,
) -> io::Result<Listing> {
    if query.form == Form::Ndjson && !query.paged {
        let lines = stream::Lines::new(folder, trail, query, lease);
        return Ok(Listing::Lines(Box::new(lines)));
    }
    let (entries, next) = page::collect(&folder, query)?;
    let next = next.map(|cursor| cursor.encode());
    Ok(Listing::Document(write(trail, entries, next, query)))
}

/// Lists the shares that a visitor sees: their names and whether it may write.
pub(crate) fn of_shares(shares: impl Iterator<Item = (String, bool)>, query: &Query) -> Listing {
    let entries = shares.map(|(name, rw)| Entry::share(name, rw)).collect();
    Listing::Document(write(&[], entries, None, query))
}

impl Listing {
    /// The response to a GET or HEAD.
    pub(crate) fn respond(self, method: &Method, threads: &Arc<Semaphore>) -> Response<Body> {
        let mut response = match self {
            Self::Document(document) => {
                let content = Bytes::from(document.content);
                reply::buffered(method, StatusCode::OK, document.kind, content)
            }
            Self::Lines(lines) => {
                let body = if *method == Method::HEAD {
                    Body::empty()
                } else {
                    Body::blocks(lines, None, threads.clone())
                };
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, NDJSON);
                headers.insert(
                    header::X_CONTENT_TYPE_OPTIONS,
                    HeaderValue::from_static("nosniff"),
                );
                response
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
        reply::guard_origin(headers);
        response
    }
}

fn write(trail: &[Vec<u8>], entries: Vec<Entry>, next: Option<String>, query: &Query) -> Document {
    let page = Page {
        trail,
        entries,
        next,
        order: query.order,
        limit: query.limit,
        continued: query.after.is_some(),
    };
    let (kind, content) = match query.form {
        Form::Html => (HTML, html::write(&page)),
        Form::Json => (JSON, json::document(&page)),
        Form::Ndjson => (NDJSON, json::lines(&page)),
    };
    Document { kind, content }
}
