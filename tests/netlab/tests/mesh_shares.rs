//! Shares over the mesh: do curl and a browser get what they should, and everybody else nothing?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Output, Pair};

/// Runs a shell line on a host; it must succeed.
fn sh(host: &Host, line: &str) -> Output {
    host.sh(line).unwrap()
}

/// Shares a folder with one file as `docs` with everybody.
fn share(owner: &Daemon, file: &str, content: &str) {
    let folder = owner.host().dir().join("documents");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(file), content).unwrap();
    let path = folder.to_str().unwrap();
    owner
        .ask(&["share", "add", "docs", path, "--to", "all"])
        .unwrap();
}

#[test]
fn a_shared_folder_is_listed_fetched_and_resumed_by_curl() {
    let pair = Pair::new("share", [Nat::PortRestricted; 2]).unwrap();
    share(&pair.alice, "hello <b>.txt", "hello\n");
    sh(
        pair.alice.host(),
        "head -c 1073741824 /dev/urandom > documents/big.bin",
    );
    pair.bob
        .first_echo(&pair.alice, Duration::from_secs(5))
        .unwrap();

    let base = format!("http://{}/docs", pair.alice.virtual_ip);
    let bob = pair.bob.host();
    let listing = sh(bob, &format!("curl -sS -f {base}/")).stdout;
    assert!(
        listing.contains("big.bin") && listing.contains("hello &lt;b&gt;.txt"),
        "{listing}"
    );
    assert!(!listing.contains("<script"), "{listing}");

    let start = Instant::now();
    sh(bob, &format!("curl -sS -f -O {base}/big.bin"));
    println!("1 GiB by curl: {:.1} s", start.elapsed().as_secs_f64());
    let sums = |host: &Host, file: &str| sh(host, &format!("sha256sum < {file}")).stdout;
    let whole = sums(pair.alice.host(), "documents/big.bin");
    assert_eq!(sums(bob, "big.bin"), whole);

    sh(
        bob,
        &format!(
            "curl -sS -f -r 1000-1999 {base}/big.bin -o part && cmp -n 1000 -i 1000:0 big.bin part"
        ),
    );
    sh(bob, "truncate -s 1000000000 big.bin");
    sh(bob, &format!("curl -sS -f -C - -O {base}/big.bin"));
    assert_eq!(sums(bob, "big.bin"), whole, "a resumed download is whole");

    sh(
        bob,
        &format!(
            "curl -sS -f http://{}:7083/docs/ -o /dev/null",
            pair.alice.virtual_ip
        ),
    );
    let own = format!(
        "curl -sS -f http://{}/docs/ -o /dev/null",
        pair.alice.virtual_ip
    );
    sh(pair.alice.host(), &own);
}

#[test]
fn the_lan_cannot_reach_the_shares_not_even_with_a_forged_mesh_address() {
    let lab = Lab::new("weakhost").unwrap();
    let internet = lab.internet();
    let discovery = Discovery::start(&internet.public_host("server").unwrap()).unwrap();
    let home = internet.home("alice", Nat::PortRestricted).unwrap();
    let (pc, neighbour) = (home.host("pc").unwrap(), home.host("neighbour").unwrap());
    let far = internet
        .home("bob", Nat::PortRestricted)
        .unwrap()
        .host("pc")
        .unwrap();
    let alice = Daemon::up(&pc, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let bob = Daemon::up(
        &far,
        &["--join", &alice.join_link().unwrap(), "--name", "bob"],
    )
    .unwrap();
    share(&alice, "secret.txt", "secret");
    bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
    let mesh = alice.ip().unwrap();
    sh(&far, &format!("curl -sS -f http://{mesh}/docs/secret.txt"));

    // The neighbour routes the mesh address to alice's LAN address, and speaks first as itself, then as bob.
    let forged = bob.ip().unwrap();
    sh(
        &neighbour,
        &format!(
            "ip route add {mesh}/32 via {}; ip addr add {forged}/32 dev lo",
            pc.address()
        ),
    );
    let as_bob = format!("--interface {forged}");
    for source in ["", as_bob.as_str()] {
        for url in [
            format!("{mesh}:80"),
            format!("{mesh}:7083"),
            format!("{}:80", pc.address()),
        ] {
            let line = format!("curl -sS -m 2 {source} http://{url}/docs/secret.txt");
            let output = neighbour.try_sh(&line).unwrap();
            assert!(
                !output.status.success() && !output.stdout.contains("secret"),
                "{line}: {output:?}"
            );
        }
    }
}

#[test]
fn a_browser_shows_the_listing() {
    let pair = Pair::new("browser", [Nat::PortRestricted; 2]).unwrap();
    share(&pair.alice, "report.txt", "numbers");
    pair.bob
        .first_echo(&pair.alice, Duration::from_secs(5))
        .unwrap();
    let profile = tempfile::tempdir().unwrap();
    let line = format!(
        "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
         --disable-component-update --disable-sync --user-data-dir={} --dump-dom http://{}/docs/",
        profile.path().display(),
        pair.alice.virtual_ip
    );
    let dom = sh(pair.bob.host(), &line).stdout;
    assert!(
        dom.contains("report.txt") && dom.contains("<title>"),
        "{dom}"
    );
}

#[test]
fn a_wide_open_file_of_raw_bytes_does_not_confuse_the_http_port() {
    let pair = Pair::linked("rawhttp", [Nat::FullCone; 2]).unwrap();
    let target = (pair.alice.virtual_ip.clone(), 80);
    let answer = pair
        .bob
        .host()
        .namespace()
        .enter(move || {
            let mut stream = std::net::TcpStream::connect(target).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            stream
                .write_all(b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            let mut answer = vec![0; 64];
            let read = stream.read(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..read]).into_owned()
        })
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}
