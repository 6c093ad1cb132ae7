//! Do two discovery servers make one network, whichever of them answers, and can they be changed under a running mesh?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mesh_servers/scene.rs"]
mod scene;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, LinkShape, Nat};
use serde_json::{Value, json};

use crate::scene::{ECHO, is_connected, machine, up, url, wait_connected, wait_lost, wait_until};

/// Public hosts for servers.
fn public(lab: &Lab, names: [&str; 2]) -> [Host; 2] {
    names.map(|name| lab.internet().public_host(name).unwrap())
}

/// Two of them, each with a discovery server.
fn two_servers(name: &str) -> (Lab, [Host; 2], [Discovery; 2]) {
    let lab = Lab::new(name).unwrap();
    let hosts = public(&lab, ["one", "two"]);
    let servers = hosts.each_ref().map(|host| Discovery::start(host).unwrap());
    (lab, hosts, servers)
}

fn servers(daemon: &Daemon) -> Vec<Value> {
    let status = daemon.status().unwrap();
    status["servers"].as_array().unwrap().clone()
}

/// Everything that arrives at this host is dropped, if it is for this port.
fn drop_all(host: &Host, from: &str) {
    let table = format!(
        "table ip hole {{ chain input {{ type filter hook input priority 0; {from} tcp dport 7080 drop; }}; }}"
    );
    host.namespace().nft(&table).unwrap();
}

