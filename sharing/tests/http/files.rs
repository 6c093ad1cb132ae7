use std::os::unix::ffi::OsStrExt;

use sharing::{Grant, Grantee};

use crate::site::{BOB, Site, curl, node, noise};

const MIB: usize = 1024 * 1024;

#[test]
fn a_whole_file_arrives_byte_for_byte() {
    let site = Site::new();
    let content = noise(64 * MIB);
    site.file("big.bin", &content);
    let got = site.curl("/docs/big.bin", &[]);
    assert_eq!((got.code, got.status), (0, 200));
    assert!(got.body == content);
    assert_eq!(got.header("content-length"), Some("67108864"));
    assert_eq!(got.header("accept-ranges"), Some("bytes"));
    assert_eq!(got.header("cache-control"), Some("no-cache"));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(got.header("content-security-policy"), Some("sandbox"));
    assert_eq!(
        got.header("cross-origin-resource-policy"),
        Some("same-origin")
    );
    assert_eq!(got.header("referrer-policy"), Some("no-referrer"));
    assert!(got.header("etag").unwrap().starts_with("\"s-"));
    assert!(got.header("last-modified").unwrap().ends_with("GMT"));
    for absent in [
        "server",
        "content-encoding",
        "access-control-allow-origin",
        "transfer-encoding",
    ] {
        assert_eq!(got.header(absent), None, "{absent}");
    }
}

#[test]
fn head_has_the_header_of_get_and_no_body() {
    let site = Site::new();
    site.file("a.txt", b"hello");
    let get = site.curl("/docs/a.txt", &[]);
    let head = site.curl("/docs/a.txt", &["-I", "-H", "Range: bytes=0-1"]);
    let without_date = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(head.status, 200);
    assert_eq!(without_date(&get.head), without_date(&head.head));
    assert_eq!(
        get.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}

#[test]
fn parts_of_a_file_are_what_was_asked_for() {
    let site = Site::new();
    let content = noise(MIB);
    site.file("a.bin", &content);
    let cases: [(&str, &[u8], &str); 4] = [
        ("0-99", &content[..100], "bytes 0-99/1048576"),
        ("-5", &content[MIB - 5..], "bytes 1048571-1048575/1048576"),
        (
            "1048575-",
            &content[MIB - 1..],
            "bytes 1048575-1048575/1048576",
        ),
        (
            "262000-600000",
            &content[262_000..=600_000],
            "bytes 262000-600000/1048576",
        ),
    ];
    for (range, expected, shown) in cases {
        let got = site.curl("/docs/a.bin", &["-r", range]);
        assert_eq!(got.status, 206, "{range}");
        assert!(got.body == expected, "{range}");
        assert_eq!(got.header("content-range"), Some(shown));
        assert!(got.header("etag").unwrap().starts_with('"'));
    }
}

#[test]
fn several_parts_come_in_one_multipart_body() {
    let site = Site::new();
    site.file("a.txt", b"0123456789");
    let got = site.curl("/docs/a.txt", &["-r", "0-0,-1"]);
    assert_eq!((got.code, got.status), (0, 206));
    let kind = got.header("content-type").unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, byte: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10\r\n\r\n{byte}\r\n"
        )
    };
    assert_eq!(
        got.text(),
        format!("{}{}--{boundary}--\r\n", part("0-0", "0"), part("9-9", "9"))
    );
    assert_eq!(
        got.header("content-length").unwrap(),
        got.body.len().to_string()
    );
    let again = site.curl("/docs/a.txt", &["-r", "0-0,-1"]);
    assert_ne!(again.header("content-type"), Some(kind));
}

#[test]
fn ranges_outside_the_file_overlapping_or_too_many_are_416() {
    let site = Site::new();
    site.file("a.txt", b"0123456789");
    let many: Vec<_> = (0..17).map(|i| format!("{i}-{i}")).collect();
    for range in ["10-", "-0", "0-5,5-9", &many.join(",")] {
        let got = site.curl("/docs/a.txt", &["-r", range]);
        assert_eq!(got.status, 416, "{range}");
        assert_eq!(got.header("content-range"), Some("bytes */10"), "{range}");
    }
    let got = site.curl("/docs/a.txt", &["-H", "Range: lines=1-2"]);
    assert_eq!((got.status, got.text().as_str()), (200, "0123456789"));
}

