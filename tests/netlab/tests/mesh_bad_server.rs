//! What does a daemon do whose discovery server is away, or speaks nonsense? It keeps trying, says so, and goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat};

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// A public host for the server, and a home with machines.
fn lab_with<const N: usize>(name: &str, machines: [&str; N]) -> (Lab, Host, [Host; N]) {
    let lab = Lab::new(name).unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let hosts = machines.map(|machine| home.host(machine).unwrap());
    (lab, server, hosts)
}

/// What `status` says of the server's trouble; empty while the API is not there or there is none.
fn trouble(daemon: &Daemon) -> String {
    let output = daemon.cli(&["status", "--json"]).unwrap();
    let Ok(status) = serde_json::from_str::<serde_json::Value>(&output.stdout) else {
        return String::new();
    };
    assert!(status["server"]["connected"].is_boolean(), "{status:#}");
    let error = status["server"]["error"].as_str().unwrap_or_default();
    error.to_owned()
}

fn stop(discovery: &Discovery) {
    discovery.process.kill().unwrap();
}

#[test]
fn a_first_start_waits_for_its_server_says_so_and_goes_on_by_itself() {
    let (_lab, server, [a, b]) = lab_with("waits", ["a", "b"]);
    let url = format!("http://{}:7080", server.address());
    let mut alice = Daemon::launch(&a, &["--server", &url, "--name", "alice"]).unwrap();
    wait_until("the trouble is told", Duration::from_secs(5), || {
        trouble(&alice)
            .to_lowercase()
            .contains("connection refused")
    });
    let text = alice.ask(&["status"]).unwrap();
    for part in [
        &url,
        "not connected: ",
        "problem: ",
        "server-unreachable",
        "fix: ",
    ] {
        let found = text.contains(part) || alice.status().unwrap().to_string().contains(part);
        assert!(found, "{part:?} is not in\n{text}");
    }
    let early = alice.cli(&["invite"]).unwrap();
    assert_eq!(early.status.code(), Some(1));
    assert!(
        early.stderr.contains("not a member of a network yet"),
        "{}",
        early.stderr
    );
    assert!(!alice.process.log().contains("ready"));
    let discovery = Discovery::start(&server).unwrap();
    alice.wait_ready().unwrap();
    let link = alice.join_link().unwrap();

    // The same for who joins; and it can be stopped while it waits.
    stop(&discovery);
    let mut bob = Daemon::launch(&b, &["--join", &link, "--name", "bob"]).unwrap();
    wait_until("the trouble is told", Duration::from_secs(5), || {
        !trouble(&bob).is_empty()
    });
    assert_eq!(bob.ask(&["down"]).unwrap().trim(), "stopped");
    let ended = bob.process.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(ended.code(), Some(0));
    bob = Daemon::launch(&b, &[]).unwrap();
    wait_until("the trouble is told", Duration::from_secs(5), || {
        !trouble(&bob).is_empty()
    });
    let _discovery = Discovery::start(&server).unwrap();
    bob.wait_ready().unwrap();
    assert_eq!(bob.status().unwrap()["network"], "my-network");
}

#[test]
fn a_join_that_never_came_about_binds_nobody_to_its_network() {
    let (_lab, server, [a, b]) = lab_with("nojoin", ["a", "b"]);
    let discovery = Discovery::start(&server).unwrap();
    let alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let (_, secret) = link.split_once('#').unwrap();
    let (secret, _) = secret.split_once('.').unwrap();
    let wrong = format!("http://198.51.100.1:7080/join/your-network#{secret}");
    let bob = Daemon::launch(&b, &["--join", &wrong, "--name", "bob"]).unwrap();
    wait_until("the trouble is told", Duration::from_secs(5), || {
        !trouble(&bob).is_empty()
    });
    bob.kill().unwrap();
    // Without the link it is still that join; what a creator may choose does not make it one.
    let bob = Daemon::launch(&b, &["--cidr", "10.77.0.0/16"]).unwrap();
    wait_until("the trouble is told", Duration::from_secs(5), || {
        !trouble(&bob).is_empty()
    });
    let status = bob.status().unwrap();
    assert_eq!(status["network"], "your-network");
    assert_eq!(status["server"]["url"], "http://198.51.100.1:7080/");
    let state = fs::read_to_string(bob.state_dir().join("network.json")).unwrap();
    assert!(!state.contains("creator_key"), "no network was created");
    bob.kill().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    assert_eq!(bob.status().unwrap()["network"], "my-network");
}

