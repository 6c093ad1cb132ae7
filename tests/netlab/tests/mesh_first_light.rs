//! Two machines behind home routers, a discovery server on a public host: do they become one LAN and pass files?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Output};

/// The server and two daemons behind routers of a kind. Fields are dropped in order: the lab last.
struct Pair {
    alice: Daemon,
    bob: Daemon,
    server: Host,
    _discovery: Discovery,
    lab: Lab,
}

fn pair(name: &str, nats: [Nat; 2]) -> Pair {
    let lab = Lab::new(name).unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let [a, b] = [("alice", nats[0]), ("bob", nats[1])]
        .map(|(home, nat)| lab.internet().home(home, nat).unwrap().host("pc").unwrap());
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    Pair {
        alice,
        bob,
        server,
        _discovery: discovery,
        lab,
    }
}

fn ip(daemon: &Daemon) -> Ipv4Addr {
    daemon.virtual_ip.parse().unwrap()
}

fn server_bytes(pair: &Pair) -> u64 {
    let counters = pair.server.counters("eth0").unwrap();
    counters.rx_bytes + counters.tx_bytes
}

/// Runs a shell line on a host; it must succeed.
fn sh(host: &Host, line: &str) -> Output {
    host.run("sh", ["-ec", line]).unwrap()
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// From now to the first answered ping.
fn first_echo(from: &Daemon, to: &Daemon, limit: Duration) -> Duration {
    wait_until("first echo", limit, || {
        from.host()
            .ping_each(Duration::from_millis(50), ip(to), 1)
            .unwrap()
            .received()
            > 0
    })
}

#[test]
fn port_restricted_homes_are_linked_directly_within_three_seconds() {
    let lab = Lab::new("direct").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let a = lab
        .internet()
        .home("alice", Nat::PortRestricted)
        .unwrap()
        .host("pc")
        .unwrap();
    let b = lab
        .internet()
        .home("bob", Nat::PortRestricted)
        .unwrap()
        .host("pc")
        .unwrap();
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();

    let start = Instant::now();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    first_echo(&bob, &alice, Duration::from_secs(3));
    let took = start.elapsed();
    println!("meshd up to first echo: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(3), "{took:?}");

    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let report = from
            .host()
            .ping_each(Duration::from_millis(20), ip(to), 50)
            .unwrap();
        assert_eq!(report.received(), 50, "{report:?}");
        let peer = from.peer(&to.name).unwrap();
        assert_eq!(peer["path"], "direct", "{peer:#}");
    }
}

#[test]
fn tcp_runs_both_ways_and_no_payload_crosses_the_server() {
    let pair = pair("tcp", [Nat::PortRestricted; 2]);
    first_echo(&pair.alice, &pair.bob, Duration::from_secs(5));
    let before = server_bytes(&pair);
    let iperf = pair
        .bob
        .host()
        .spawn("iperf3", ["-s", "--forceflush"])
        .unwrap();
    iperf
        .wait_for_line("listening", Duration::from_secs(5))
        .unwrap();
    for direction in [&["-t2"][..], &["-t2", "-R"]] {
        let mut command = pair.alice.host().command("iperf3");
        command
            .args(["-c", &pair.bob.virtual_ip, "-J"])
            .args(direction);
        let output = pair
            .alice
            .host()
            .run_command(command, Duration::from_secs(30))
            .unwrap();
        let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        let bits = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .unwrap();
        println!("iperf3 {direction:?}: {:.2} Gbit/s", bits / 1e9);
        assert!(bits > 50e6, "{report:#}");
    }
    let crossed = server_bytes(&pair) - before;
    assert!(
        crossed < 200_000,
        "{crossed} bytes crossed the discovery server"
    );

    // What ssh needs: a long-lived TCP connection that both ends talk on, begun from either side.
    for (from, to) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        let echo = to
            .host()
            .spawn("sh", ["-c", "nc -l -p 2222 -q 1 > got; cat got"])
            .unwrap();
        wait_until("nc listens", Duration::from_secs(5), || {
            to.host()
                .run("ss", ["-Htln", "sport = :2222"])
                .unwrap()
                .stdout
                .contains("2222")
        });
        sh(
            from.host(),
            &format!(
                "(echo one; sleep 0.3; echo two) | nc -q 1 {} 2222",
                to.virtual_ip
            ),
        );
        echo.wait_for_line("two", Duration::from_secs(5)).unwrap();
    }
    assert!(pair.lab.dir().exists());
}

