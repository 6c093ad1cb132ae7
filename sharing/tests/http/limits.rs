use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::site::{BOB, EVE, Site, connect, noise};

/// Reads until the server closes, in at most `limit`.
fn closed_within(stream: &mut TcpStream, limit: Duration) -> String {
    let begin = Instant::now();
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(limit)).unwrap();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "still open"
        ),
    }
    assert!(begin.elapsed() < limit);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn silent_and_dribbling_clients_are_closed_after_ten_seconds() {
    let site = Site::new();
    let mut silent = connect(BOB, site.mesh);
    let mut half = connect(BOB, site.mesh);
    write!(half, "GET / HTTP/1.1\r\nHost: 127").unwrap();
    let mut dribbling = connect(BOB, site.mesh);
    let mut dribble = dribbling.try_clone().unwrap();
    let feeder = std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain([b'x'; 100].iter()) {
            if dribble.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        panic!("36 s of dribbling were accepted");
    });
    let begin = Instant::now();
    closed_within(&mut silent, Duration::from_secs(13));
    assert!(begin.elapsed() > Duration::from_secs(8), "closed too early");
    closed_within(&mut half, Duration::from_secs(4));
    closed_within(&mut dribbling, Duration::from_secs(4));
    feeder.join().unwrap();
}

#[test]
fn a_kept_connection_may_idle_longer_than_a_header_block_may_take() {
    let site = Site::new();
    site.file("a.txt", b"abc");
    let mut stream = connect(BOB, site.mesh);
    let request = format!("GET /docs/a.txt HTTP/1.1\r\nHost: {}\r\n\r\n", site.mesh);
    for pause in [12, 0] {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nabc") {
            let mut block = [0; 1024];
            let count = stream.read(&mut block).unwrap();
            assert!(count > 0, "closed");
            answer.extend_from_slice(&block[..count]);
        }
        std::thread::sleep(Duration::from_secs(pause));
    }
}

#[test]
fn a_client_that_never_reads_is_dropped() {
    let site = Site::new();
    site.file("big.bin", &noise(64 * 1024 * 1024));
    let mut stream = connect(BOB, site.mesh);
    write!(
        stream,
        "GET /docs/big.bin HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.mesh
    )
    .unwrap();
    std::thread::sleep(Duration::from_secs(34));
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert!(
        got.len() < 60 * 1024 * 1024,
        "the server waited for a reader that did not read"
    );
}

#[test]
fn one_member_gets_64_connections_and_others_are_not_hurt() {
    let site = Site::new();
    let held: Vec<_> = (0..64).map(|_| connect(BOB, site.mesh)).collect();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(
        closed_within(&mut connect(BOB, site.mesh), Duration::from_secs(3)),
        ""
    );
    assert_eq!(site.curl_as(EVE, "/", &[]).status, 200);
    drop(held);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(site.curl("/", &[]).status, 200);
}

#[test]
fn oversized_requests_are_refused() {
    let site = Site::new();
    let host = format!("Host: {}\r\n", site.mesh);
    let long = "a".repeat(9_000);
    let cases = [
        (format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), "414"),
        (format!("GET /?{long} HTTP/1.1\r\n{host}\r\n"), "414"),
        (
            format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(17_000)),
            "431",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(64)),
            "431",
        ),
    ];
    for (request, status) in cases {
        let answer = site.raw(BOB, &request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status}: {answer}"
        );
    }
}

#[test]
fn requests_with_two_framings_are_refused_and_what_follows_is_not_read() {
    let site = Site::new();
    site.file("a.txt", b"smuggled");
    let host = format!("Host: {}\r\n", site.mesh);
    let inner = format!("GET /docs/a.txt HTTP/1.1\r\n{host}\r\n");
    let cases = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length : 5\r\n",
    ];
    for method in ["GET", "POST"] {
        for framing in cases {
            let answer = site.raw(
                BOB,
                &format!("{method} /docs/ HTTP/1.1\r\n{host}{framing}\r\n0\r\n\r\n{inner}"),
            );
            assert!(
                answer.starts_with("HTTP/1.1 400 "),
                "{method} {framing}: {answer}"
            );
            assert!(!answer.contains("smuggled"), "{method} {framing}: {answer}");
        }
    }
}

#[test]
fn a_foreign_or_missing_host_is_refused_before_anything_is_looked_up() {
    let site = Site::new();
    site.file("a.txt", b"abc");
    for host in [
        "evil.example",
        "10.9.9.9",
        "127.0.0.1.evil.example",
        "bob.evil.example",
    ] {
        let got = site.curl("/docs/a.txt", &["-H", &format!("Host: {host}")]);
        assert_eq!(got.status, 421, "{host}");
        let got = site.curl("/nosuchshare", &["-H", &format!("Host: {host}")]);
        assert_eq!(got.status, 421, "{host}");
    }
    for host in [
        "bob",
        "eve:80",
        "localhost",
        "bob.lab.mesh.internal",
        "127.0.0.1:7083",
    ] {
        let got = site.curl("/docs/a.txt", &["-H", &format!("Host: {host}")]);
        assert_eq!((got.status, got.text().as_str()), (200, "abc"), "{host}");
    }
    let two = format!(
        "GET / HTTP/1.1\r\nHost: {0}\r\nHost: {0}\r\n\r\n",
        site.mesh
    );
    assert!(site.raw(BOB, &two).starts_with("HTTP/1.1 400 "));
    assert!(
        site.raw(BOB, "GET / HTTP/1.1\r\n\r\n")
            .starts_with("HTTP/1.1 400 ")
    );
    let absolute = format!(
        "GET http://evil.example/ HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.mesh
    );
    assert!(site.raw(BOB, &absolute).starts_with("HTTP/1.1 421 "));
}

#[test]
fn a_shutdown_ends_idle_connections_and_the_server() {
    let mut site = Site::new();
    let mut idle = connect(BOB, site.mesh);
    std::thread::sleep(Duration::from_millis(100));
    site.shutdown.cancel();
    let served = site.served.take().unwrap();
    let ended = site.block_on(async { tokio::time::timeout(Duration::from_secs(5), served).await });
    ended
        .expect("the server ends within its grace time")
        .unwrap();
    closed_within(&mut idle, Duration::from_secs(1));
    assert!(TcpStream::connect(site.mesh).is_err());
}
