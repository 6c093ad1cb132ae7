use crate::site::{Site, age};

#[test]
fn a_copy_that_still_matches_is_not_sent_again() {
    let site = Site::new();
    let path = site.file("a.txt", b"hello");
    let first = site.curl("/docs/a.txt", &[]);
    let tag = first.header("etag").unwrap();
    let date = first.header("last-modified").unwrap();
    let matching = [
        format!("If-None-Match: {tag}"),
        format!("If-None-Match: \"x\", W/{tag}"),
        format!("If-Modified-Since: {date}"),
    ];
    for condition in &matching {
        let got = site.curl("/docs/a.txt", &["-H", condition]);
        assert_eq!(
            (got.code, got.status, got.body.len()),
            (0, 304, 0),
            "{condition}"
        );
        assert_eq!(got.header("etag"), Some(tag));
    }
    let newer = site.curl("/docs/a.txt", &["-z", path.to_str().unwrap()]);
    assert_eq!(newer.status, 304);
    std::fs::write(&path, b"changed").unwrap();
    for condition in &matching {
        assert_eq!(
            site.curl("/docs/a.txt", &["-H", condition]).status,
            200,
            "{condition}"
        );
    }
}

#[test]
fn a_condition_on_another_version_fails() {
    let site = Site::new();
    site.file("a.txt", b"hello");
    let got = site.curl("/docs/a.txt", &["-H", "If-Match: \"other\"", "-r", "0-1"]);
    assert_eq!(got.status, 412);
    let got = site.curl(
        "/docs/a.txt",
        &["-H", "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:01 GMT"],
    );
    assert_eq!(got.status, 412);
}

#[test]
fn a_resume_after_a_change_gets_the_whole_new_file() {
    let site = Site::new();
    let path = site.file("a.txt", b"old content");
    let tag = site
        .curl("/docs/a.txt", &[])
        .header("etag")
        .unwrap()
        .to_owned();
    let condition = format!("If-Range: {tag}");
    let same = site.curl("/docs/a.txt", &["-H", &condition, "-r", "4-"]);
    assert_eq!((same.status, same.text().as_str()), (206, "content"));
    std::fs::write(&path, b"new content").unwrap();
    age(&path);
    let other = site.curl("/docs/a.txt", &["-H", &condition, "-r", "4-"]);
    assert_eq!((other.status, other.text().as_str()), (200, "new content"));
}

#[test]
fn a_file_just_written_has_a_weak_tag_that_no_resume_can_use() {
    let site = Site::new();
    std::fs::write(site.path("new.txt"), b"0123456789").unwrap();
    let first = site.curl("/docs/new.txt", &[]);
    let tag = first.header("etag").unwrap();
    assert!(tag.starts_with("W/\""), "{tag}");
    let got = site.curl(
        "/docs/new.txt",
        &["-H", &format!("If-Range: {tag}"), "-r", "5-"],
    );
    assert_eq!((got.status, got.body.len()), (200, 10));
}