/// `curl` on the daemon's machine: the answer's status and body.
fn curl(daemon: &Daemon, args: &[&str]) -> (u16, Value) {
    let form = [
        "-sS",
        "-w",
        "\n%{http_code}",
        "-H",
        "Content-Type: application/json",
    ];
    let output = daemon
        .host()
        .run("curl", [&form[..], args].concat())
        .unwrap();
    let (body, code) = output.stdout.trim().rsplit_once('\n').unwrap();
    (code.parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// `POST /api/v1/servers` over the Unix socket.
fn post(daemon: &Daemon, list: &[&str]) -> (u16, Value) {
    let socket = daemon.state_dir().join("meshd.sock");
    let body = json!({ "servers": list }).to_string();
    let at = ["--unix-socket", socket.to_str().unwrap()];
    let what = ["-d", &body, "http://localhost/api/v1/servers"];
    curl(
        daemon,
        &[at, ["-X", "POST"]]
            .concat()
            .into_iter()
            .chain(what)
            .collect::<Vec<_>>(),
    )
}

/// The same over TCP, with a token or without.
fn post_tcp(daemon: &Daemon, token: Option<&str>, list: &[&str]) -> (u16, Value) {
    let bearer = format!("Authorization: Bearer {}", token.unwrap_or_default());
    let body = json!({ "servers": list }).to_string();
    let mut args = vec!["-d", &body, "http://127.0.0.1:7082/api/v1/servers"];
    if token.is_some() {
        args.extend(["-H", &bearer]);
    }
    curl(daemon, &args)
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn with_the_first_server_dead_all_meet_on_the_second_and_the_first_is_used_again_when_it_is_back() {
    let (lab, [one, two], [first, second]) = two_servers("second");
    let both = ["--server", &first.url(), "--server", &second.url()];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    wait_connected(&[&alice, &bob], &[&one, &two]);
    let status = bob.status().unwrap();
    assert_eq!(status["server"]["url"], url(&one).as_str());
    assert_eq!(status["health"], json!([]));

    first.process.kill().unwrap();
    wait_lost(&[&alice, &bob], &one);
    alice.first_echo(&bob, ECHO).unwrap();
    let start = Instant::now();
    let carol = up(&machine(&lab, "c"), &["--join", &link], "carol");
    println!("joined past a dead server in {:?}", start.elapsed());
    carol.first_echo(&bob, ECHO).unwrap();
    let status = alice.status().unwrap();
    assert_eq!(status["server"]["url"], url(&two).as_str());
    assert_eq!(status["server"]["connected"], true);
    assert_eq!(status["health"][0]["code"], "server-unreachable");
    assert_eq!(status["health"].as_array().unwrap().len(), 1);

    // Back with what it had: it hears of carol for the first time.
    let _first = first.restart().unwrap();
    wait_connected(&[&alice, &bob, &carol], &[&one, &two]);
    assert_eq!(alice.status().unwrap()["server"]["url"], url(&one).as_str());
    second.process.kill().unwrap();
    wait_lost(&[&alice, &bob, &carol], &two);
    alice.first_echo(&carol, ECHO).unwrap();
    let dave = up(&machine(&lab, "d"), &["--join", &link], "dave");
    dave.first_echo(&carol, ECHO).unwrap();
}

#[test]
fn a_first_server_that_never_answers_delays_a_start_by_a_second_or_two() {
    for (kind, is_silent) in [("refuses", false), ("silent", true)] {
        let lab = Lab::new(kind).unwrap();
        let [one, two] = public(&lab, ["one", "two"]);
        if is_silent {
            drop_all(&one, "");
        }
        let second = Discovery::start(&two).unwrap();
        let (a, b) = (machine(&lab, "a"), machine(&lab, "b"));
        let start = Instant::now();
        let alice = up(
            &a,
            &["--server", &url(&one), "--server", &second.url()],
            "alice",
        );
        let created = start.elapsed();
        let link = alice.join_link().unwrap();
        let start = Instant::now();
        let bob = up(&b, &["--join", &link], "bob");
        let joined = start.elapsed();
        println!("{kind}: created in {created:?}, joined in {joined:?}");
        // Reaching one server may take 10 s; the second is asked long before.
        let limit = Duration::from_secs(9);
        assert!(created < limit && joined < limit, "{created:?}, {joined:?}");
        alice.first_echo(&bob, ECHO).unwrap();
        let later = bob.status().unwrap();
        assert_eq!(later["server"]["url"], url(&two).as_str());
    }
}

#[test]
fn who_reaches_only_the_second_server_is_found_by_all() {
    let (lab, [one, two], [first, second]) = two_servers("halves");
    let both = ["--server", &first.url(), "--server", &second.url()];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    let link = alice.join_link().unwrap();
    let home = lab.internet().home("hb", Nat::PortRestricted).unwrap();
    drop_all(&one, &format!("ip saddr {}", home.outermost().address()));
    let bob = up(&home.host("b").unwrap(), &["--join", &link], "bob");
    wait_connected(&[&bob], &[&two]);
    alice.first_echo(&bob, ECHO).unwrap();
    assert!(!is_connected(&bob, &one));
    wait_until("it is told", Duration::from_secs(3), || {
        alice.peer("bob").unwrap()["path"] == "direct"
    });
    // Both ways, and with somebody who never spoke to him.
    let carol = up(&machine(&lab, "c"), &["--join", &link], "carol");
    bob.first_echo(&carol, ECHO).unwrap();
}

#[test]
fn the_list_is_changed_while_a_ping_goes_on_and_survives_a_restart() {
    let (lab, [one, two], [first, second]) = two_servers("live");
    let a = machine(&lab, "a");
    let alice = up(&a, &["--server", &first.url()], "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    alice.first_echo(&bob, ECHO).unwrap();
    let (target, from) = (bob.ip().unwrap(), a);
    let gap = Duration::from_millis(20);
    let pinging = thread::spawn(move || from.ping_each(gap, target, 500).unwrap());

    let (one_url, two_url) = (url(&one), url(&two));
    let (code, answer) = post(&alice, &[&one_url, &two_url]);
    assert_eq!(code, 200, "{answer:#}");
    assert_eq!(answer["servers"][1]["url"], two_url.as_str());
    // She was started with --server, which wins at the next start.
    assert!(answer["note"].is_string(), "{answer:#}");
    wait_connected(&[&alice], &[&one, &two]);
    assert_eq!(post_tcp(&bob, None, &[&two_url]).0, 401);
    let token = fs::read_to_string(bob.state_dir().join("api-token")).unwrap();
    let token = token.trim();
    let (code, answer) = post_tcp(&bob, Some(token), &[&one_url, &two_url]);
    assert_eq!((code, &answer["note"]), (200, &Value::Null), "{answer:#}");
    wait_connected(&[&bob], &[&one, &two]);
    let (code, _) = post(&alice, &[&two_url]);
    assert_eq!(code, 200);
    assert_eq!(post(&bob, &[&two_url]).0, 200);
    assert_eq!(servers(&bob).len(), 1);
    let report = pinging.join().unwrap();
    assert_eq!(report.received(), 500, "no session noticed");

    // Nobody needs the first one any more, and links name the second.
    first.process.kill().unwrap();
    let link = alice.ask(&["invite"]).unwrap();
    assert!(link.starts_with(&two_url), "{link}");
    let carol = up(&machine(&lab, "c"), &["--join", link.trim()], "carol");
    carol.first_echo(&bob, ECHO).unwrap();
    bob.ask(&["down"]).unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    wait_connected(&[&bob], &[&two]);
    assert_eq!(servers(&bob).len(), 1);
    bob.first_echo(&alice, ECHO).unwrap();
    drop(second);
}

#[test]
fn a_wrong_list_is_refused_and_changes_nothing() {
    let lab = Lab::new("wrong").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let alice = up(
        &machine(&lab, "a"),
        &["--server", &discovery.url()],
        "alice",
    );
    wait_connected(&[&alice], &[&server]);
    let before = fs::read_to_string(alice.state_dir().join("network.json")).unwrap();
    for (list, why) in [
        (&["ftp://x"][..], "must be an http or https URL"),
        (&["http://ann:secret@x"], "user name or a password"),
        (&["x", "http://x:7080"], "named twice"),
        (&[], "names no server"),
    ] {
        let (code, problem) = post(&alice, list);
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!((code, detail.contains(why)), (422, true), "{problem:#}");
        let refused = alice.cli(&[&["servers", "set"], list].concat()).unwrap();
        assert_ne!(refused.status.code(), Some(0), "{list:?}");
    }
    let refused = alice.cli(&["servers", "rm", "http://x"]).unwrap();
    assert!(refused.stderr.contains("is not used"), "{}", refused.stderr);
    let after = fs::read_to_string(alice.state_dir().join("network.json")).unwrap();
    assert_eq!(after, before);
    assert!(is_connected(&alice, &server));
}

#[test]
fn without_a_key_addresses_are_the_same_on_both_servers_and_the_file_wins_at_a_start() {
    let lab = Lab::new("nokey").unwrap();
    let [one, two] = public(&lab, ["one", "two"]);
    let _servers = [&one, &two].map(|host| Discovery::start(host).unwrap());
    let a = machine(&lab, "a");
    let (one_url, two_url) = (url(&one), url(&two));
    let text = format!(
        "mesh:\n  trust: psk\n  discovery:\n    server: {one_url}\n    servers: ['{two_url}']\n"
    );
    let file = write(&a.dir().join("mesh.yaml"), &text);
    let alice = up(&a, &["--config", &file], "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    wait_connected(&[&alice, &bob], &[&one, &two]);
    alice.first_echo(&bob, ECHO).unwrap();
    assert_eq!(
        bob.peer("alice").unwrap()["virtual_ips"][0],
        alice.virtual_ip.as_str()
    );
    assert_eq!(bob.status().unwrap()["health"], json!([]));

    let shown = alice.ask(&["servers", "rm", &one_url]).unwrap();
    assert!(shown.contains("started so again, it uses those"), "{shown}");
    wait_until("one is left", ECHO, || servers(&alice).len() == 1);
    alice.ask(&["down"]).unwrap();
    let alice = Daemon::up(&a, &["--config", &file]).unwrap();
    assert_eq!(servers(&alice).len(), 2);
    bob.first_echo(&alice, ECHO).unwrap();
}

#[test]
fn a_network_whose_server_is_inside_a_daemon_gets_a_second_one_beside_it() {
    let lab = Lab::new("beside").unwrap();
    let [a, two] = public(&lab, ["a", "two"]);
    let second = Discovery::start(&two).unwrap();
    let alice = up(&a, &[], "alice");
    let refused = alice.cli(&["servers", "set", &second.url()]).unwrap();
    assert!(
        refused.stderr.contains("stays the first"),
        "{}",
        refused.stderr
    );
    alice.ask(&["servers", "add", &second.url()]).unwrap();
    wait_connected(&[&alice], &[&two]);
    let link = alice.ask(&["invite"]).unwrap();
    assert!(link.starts_with(&url(&a)), "{link}");
    let bob = up(&machine(&lab, "b"), &["--join", link.trim()], "bob");
    wait_connected(&[&bob], &[&a, &two]);
    // With the daemon goes its server.
    alice.kill().unwrap();
    wait_lost(&[&bob], &a);
    let carol = up(&machine(&lab, "c"), &["--join", link.trim()], "carol");
    carol.first_echo(&bob, ECHO).unwrap();
    let alice = Daemon::up(&a, &[]).unwrap();
    wait_connected(&[&alice], &[&two]);
    alice.first_echo(&carol, ECHO).unwrap();
}

#[test]
fn who_is_revoked_while_a_server_is_away_is_not_let_in_there_later() {
    let (lab, [one, two], [first, second]) = two_servers("revoked");
    let both = ["--server", &first.url(), "--server", &second.url()];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    let link = alice.join_link().unwrap();
    let b = machine(&lab, "b");
    let bob = up(&b, &["--join", &link], "bob");
    wait_connected(&[&alice, &bob], &[&one, &two]);
    second.process.kill().unwrap();
    wait_lost(&[&alice, &bob], &two);
    bob.kill().unwrap();
    alice.ask(&["revoke", "bob"]).unwrap();
    let _second = second.restart().unwrap();
    wait_connected(&[&alice], &[&two]);
    first.process.kill().unwrap();
    refused_by(&b, &two);
}

#[test]
fn what_one_server_is_told_of_a_revocation_reaches_the_other_through_a_member() {
    let (lab, [one, two], [first, second]) = two_servers("passed");
    let both = ["--server", &first.url(), "--server", &second.url()];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    let link = alice.join_link().unwrap();
    let b = machine(&lab, "b");
    let bob = up(&b, &["--join", &link], "bob");
    let carol = up(&machine(&lab, "c"), &["--join", &link], "carol");
    wait_connected(&[&alice, &bob, &carol], &[&one, &two]);
    alice.ask(&["servers", "rm", &second.url()]).unwrap();
    wait_lost(&[&alice], &two);
    bob.kill().unwrap();
    alice.ask(&["revoke", "bob"]).unwrap();
    wait_until("carol hears of it", ECHO, || {
        let status = carol.status().unwrap();
        let peers = status["peers"].as_array().unwrap();
        !peers.iter().any(|peer| peer["name"] == "bob")
    });
    first.process.kill().unwrap();
    refused_by(&b, &two);
}

/// The daemon of this machine starts, and this server does not let it in.
fn refused_by(host: &Host, server: &Host) {
    let daemon = Daemon::launch(host, &[]).unwrap();
    // Who did not sign a revocation tells servers of it within half a minute.
    wait_until("it is refused", Duration::from_secs(45), || {
        let output = daemon.cli(&["status"]).unwrap();
        output.stdout.contains(&url(server)) && output.stdout.contains("revoked")
    });
    assert!(!is_connected(&daemon, server));
}

#[test]
fn a_first_server_that_takes_a_connection_and_says_nothing_is_not_waited_for() {
    let lab = Lab::new("silent").unwrap();
    let [one, two] = public(&lab, ["one", "two"]);
    let second = Discovery::start(&two).unwrap();
    let listen = "import socket, time\ns = socket.create_server(('', 7080))\nprint('listens', flush=True)\ntime.sleep(600)";
    let silent = one.spawn("python3", ["-c", listen]).unwrap();
    silent.wait_for_line("listens", ECHO).unwrap();
    let start = Instant::now();
    let both = ["--server", &url(&one), "--server", &second.url()];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    // One request takes ten seconds to be given up.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
    wait_connected(&[&alice], &[&two]);
}

#[test]
fn a_slow_first_server_beside_one_that_never_answers_is_given_the_time_that_it_needs() {
    let lab = Lab::new("slow").unwrap();
    let far = LinkShape {
        delay: Duration::from_millis(600),
        ..LinkShape::default()
    };
    let one = lab.internet().public_host_shaped("one", far).unwrap();
    let two = lab.internet().public_host("two").unwrap();
    drop_all(&two, "");
    let first = Discovery::start(&one).unwrap();
    // More than three seconds until we are registered, also at a second attempt.
    let both = ["--server", &first.url(), "--server", &url(&two)];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    let link = alice.join_link().unwrap();
    up(&machine(&lab, "b"), &["--join", &link], "bob");
}

#[test]
fn who_waits_for_a_dead_server_at_a_first_start_can_be_given_another() {
    let lab = Lab::new("waits").unwrap();
    let [one, two] = public(&lab, ["one", "two"]);
    let second = Discovery::start(&two).unwrap();
    let (dead, alive) = (url(&one), second.url());
    let args = ["--server", &dead, "--name", "alice"];
    let mut alice = Daemon::launch(&machine(&lab, "a"), &args).unwrap();
    wait_until("she waits", ECHO, || {
        let output = alice.cli(&["status"]).unwrap();
        output.stdout.contains("server-unreachable") || output.stdout.contains("not connected: ")
    });
    assert!(!alice.process.log().contains("ready"));
    alice.ask(&["servers", "set", &alive]).unwrap();
    alice.wait_ready().unwrap();
    wait_connected(&[&alice], &[&two]);
    let link = alice.ask(&["invite"]).unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", link.trim()], "bob");
    bob.first_echo(&alice, ECHO).unwrap();
}