#[test]
fn a_shared_folder_is_listed_fetched_and_resumed_by_curl() {
    let pair = pair("share", [Nat::PortRestricted; 2]);
    let docs = pair.alice.host().dir().join("documents");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("hello <b>.txt"), "hello\n").unwrap();
    sh(
        pair.alice.host(),
        "head -c 1073741824 /dev/urandom > documents/big.bin",
    );
    pair.alice
        .ask(&[
            "share",
            "add",
            "docs",
            docs.to_str().unwrap(),
            "--to",
            "all",
        ])
        .unwrap();
    first_echo(&pair.bob, &pair.alice, Duration::from_secs(5));

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
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let home = lab.internet().home("alice", Nat::PortRestricted).unwrap();
    let (pc, neighbour) = (home.host("pc").unwrap(), home.host("neighbour").unwrap());
    let far = lab
        .internet()
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
    let docs = pc.dir().join("documents");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("secret.txt"), "secret").unwrap();
    alice
        .ask(&[
            "share",
            "add",
            "docs",
            docs.to_str().unwrap(),
            "--to",
            "all",
        ])
        .unwrap();
    first_echo(&bob, &alice, Duration::from_secs(5));
    sh(
        bob.host(),
        &format!("curl -sS -f http://{}/docs/secret.txt", alice.virtual_ip),
    );

    // The neighbour routes the mesh address to alice's LAN address, first as itself, then as bob.
    let forged = bob.virtual_ip.clone();
    sh(
        &neighbour,
        &format!("ip route add {}/32 via {}", alice.virtual_ip, pc.address()),
    );
    sh(&neighbour, &format!("ip addr add {forged}/32 dev lo"));
    for bind in [String::new(), format!("--interface {forged}")] {
        for port in [80, 7083] {
            let line = format!(
                "curl -sS -m 2 {bind} http://{}:{port}/docs/secret.txt",
                alice.virtual_ip
            );
            let mut command = neighbour.command("sh");
            command.args(["-c", &line]);
            let output = neighbour
                .run_command(command, Duration::from_secs(20))
                .unwrap();
            assert!(
                !output.status.success() && !output.stdout.contains("secret"),
                "{line}: {output:?}"
            );
        }
    }
    let lan = format!("curl -sS -m 2 http://{}:80/", pc.address());
    let mut command = neighbour.command("sh");
    command.args(["-c", &lan]);
    assert!(
        !neighbour
            .run_command(command, Duration::from_secs(20))
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn status_peers_ping_and_the_local_api_answer_as_the_contract_says() {
    let pair = pair("status", [Nat::PortRestricted, Nat::FullCone]);
    first_echo(&pair.alice, &pair.bob, Duration::from_secs(5));
    let alice = &pair.alice;
    wait_until("the status shows the path", Duration::from_secs(3), || {
        alice.peer("bob").unwrap()["path"] == "direct"
    });
    let status = alice.status().unwrap();
    for key in [
        "version",
        "node_id",
        "name",
        "network",
        "interface",
        "virtual_ips",
        "trust",
        "server",
        "nat",
        "peers",
        "health",
    ] {
        assert!(status.get(key).is_some(), "{key} is missing: {status:#}");
    }
    assert_eq!(status["network"], "my-network");
    assert_eq!(status["interface"], "mesh0");
    assert_eq!(status["virtual_ips"][0], alice.virtual_ip.as_str());
    assert_eq!(status["server"]["connected"], true);
    assert_eq!(status["health"].as_array().unwrap().len(), 0, "{status:#}");
    let peer = alice.peer("bob").unwrap();
    for key in [
        "name",
        "node_id",
        "virtual_ips",
        "online",
        "path",
        "via",
        "endpoint",
        "rtt_ms",
        "tx_bytes",
        "rx_bytes",
        "last_handshake_s",
        "mtu",
    ] {
        assert!(peer.get(key).is_some(), "{key} is missing: {peer:#}");
    }
    assert_eq!(peer["path"], "direct");
    assert!(peer["tx_bytes"].as_u64().unwrap() > 0);
    assert!(alice.ask(&["status"]).unwrap().contains("bob"));
    assert!(alice.ask(&["peers"]).unwrap().contains("bob"));
    let pong = alice.ask(&["ping", "bob", "-c", "2"]).unwrap();
    assert!(pong.contains("direct"), "{pong}");
    alice
        .ask(&["ping", &pair.bob.virtual_ip, "-c", "1", "--until-direct"])
        .unwrap();
    assert_eq!(
        alice.cli(&["ping", "nobody"]).unwrap().status.code(),
        Some(1)
    );

    let host = alice.host();
    let address = sh(host, "ip -o addr show mesh0").stdout;
    assert!(
        address.contains(&format!("{}/16", alice.virtual_ip)),
        "{address}"
    );
    assert!(
        sh(host, "ip route show dev mesh0")
            .stdout
            .contains("10.100.0.0/16")
    );
    let api = "http://localhost:7082/api/v1/mesh/networks/my-network/peers";
    let peers: serde_json::Value =
        serde_json::from_str(&sh(host, &format!("curl -sS -f {api}")).stdout).unwrap();
    let names: Vec<_> = peers["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["alice", "bob"]);
}

#[test]
fn every_way_to_end_leaves_nothing_behind_and_a_restart_needs_no_flag() {
    use nix::sys::signal::Signal;
    let mut pair = pair("restart", [Nat::PortRestricted; 2]);
    first_echo(&pair.alice, &pair.bob, Duration::from_secs(5));
    let host = pair.bob.host().clone();
    for ending in [Some(Signal::SIGINT), Some(Signal::SIGTERM), None] {
        match ending {
            Some(signal) => {
                pair.bob.process.signal(signal).unwrap();
                let status = pair.bob.process.wait(Duration::from_secs(10)).unwrap();
                assert_eq!(status.code(), Some(0), "{signal}");
            }
            None => pair.bob.kill().unwrap(),
        }
        wait_until("the interface is gone", Duration::from_secs(2), || {
            !sh(&host, "ip -o link").stdout.contains("mesh0")
        });
        assert!(
            !sh(&host, "ip route show table all")
                .stdout
                .contains("10.100.0.0")
        );
        let address = pair.bob.virtual_ip.clone();
        let start = Instant::now();
        pair.bob = Daemon::up(&host, &[]).unwrap();
        assert_eq!(pair.bob.virtual_ip, address);
        first_echo(&pair.alice, &pair.bob, Duration::from_secs(3));
        let took = start.elapsed();
        println!("back after {ending:?}: {} ms", took.as_millis());
        assert!(took < Duration::from_secs(3), "{ending:?}: {took:?}");
        first_echo(&pair.bob, &pair.alice, Duration::from_secs(1));
    }
    assert_eq!(pair.alice.ask(&["down"]).unwrap().trim(), "stopped");
}

#[test]
fn garbage_on_the_mesh_port_is_counted_and_never_logged_or_fatal() {
    let pair = pair("garbage", [Nat::FullCone, Nat::PortRestricted]);
    first_echo(&pair.bob, &pair.alice, Duration::from_secs(5));
    let target = (pair.alice.host().address(), 7081);
    let before = pair.alice.process.log().len();
    let neighbour = pair.alice.host().clone();
    neighbour
        .namespace()
        .enter(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let mut byte = 1_u8;
            for len in 0..1400 {
                let datagram: Vec<u8> = (0..len)
                    .map(|_| {
                        byte = byte.wrapping_mul(167).wrapping_add(13);
                        byte
                    })
                    .collect();
                socket.send_to(&datagram, target).unwrap();
                // Each kind of message of the protocols that share the port, damaged.
                for kind in [1, 2, 3, 4] {
                    let mut message = vec![kind, 0, 0, 0];
                    message.extend_from_slice(&datagram);
                    socket.send_to(&message, target).unwrap();
                }
                let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
                stun.extend_from_slice(&datagram);
                socket.send_to(&stun, target).unwrap();
            }
        })
        .unwrap();
    wait_until("the counters rise", Duration::from_secs(5), || {
        let counters = &pair.alice.status().unwrap()["counters"];
        ["unknown_datagram", "refused_message", "refused_stun"]
            .iter()
            .all(|reason| counters[reason].as_u64().unwrap() > 0)
    });
    let report = pair
        .bob
        .host()
        .ping_each(Duration::from_millis(20), ip(&pair.alice), 20)
        .unwrap();
    assert_eq!(report.received(), 20);
    let logged = pair.alice.process.log().len() - before;
    assert!(logged < 2000, "{logged} bytes of log for garbage");
}

#[test]
fn a_browser_shows_the_listing() {
    let pair = pair("browser", [Nat::PortRestricted; 2]);
    let docs = pair.alice.host().dir().join("documents");
    fs::create_dir(&docs).unwrap();
    fs::write(docs.join("report.txt"), "numbers").unwrap();
    pair.alice
        .ask(&[
            "share",
            "add",
            "docs",
            docs.to_str().unwrap(),
            "--to",
            "bob",
        ])
        .unwrap();
    first_echo(&pair.bob, &pair.alice, Duration::from_secs(5));
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
    let pair = pair("rawhttp", [Nat::FullCone; 2]);
    first_echo(&pair.bob, &pair.alice, Duration::from_secs(5));
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
