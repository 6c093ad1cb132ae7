use std::os::unix::fs::symlink;

use crate::site::{BOB, EVE, STRANGER, Site};

/// An answer without its Date line, the only one that may differ.
fn without_date(answer: &str) -> String {
    let lines = answer
        .split("\r\n")
        .filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    lines.collect::<Vec<_>>().join("\r\n")
}

fn with_everything() -> Site {
    let site = Site::new();
    site.file("a.txt", b"x");
    std::fs::write(site.outside("private/secret.txt"), b"secret").unwrap();
    std::fs::write(site.outside("secret.txt"), b"secret").unwrap();
    symlink(site.outside("secret.txt"), site.path("absolute-link")).unwrap();
    symlink("../secret.txt", site.path("relative-link")).unwrap();
    symlink(site.outside("private"), site.path("folder-link")).unwrap();
    symlink("nowhere", site.path("dangling")).unwrap();
    symlink("loop", site.path("loop")).unwrap();
    symlink("/proc/self/root/etc/passwd", site.path("magic")).unwrap();
    make_fifo(&site);
    std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    site
}

fn make_fifo(site: &Site) {
    let made = std::process::Command::new("mkfifo")
        .arg(site.path("fifo"))
        .status()
        .unwrap();
    assert!(made.success());
}

/// What Bob must not be able to tell from a share that does not exist.
const HIDDEN: [&str; 28] = [
    "/nosuchshare",
    "/nosuchshare/",
    "/private",
    "/private/",
    "/private/secret.txt",
    "/private/nosuchfile",
    "/docs/nosuchfile",
    "/docs/a.txt/",
    "/docs/a.txt/x",
    "/docs/../secret.txt",
    "/docs/../private/secret.txt",
    "/docs/..",
    "/docs/%2e%2e/secret.txt",
    "/docs/.%2E/secret.txt",
    "/docs/..%2fsecret.txt",
    "/docs/%252e%252e/secret.txt",
    "/docs/..%5csecret.txt",
    "/docs/a.txt%00",
    "/docs/%c0%ae%c0%ae/secret.txt",
    "/docs//a.txt",
    "/docs/./a.txt",
    "/docs/absolute-link",
    "/docs/relative-link",
    "/docs/folder-link/secret.txt",
    "/docs/magic",
    "/docs/dangling",
    "/docs/fifo",
    "/.mesh/v1/",
];

#[test]
fn everything_hidden_is_the_same_404_byte_for_byte() {
    let site = with_everything();
    for method in ["GET", "HEAD", "OPTIONS"] {
        let reference = without_date(&site.ask(BOB, &format!("{method} /reference")));
        assert!(
            reference.starts_with("HTTP/1.1 404 Not Found\r\n"),
            "{reference}"
        );
        for path in HIDDEN.iter().chain(&[
            "/docs/socket",
            "/docs/loop",
            "/docs/folder-link",
            "/docs/%zz",
            "//docs/",
        ]) {
            let answer = without_date(&site.ask(BOB, &format!("{method} {path}")));
            assert_eq!(answer, reference, "{method} {path}");
        }
    }
}

#[test]
fn a_method_that_changes_things_reveals_nothing_either() {
    let site = with_everything();
    for method in ["PUT", "DELETE", "PROPFIND", "POST"] {
        let reference = without_date(&site.ask(EVE, &format!("{method} /reference")));
        assert!(
            reference.starts_with("HTTP/1.1 404 Not Found\r\n"),
            "{reference}"
        );
        let get = without_date(&site.ask(EVE, "GET /reference"));
        assert_eq!(get, reference, "{method}");
        for path in ["/docs", "/docs/", "/docs/a.txt", "/private/", "/docs/../x"] {
            let answer = without_date(&site.ask(EVE, &format!("{method} {path}")));
            assert_eq!(answer, reference, "{method} {path}");
        }
    }
}

#[test]
fn head_is_get_without_the_body_for_what_is_hidden() {
    let site = with_everything();
    let get = without_date(&site.ask(EVE, "GET /docs/a.txt"));
    let head = without_date(&site.ask(EVE, "HEAD /docs/a.txt"));
    let (header, body) = get.split_once("\r\n\r\n").unwrap();
    assert_eq!(head, format!("{header}\r\n\r\n"));
    assert!(!body.is_empty());
}

#[test]
fn a_member_without_a_right_sees_an_empty_list_and_a_stranger_nothing() {
    let site = with_everything();
    let seen = site.curl_as(EVE, "/?list=json", &[]);
    assert_eq!(
        seen.text(),
        "{\"path\":\"/\",\"entries\":[],\"next\":null}\n"
    );
    let reference = without_date(&site.ask(STRANGER, "GET /reference"));
    for path in ["/", "/docs", "/docs/", "/docs/a.txt"] {
        assert_eq!(
            without_date(&site.ask(STRANGER, &format!("GET {path}"))),
            reference,
            "{path}"
        );
    }
    assert_eq!(reference, without_date(&site.ask(EVE, "GET /docs/a.txt")));
}

#[test]
fn links_that_stay_in_the_share_are_followed() {
    let site = with_everything();
    std::fs::create_dir_all(site.path("one/two")).unwrap();
    symlink("../../a.txt", site.path("one/two/up")).unwrap();
    symlink("one", site.path("alias")).unwrap();
    assert_eq!(site.curl("/docs/one/two/up", &[]).text(), "x");
    assert_eq!(site.curl("/docs/alias/two/up", &[]).text(), "x");
    let listed = site.curl("/docs/alias/two/?list=json", &[]).text();
    assert!(
        listed.contains("\"name\":\"up\",\"kind\":\"file\""),
        "{listed}"
    );
}

#[test]
fn what_cannot_be_fetched_is_not_listed() {
    let site = with_everything();
    for query in [
        "?list=json",
        "?list=ndjson",
        "?list=json&sort=size",
        "?list=html",
    ] {
        let listed = site.curl(&format!("/docs/{query}"), &[]).text();
        assert!(listed.contains("a.txt"), "{listed}");
        for hidden in [
            "absolute-link",
            "relative-link",
            "folder-link",
            "dangling",
            "loop",
            "magic",
            "fifo",
            "socket",
        ] {
            assert!(!listed.contains(hidden), "{hidden} in {listed}");
        }
    }
}

#[test]
fn a_right_that_is_given_or_taken_shows_at_once() {
    let site = with_everything();
    let all = sharing::Grant {
        peer: sharing::Grantee::All,
        rw: false,
    };
    site.block_on(site.store.grant("docs", all)).unwrap();
    assert_eq!(site.curl_as(EVE, "/docs/a.txt", &[]).text(), "x");
    site.block_on(site.store.revoke("docs", sharing::Grantee::All))
        .unwrap();
    assert_eq!(site.curl_as(EVE, "/docs/a.txt", &[]).status, 404);
}

#[test]
fn a_share_whose_folder_vanished_is_a_404_for_peers_and_a_problem_for_the_owner() {
    let site = with_everything();
    let away = site.outside("away");
    std::fs::rename(site.path(""), &away).unwrap();
    let reference = without_date(&site.ask(BOB, "GET /reference"));
    assert_eq!(without_date(&site.ask(BOB, "GET /docs/a.txt")), reference);
    let problems = site.block_on(site.store.problems());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("docs"), "{problems:?}");
    std::fs::rename(&away, site.path("")).unwrap();
    assert_eq!(site.curl("/docs/a.txt", &[]).text(), "x");
}
