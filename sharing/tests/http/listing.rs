use std::{collections::BTreeSet, os::unix::ffi::OsStrExt, time::Instant};

use crate::site::{BOB, Site};

fn field<'a>(value: &'a serde_json::Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[test]
fn the_list_of_shares_and_a_folder_can_be_browsed() {
    let site = Site::new();
    site.file("a.txt", &[b'x'; 1536]);
    std::fs::create_dir(site.path("folder")).unwrap();
    let root = site.curl("/", &["-H", "Accept: text/html"]);
    assert_eq!(
        root.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        root.text()
            .contains("<a class=\"folder\" href=\"/docs/\">docs</a>")
    );
    assert!(!root.text().contains("private"));
    let page = site.curl("/docs/", &[]).text();
    assert!(page.contains("<a href=\"/docs/a.txt\">a.txt</a>"), "{page}");
    assert!(page.contains("title=\"1536 bytes\">1.50 KiB<"), "{page}");
    assert!(
        page.find("folder/").unwrap() < page.find("a.txt").unwrap(),
        "folders come first"
    );
    assert!(page.contains("<a href=\"/\">Shares</a>"));
}

#[test]
fn a_folder_without_its_slash_redirects_within_the_server() {
    let site = Site::new();
    std::fs::create_dir(site.path("a b")).unwrap();
    let got = site.curl("/DOCS", &[]);
    assert_eq!((got.status, got.header("location")), (301, Some("/docs/")));
    let got = site.curl("/docs/a%20b?sort=size", &[]);
    assert_eq!(
        (got.status, got.header("location")),
        (301, Some("/docs/a%20b/?sort=size"))
    );
    assert_eq!(site.curl("/docs?list=json", &[]).status, 200);
}

#[test]
fn hostile_names_do_not_become_markup_and_their_links_work() {
    let site = Site::new();
    let names: [&[u8]; 6] = [
        b"<script>alert(1)<",
        b"\"onmouseover=x\"",
        b"a?b#c%d&e",
        "u\u{308}".as_bytes(),
        b"\xff.bin",
        b"javascript:alert(1)",
    ];
    for name in names {
        std::fs::write(site.path("").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let page = site.curl("/docs/", &[]);
    let text = page.text();
    assert!(
        !text.contains("<script")
            && !text.contains("\"onmouseover")
            && !text.contains("href=\"javascript"),
        "{text}"
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    let links: Vec<_> = text
        .split("href=\"/docs/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(links.len(), names.len());
    let fetched: BTreeSet<_> = links
        .iter()
        .map(|link| site.curl(&format!("/docs/{link}"), &[]).body)
        .collect();
    assert_eq!(fetched, names.iter().map(|name| name.to_vec()).collect());
}

#[test]
fn json_says_what_html_says() {
    let site = Site::new();
    site.file("a.txt", b"abc");
    for arguments in [
        &["-H", "Accept: application/json"][..],
        &["-G", "-d", "list=json"],
    ] {
        let got = site.curl("/docs/", arguments);
        assert_eq!(got.header("content-type"), Some("application/json"));
        let listing: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(field(&listing, "path"), "/docs/");
        let entry = &listing["entries"][0];
        assert_eq!(
            (
                field(entry, "name"),
                field(entry, "kind"),
                field(entry, "href")
            ),
            ("a.txt", "file", "/docs/a.txt")
        );
        assert_eq!(entry["size"], 3);
        assert!(entry["mtime"].as_i64().unwrap() > 1_000_000_000);
        assert!(listing["next"].is_null());
    }
    let root: serde_json::Value =
        serde_json::from_slice(&site.curl("/?list=json", &[]).body).unwrap();
    assert_eq!(
        (
            field(&root["entries"][0], "name"),
            field(&root["entries"][0], "access")
        ),
        ("docs", "read")
    );
}

#[test]
fn ten_thousand_entries_come_in_pages_each_exactly_once() {
    let site = Site::new();
    for number in 0..10_000 {
        std::fs::write(site.path(&format!("f{number}")), vec![b'x'; number % 7]).unwrap();
    }
    for sort in ["name", "-name", "size", "-mtime"] {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        let mut cursor = String::new();
        loop {
            let begin = Instant::now();
            let got = site.curl(
                &format!("/docs/?list=json&limit=3000&sort={sort}{cursor}"),
                &[],
            );
            assert!(
                begin.elapsed().as_secs() < 5,
                "a page takes {:?}",
                begin.elapsed()
            );
            let listing: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
            let entries = listing["entries"].as_array().unwrap();
            assert!(entries.len() <= 3000);
            for entry in entries {
                assert!(
                    seen.insert(field(entry, "name").to_owned()),
                    "{entry} twice"
                );
                order.push((
                    entry["size"].as_u64().unwrap(),
                    field(entry, "name").to_owned(),
                ));
            }
            match listing["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 10_000, "{sort}");
        match sort {
            "name" => assert!(order.is_sorted_by_key(|(_, name)| name.clone())),
            "-name" => assert!(
                order
                    .iter()
                    .rev()
                    .is_sorted_by_key(|(_, name)| name.clone())
            ),
            "size" => assert!(order.is_sorted()),
            _ => {}
        }
    }
    let page = site.curl("/docs/", &[]);
    assert!(page.body.len() < 400_000, "{} bytes", page.body.len());
    assert!(page.text().contains("rel=\"next\""));
}

#[test]
fn lines_of_json_list_a_whole_folder_in_one_response() {
    let site = Site::new();
    for number in 0..5_000 {
        std::fs::write(site.path(&format!("f{number}")), b"").unwrap();
    }
    let got = site.curl("/docs/?list=ndjson", &[]);
    assert_eq!(
        (got.code, got.header("content-type")),
        (0, Some("application/x-ndjson"))
    );
    let names: BTreeSet<_> = got
        .text()
        .lines()
        .map(|line| field(&serde_json::from_str(line).unwrap(), "name").to_owned())
        .collect();
    assert_eq!(names.len(), 5_000);
    let paged = site.curl("/docs/?list=ndjson&limit=2", &[]).text();
    assert_eq!(paged.lines().count(), 3);
    assert!(paged.lines().last().unwrap().starts_with("{\"next\":\""));
}

#[test]
fn bad_parameters_are_named_only_to_those_who_see_the_share() {
    let site = Site::new();
    let got = site.curl("/docs/?limit=0", &[]);
    assert_eq!(
        (got.status, got.text().as_str()),
        (400, "limit= must be a number from 1 to 10000.\n")
    );
    assert_eq!(site.curl("/private/?limit=0", &[]).status, 404);
    assert!(
        site.ask(BOB, "GET /docs/?cursor=%00")
            .starts_with("HTTP/1.1 400 ")
    );
}
