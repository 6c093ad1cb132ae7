//! How is a listing written for people? One page without scripts and without anything from elsewhere.

use std::fmt::Write;

use super::{
    Page,
    entry::{Entry, What},
    json::base,
};
use crate::serve::{
    query::{Column, DEFAULT_LIMIT, Order},
    text::{html, human_size, human_time, segment},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--link:light-dark(#0b57d0,#8ab4f8);--dim:light-dark(#555,#aaa)}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
a{color:var(--link);text-decoration:none}a:hover,a:focus{text-decoration:underline}\
nav{font-size:1.25rem;overflow-wrap:anywhere;margin-bottom:1rem}nav ol{list-style:none;display:inline;padding:0}\
nav li{display:inline}nav li+li::before{content:'/';color:var(--dim);padding:0 .35em}\
table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;text-align:left;border-bottom:1px solid var(--line)}\
th{font-weight:600;white-space:nowrap}td:first-child{overflow-wrap:anywhere}tbody tr:hover{background:var(--soft)}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.t{white-space:nowrap;color:var(--dim)}\
.folder{font-weight:600}p{color:var(--dim)}\
@media(max-width:36rem){.t{display:none}}";

/// The whole page.
pub(super) fn write(page: &Page<'_>) -> String {
    let mut out = String::with_capacity(4096 + page.entries.len() * 300);
    let title = title(page.trail);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        html(&title)
    );
    breadcrumb(&mut out, page.trail);
    out.push_str("<main>\n");
    if page.entries.is_empty() {
        let empty = if page.trail.is_empty() {
            "No shares for you here."
        } else {
            "Nothing in this folder."
        };
        let _ = writeln!(out, "<p>{empty}</p>");
    } else {
        table(&mut out, page);
    }
    pages(&mut out, page);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn title(trail: &[Vec<u8>]) -> String {
    match trail.last() {
        None => "Shares".to_owned(),
        Some(name) => String::from_utf8_lossy(name).into_owned(),
    }
}

fn breadcrumb(out: &mut String, trail: &[Vec<u8>]) {
    out.push_str("<nav aria-label=\"Path\"><ol>");
    if trail.is_empty() {
        out.push_str("<li aria-current=\"page\">Shares</li>");
    } else {
        out.push_str("<li><a href=\"/\">Shares</a></li>");
    }
    for (index, name) in trail.iter().enumerate() {
        let text = html(&String::from_utf8_lossy(name));
        if index + 1 == trail.len() {
            let _ = write!(out, "<li aria-current=\"page\">{text}</li>");
        } else {
            let href = base(trail.get(..=index).unwrap_or_default());
            let _ = write!(out, "<li><a href=\"{href}\">{text}</a></li>");
        }
    }
    out.push_str("</ol></nav>\n");
}

fn table(out: &mut String, page: &Page<'_>) {
    out.push_str("<table>\n<thead><tr>");
    if page.trail.is_empty() {
        out.push_str("<th scope=\"col\">Name</th><th scope=\"col\">Access</th>");
    } else {
        heading(out, page, "Name", Column::Name, "");
        heading(out, page, "Size", Column::Size, " class=\"n\"");
        heading(out, page, "Modified", Column::Modified, " class=\"t\"");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let base = base(page.trail);
    for entry in &page.entries {
        row(out, &base, entry);
    }
    out.push_str("</tbody>\n</table>\n");
}

/// A column's name, which sorts by it, and on the second click the other way round.
fn heading(out: &mut String, page: &Page<'_>, name: &str, by: Column, class: &str) {
    let current = page.order.by == by;
    let order = Order {
        by,
        descending: current && !page.order.descending,
    };
    let sorted = match (current, page.order.descending) {
        (false, _) => "",
        (true, false) => " aria-sort=\"ascending\"",
        (true, true) => " aria-sort=\"descending\"",
    };
    let href = query(order, page.limit, None);
    let _ = write!(
        out,
        "<th scope=\"col\"{class}{sorted}><a href=\"{href}\">{name}</a></th>"
    );
}

fn row(out: &mut String, base: &str, entry: &Entry) {
    let href = segment(&entry.name);
    let name = html(&entry.text());
    let _ = match entry.what {
        What::Share { rw } => {
            let access = if rw { "read and write" } else { "read" };
            writeln!(
                out,
                "<tr><td><a class=\"folder\" href=\"{base}{href}/\">{name}</a></td><td>{access}</td></tr>"
            )
        }
        What::Folder { modified } => writeln!(
            out,
            "<tr><td><a class=\"folder\" href=\"{base}{href}/\">{name}/</a></td><td class=\"n\"></td><td class=\"t\">{}</td></tr>",
            human_time(modified)
        ),
        What::File { size, modified } => writeln!(
            out,
            "<tr><td><a href=\"{base}{href}\">{name}</a></td><td class=\"n\" title=\"{size} {}\">{}</td><td class=\"t\">{}</td></tr>",
            if size == 1 { "byte" } else { "bytes" },
            human_size(size),
            human_time(modified)
        ),
    };
}

fn pages(out: &mut String, page: &Page<'_>) {
    if !page.continued && page.next.is_none() {
        return;
    }
    out.push_str("<nav aria-label=\"Pages\">");
    if page.continued {
        let _ = write!(
            out,
            "<a href=\"{}\">First page</a> ",
            query(page.order, page.limit, None)
        );
    }
    if let Some(next) = &page.next {
        let href = query(page.order, page.limit, Some(next));
        let _ = write!(out, "<a rel=\"next\" href=\"{href}\">Next page</a>");
    }
    out.push_str("</nav>\n");
}

/// A link to this folder in another order or on another page. All parts are safe in an attribute as they are.
fn query(order: Order, limit: usize, cursor: Option<&str>) -> String {
    let mut link = format!("?sort={}", order.as_str());
    if limit != DEFAULT_LIMIT {
        let _ = write!(link, "&amp;limit={limit}");
    }
    if let Some(cursor) = cursor {
        let _ = write!(link, "&amp;cursor={cursor}");
    }
    link
}