#[test]
fn an_interrupted_download_resumes() {
    let site = Site::new();
    let content = noise(8 * MIB);
    site.file("a.bin", &content);
    let target = site.outside("got.bin");
    std::fs::write(&target, &content[..3 * MIB + 17]).unwrap();
    let target = target.to_str().unwrap();
    let got = site.curl("/docs/a.bin", &["-C", "-", "-o", target]);
    assert_eq!((got.code, got.status), (0, 206));
    assert!(std::fs::read(target).unwrap() == content);
    let complete = site.curl("/docs/a.bin", &["-C", "-", "-o", target]);
    assert_eq!(complete.status, 416);
    assert!(std::fs::read(target).unwrap() == content);
}

#[test]
fn an_empty_file_is_an_empty_body() {
    let site = Site::new();
    site.file("empty", b"");
    let got = site.curl("/docs/empty", &[]);
    assert_eq!((got.code, got.status, got.body.len()), (0, 200, 0));
    assert_eq!(got.header("content-length"), Some("0"));
    assert_eq!(
        site.curl("/docs/empty", &["-H", "Range: bytes=0-"]).status,
        416
    );
    assert_eq!(
        site.curl("/docs/empty", &["-H", "Range: bytes=-5"]).status,
        200
    );
}

#[test]
fn a_file_beyond_4_gib_is_addressed_exactly() {
    let site = Site::new();
    let path = site.path("sparse");
    let size = 5_u64 << 30;
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"needle", (4 << 30) + 3).unwrap();
    let head = site.curl("/docs/sparse", &["-I"]);
    assert_eq!(head.header("content-length").unwrap(), size.to_string());
    let got = site.curl("/docs/sparse", &["-r", "4294967299-4294967304"]);
    assert_eq!(got.text(), "needle");
    assert_eq!(site.curl("/docs/sparse", &["-r", "-2"]).body, [0, 0]);
}

#[test]
fn any_file_name_can_be_fetched_and_saved() {
    let site = Site::new();
    let names: [&[u8]; 8] = [
        b"100% #1?.txt",
        "u\u{308}.txt".as_bytes(),
        b"a\\b",
        b"q\"'<>&",
        b".hidden",
        b"..x",
        b"\xff\xfe",
        b"new\nline",
    ];
    for name in names {
        std::fs::write(site.path("").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
        let encoded: String = name.iter().map(|byte| format!("%{byte:02X}")).collect();
        let got = site.curl(&format!("/docs/{encoded}?download"), &[]);
        assert_eq!((got.status, got.body.as_slice()), (200, name));
        let disposition = got.header("content-disposition").unwrap();
        assert!(
            disposition.starts_with("attachment; filename=\""),
            "{disposition}"
        );
    }
}

#[test]
fn options_and_other_methods_name_what_is_allowed() {
    let site = Site::new();
    site.file("a.txt", b"x");
    for path in ["/docs/a.txt", "/docs/", "/"] {
        let got = site.curl(path, &["-X", "OPTIONS"]);
        assert_eq!(
            (got.status, got.header("allow")),
            (204, Some("GET, HEAD, OPTIONS")),
            "{path}"
        );
    }
    for method in ["PUT", "POST", "DELETE", "PROPFIND", "MKCOL", "TRACE"] {
        let got = site.curl("/docs/a.txt", &["-X", method]);
        assert_eq!(
            (got.status, got.header("allow")),
            (405, Some("GET, HEAD, OPTIONS")),
            "{method}"
        );
    }
    assert_eq!(std::fs::read(site.path("a.txt")).unwrap(), b"x");
}

#[test]
fn users_of_this_machine_see_what_is_granted_to_all_and_nothing_else() {
    let site = Site::new();
    std::fs::write(site.outside("private/p.txt"), b"mine").unwrap();
    let url = format!("http://{}/private/p.txt", site.local);
    for granted in [None, Some(Grantee::Peer(node(1)))] {
        if let Some(peer) = granted {
            let grant = Grant { peer, rw: false };
            site.block_on(site.store.grant("private", grant)).unwrap();
        }
        assert_eq!(curl(&[&url]).status, 404);
    }
    let list = curl(&[&format!("http://{}/", site.local)]);
    assert_eq!(list.status, 200);
    assert!(!list.text().contains("private"), "{}", list.text());
    let all = Grant {
        peer: Grantee::All,
        rw: false,
    };
    site.block_on(site.store.grant("private", all)).unwrap();
    let got = curl(&[&url]);
    assert_eq!((got.status, got.text().as_str()), (200, "mine"));
}

#[test]
fn one_connection_serves_many_requests() {
    let site = Site::new();
    site.file("a.txt", b"abc");
    let url = site.url("/docs/a.txt");
    let count = "%{stderr}%{num_connects}";
    let got = curl(&["--interface", BOB, &url, &url, &url, "-w", count]);
    assert_eq!(got.text(), "abcabcabc");
}