#[test]
fn a_later_start_needs_no_server_to_come_up_and_finds_it_when_it_is_back() {
    let (_lab, server, [a, b]) = lab_with("later", ["a", "b"]);
    let discovery = Discovery::start(&server).unwrap();
    let mut alice = Daemon::up(&a, &["--server", &discovery.url(), "--name", "alice"]).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();

    stop(&discovery);
    wait_until("both notice", Duration::from_secs(3), || {
        !alice.is_connected().unwrap() && !bob.is_connected().unwrap()
    });
    let gap = Duration::from_millis(20);
    let report = a.ping_each(gap, bob.ip().unwrap(), 20).unwrap();
    assert_eq!(report.received(), 20, "sessions that stand go on");

    let before = alice.virtual_ip.clone();
    alice.kill().unwrap();
    let start = Instant::now();
    alice = Daemon::up(&a, &[]).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(alice.virtual_ip, before);
    wait_until("it says why", Duration::from_secs(3), || {
        trouble(&alice)
            .to_lowercase()
            .contains("connection refused")
    });
    let status = alice.status().unwrap();
    assert_eq!(status["server"]["connected"], false);
    assert_eq!(
        status["health"][0]["code"], "server-unreachable",
        "{status:#}"
    );
    assert_eq!(
        alice.peer("bob").unwrap()["virtual_ips"][0],
        bob.virtual_ip.as_str()
    );

    let _discovery = Discovery::start(&server).unwrap();
    wait_until("both are back", Duration::from_secs(15), || {
        alice.is_connected().unwrap() && bob.is_connected().unwrap()
    });
    assert_eq!(
        alice.status().unwrap()["health"].as_array().unwrap().len(),
        0
    );
    bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
}

/// Its name, what it does with a visitor, and what the visitor's daemon shall make of it.
type Impostor = (&'static str, fn(TcpStream), &'static str);

/// Serves `speak` to everybody who connects to `port` of `host`, until the test ends.
fn impostor(host: &Host, port: u16, speak: fn(TcpStream)) {
    let bind = move || TcpListener::bind(("0.0.0.0", port)).unwrap();
    let listener = host.namespace().enter(bind).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || speak(stream));
        }
    });
}

fn say(mut stream: TcpStream, head: &str, body: &[u8]) {
    // The client may hang up at any point, which is what some of these are for.
    let _asked = stream.read(&mut [0; 4096]);
    let _heard = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}

fn endless(mut stream: TcpStream) {
    let _asked = stream.read(&mut [0; 4096]);
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[";
    let mut more = stream.write_all(head);
    while more.is_ok() {
        more = stream.write_all(&[b' '; 65_536]);
    }
}

/// The greatest resident memory that the daemon ever had, in KiB.
fn most_memory(daemon: &Daemon) -> u64 {
    let status = format!("/proc/{}/status", daemon.process.pid());
    let status = fs::read_to_string(status).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let (kib, _) = most.unwrap().trim().split_once(' ').unwrap();
    kib.parse().unwrap()
}

#[test]
fn a_server_that_speaks_nonsense_is_told_apart_and_tried_again() {
    let impostors: [Impostor; 5] = [
        (
            "noise",
            |it| say(it, "\0\u{1}\u{2}SSH-2.0-x\r\n", &[255; 999]),
            "HTTP",
        ),
        (
            "page",
            |it| {
                say(
                    it,
                    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n",
                    b"<html>",
                )
            },
            "something else than expected",
        ),
        (
            "elsewhere",
            |it| {
                say(
                    it,
                    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:7082/\r\nContent-Length: 0\r\n\r\n",
                    b"",
                )
            },
            "302 Found",
        ),
        ("endless", endless, "longer answer than the protocol allows"),
        ("mute", |it| say(it, "", b""), "connection closed"),
    ];
    let (_lab, server, hosts) = lab_with("nonsense", impostors.map(|(name, ..)| name));
    let mut daemons = Vec::new();
    for ((host, (name, speak, why)), port) in hosts.iter().zip(impostors).zip(8001..) {
        impostor(&server, port, speak);
        let url = format!("http://{}:{port}", server.address());
        daemons.push((
            Daemon::launch(host, &["--server", &url]).unwrap(),
            name,
            why,
        ));
    }
    for (daemon, name, why) in &daemons {
        wait_until(name, Duration::from_secs(10), || {
            let error = trouble(daemon);
            assert!(error.is_empty() || error.contains(why), "{name}: {error}");
            !error.is_empty()
        });
        wait_until("it tries again", Duration::from_secs(10), || {
            daemon.process.log().matches("trying again").count() >= 2
        });
        assert_eq!(daemon.process.ended().unwrap(), None, "{name}");
        let kib = most_memory(daemon);
        assert!(kib < 100_000, "{name}: {kib} KiB");
    }
}

#[test]
fn a_servers_refusal_is_shown_without_its_control_characters() {
    let (_lab, server, [host]) = lab_with("escape", ["pc"]);
    impostor(&server, 7080, |it| {
        let body = r#"{"code":"no","title":"no\u001b[2J\u0007more","detail":"\u001b]0;x","fix":"f\u009b"}"#;
        let head = format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        say(it, &head, body.as_bytes());
    });
    let url = format!("http://{}:7080", server.address());
    let daemon = Daemon::launch(&host, &["--server", &url]).unwrap();
    let ended = daemon.process.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(ended.code(), Some(1));
    let log = daemon.process.log();
    let error = &log[log.find("error: ").unwrap()..];
    assert!(error.contains("refuses: no"), "{error}");
    assert!(!log.contains("not reached"), "it has answered: {log}");
    assert!(
        !log.contains("trying again"),
        "it is not asked again: {log}"
    );
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!error.contains(control), "{error:?}");
}
