//! Whom does a network let in, and who decides?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, thread, time::Duration};

use netlab::{Capture, Daemon, Discovery, Host, Lab, Nat};

/// A public host for the server, and a home with machines.
fn lab_with<const N: usize>(name: &str, machines: [&str; N]) -> (Lab, Discovery, [Host; N]) {
    let lab = Lab::new(name).unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let hosts = machines.map(|machine| home.host(machine).unwrap());
    let discovery = Discovery::start(&server).unwrap();
    (lab, discovery, hosts)
}

fn create(host: &Host, discovery: &Discovery) -> Daemon {
    Daemon::up(host, &["--server", &discovery.url(), "--name", "alice"]).unwrap()
}

fn join(host: &Host, link: &str, name: &str) -> Daemon {
    Daemon::up(host, &["--join", link.trim(), "--name", name]).unwrap()
}

/// What `meshd up` says that is refused, and exits with 1.
fn refused(host: &Host, link: &str) -> String {
    let daemon = Daemon::launch(host, &["--join", link.trim(), "--name", "mallory"]).unwrap();
    let ended = daemon.process.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(ended.code(), Some(1), "{}", daemon.process.log());
    daemon.process.log()
}

fn names(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status().unwrap();
    let peers = status["peers"].as_array().unwrap();
    let name = |peer: &serde_json::Value| peer["name"].as_str().unwrap().to_owned();
    peers.iter().map(name).collect()
}

#[test]
fn a_link_for_one_machine_lets_one_in_and_an_expired_one_nobody() {
    let (_lab, discovery, [a, b, c]) = lab_with("oneuse", ["a", "b", "c"]);
    let alice = create(&a, &discovery);
    assert_eq!(alice.status().unwrap()["trust"], "certificates");
    let link = alice.ask(&["invite", "--uses", "1"]).unwrap();
    let bob = join(&b, &link, "bob");
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    assert_eq!(bob.status().unwrap()["trust"], "certificates");

    let told = refused(&c, &link);
    assert!(told.contains("as many machines as it may"), "{told}");
    assert!(told.contains("meshd invite"), "{told}");
    let short = alice.ask(&["invite", "--expires", "1s"]).unwrap();
    thread::sleep(Duration::from_millis(2100));
    let told = refused(&c, &short);
    assert!(told.contains("does not hold any more"), "{told}");
    assert_eq!(names(&alice), ["bob"]);

    // Who was let in comes back without it, also when its name is another one.
    bob.kill().unwrap();
    let bob = Daemon::up(&b, &[]).unwrap();
    bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
    let not_his = bob.cli(&["invite"]).unwrap();
    assert_eq!(not_his.status.code(), Some(1));
    assert!(
        not_his.stderr.contains("cannot invite others"),
        "{}",
        not_his.stderr
    );
}

#[test]
fn an_admin_invites_and_a_member_does_not() {
    let (_lab, discovery, [a, b, c]) = lab_with("admins", ["a", "b", "c"]);
    let alice = create(&a, &discovery);
    let link = alice.ask(&["invite", "--role", "admin"]).unwrap();
    let bob = join(&b, &link, "bob");
    alice.kill().unwrap();
    let link = bob.ask(&["invite", "--uses", "1"]).unwrap();
    let carol = join(&c, &link, "carol");
    carol.first_echo(&bob, Duration::from_secs(5)).unwrap();
    let alice = Daemon::up(&a, &[]).unwrap();
    carol.first_echo(&alice, Duration::from_secs(5)).unwrap();
    let none = carol.cli(&["invite"]).unwrap();
    assert_eq!(none.status.code(), Some(1));
}

#[test]
fn many_machines_that_join_at_once_get_addresses_and_names_of_their_own() {
    let machines = ["a", "b", "c", "d", "e", "f"];
    let (_lab, discovery, [a, rest @ ..]) = lab_with("atonce", machines);
    let alice = create(&a, &discovery);
    let link = alice.join_link().unwrap();
    let daemons: Vec<Daemon> = thread::scope(|scope| {
        let joining: Vec<_> = rest
            .iter()
            .map(|host| scope.spawn(|| join(host, &link, "web")))
            .collect();
        joining
            .into_iter()
            .map(|join| join.join().unwrap())
            .collect()
    });
    let of = |part: fn(&Daemon) -> &String| {
        let mut parts: Vec<&String> = daemons.iter().map(part).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.len()
    };
    assert_eq!(of(|daemon| &daemon.virtual_ip), daemons.len());
    assert_eq!(of(|daemon| &daemon.name), daemons.len());
    for daemon in &daemons {
        daemon.first_echo(&alice, Duration::from_secs(5)).unwrap();
    }
}

#[test]
fn a_network_without_a_key_works_and_says_that_it_is_weaker() {
    let (_lab, discovery, [a, b]) = lab_with("pskonly", ["a", "b"]);
    let file = a.dir().join("psk.yaml");
    fs::write(&file, "mesh: {trust: psk}\n").unwrap();
    let file = file.display().to_string();
    let alice = Daemon::up(
        &a,
        &[
            "--config",
            &file,
            "--server",
            &discovery.url(),
            "--name",
            "alice",
        ],
    )
    .unwrap();
    let link = alice.join_link().unwrap();
    assert!(!link.contains("key="), "there is none to pin");
    let bob = join(&b, &link, "bob");
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    for daemon in [&alice, &bob] {
        assert_eq!(daemon.status().unwrap()["trust"], "psk");
        let text = daemon.ask(&["status"]).unwrap();
        assert!(text.contains("weaker"), "{text}");
    }
    // Whoever is in can let others in, but cannot limit that.
    assert_eq!(bob.ask(&["invite"]).unwrap().trim(), link);
    let limited = bob.cli(&["invite", "--uses", "1"]).unwrap();
    assert_eq!(limited.status.code(), Some(1));
    assert!(limited.stderr.contains("mesh.trust"), "{}", limited.stderr);
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// Whether one echo comes back within a second.
fn reaches(host: &Host, to: &Daemon) -> bool {
    let report = host
        .ping_each(Duration::from_millis(200), to.ip().unwrap(), 3)
        .unwrap();
    report.received() > 0
}

#[test]
fn a_revoked_member_is_cut_off_within_two_seconds_and_stays_out() {
    let (_lab, discovery, [a, b, c]) = lab_with("revoked", ["a", "b", "c"]);
    let alice = create(&a, &discovery);
    let link = alice.join_link().unwrap();
    let (bob, carol) = (join(&b, &link, "bob"), join(&c, &link, "carol"));
    bob.first_echo(&carol, Duration::from_secs(5)).unwrap();
    bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
    let not_hers = carol.cli(&["revoke", "bob"]).unwrap();
    assert_eq!(not_hers.status.code(), Some(1));
    assert!(
        not_hers.stderr.contains("cannot revoke"),
        "{}",
        not_hers.stderr
    );
    assert!(reaches(&b, &carol));

    let told = alice.ask(&["revoke", "bob"]).unwrap();
    assert!(told.contains("is out"), "{told}");
    wait_until("both have put it out", Duration::from_secs(2), || {
        names(&alice) == ["carol"] && names(&carol) == ["alice"]
    });
    assert!(!reaches(&b, &carol) && !reaches(&b, &alice));
    assert!(reaches(&c, &alice), "the others go on");
    // It heard so itself, and the server that lets it in no more says nothing else.
    wait_until("it is told once", Duration::from_secs(10), || {
        let status = bob.status().unwrap();
        let health = status["health"].as_array().unwrap();
        let told = health.iter().filter(|problem| problem["code"] == "put-out");
        status["server"]["connected"] == false && told.count() == 1
    });

    // Neither a restart of its own nor one of the server, nor the same link again, brings it back.
    bob.kill().unwrap();
    discovery.process.kill().unwrap();
    let server = discovery.restart().unwrap();
    let bob = Daemon::launch(&b, &[]).unwrap();
    wait_until("it is told why", Duration::from_secs(10), || {
        bob.cli(&["status"])
            .is_ok_and(|output| output.stdout.contains("revoked"))
    });
    wait_until("the others are back", Duration::from_secs(15), || {
        alice.status().unwrap()["server"]["connected"] == true
    });
    assert_eq!(names(&alice), ["carol"]);
    assert!(!reaches(&b, &carol));
    drop(server);
}

#[test]
fn a_join_link_can_be_ended_and_those_whom_the_creator_has_vouched_for_stay() {
    let (_lab, discovery, [a, b, c]) = lab_with("endlink", ["a", "b", "c"]);
    let alice = create(&a, &discovery);
    let link = alice.join_link().unwrap();
    let carol = join(&c, &link, "carol");
    carol.first_echo(&alice, Duration::from_secs(5)).unwrap();
    wait_until("carol rests on no link", Duration::from_secs(5), || {
        certificate_length(&c, "carol") < 300
    });
    let told = alice.ask(&["revoke", &link]).unwrap();
    assert!(told.contains("the join link"), "{told}");
    let refused = refused(&b, &link);
    assert!(refused.contains("revoked"), "{refused}");
    assert_eq!(names(&alice), ["carol"]);
    assert!(reaches(&c, &alice));
}

/// How long the text of a member's certificate is that this host's daemon shows. An issuer of one byte instead of an invite
/// makes it shorter by more than a hundred characters.
fn certificate_length(host: &Host, name: &str) -> usize {
    let network = "http://127.0.0.1:7082/api/v1/mesh/networks/my-network/peers";
    let peers = host.run("curl", ["-sS", "-f", network]).unwrap().stdout;
    let peers: serde_json::Value = serde_json::from_str(&peers).unwrap();
    let peers = peers["peers"].as_array().unwrap().clone();
    let own = peers.iter().find(|peer| peer["name"] == name).unwrap();
    own["certificate"].as_str().unwrap().len()
}

#[test]
fn members_tell_each_other_of_a_revocation_while_the_server_is_dead() {
    let (_lab, discovery, [a, b, c, d]) = lab_with("gossip", ["a", "b", "c", "d"]);
    let alice = create(&a, &discovery);
    let link = alice.join_link().unwrap();
    let bob = join(&b, &link, "bob");
    let (carol, dave) = (join(&c, &link, "carol"), join(&d, &link, "dave"));
    // Alice knows carol, carol knows dave; dave and alice have never spoken.
    alice.first_echo(&carol, Duration::from_secs(5)).unwrap();
    carol.first_echo(&dave, Duration::from_secs(5)).unwrap();
    bob.first_echo(&dave, Duration::from_secs(5)).unwrap();
    discovery.process.kill().unwrap();
    wait_until("the server is missed", Duration::from_secs(5), || {
        alice.status().unwrap()["server"]["connected"] == false
    });
    alice.ask(&["revoke", "bob"]).unwrap();
    wait_until(
        "it went from one to the next",
        Duration::from_secs(20),
        || !names(&dave).contains(&"bob".to_owned()) && !names(&carol).contains(&"bob".to_owned()),
    );
    assert!(!reaches(&b, &dave));
    // The server hears of it when it is back.
    let _server = discovery.restart().unwrap();
    wait_until("it cannot register", Duration::from_secs(30), || {
        bob.cli(&["status"])
            .is_ok_and(|output| output.stdout.contains("revoked"))
    });
}

/// Everything that the server sent, as bytes.
fn said_by_the_server(server: &Host, pair: impl FnOnce()) -> Vec<u8> {
    let capture = Capture::start(server, "any", "out", "tcp port 7080").unwrap();
    pair();
    capture.finish("7080", 4).unwrap();
    fs::read(server.dir().join("any-out.pcap")).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn the_server_forwards_what_peers_write_to_each_other_and_cannot_read_it() {
    let lab = Lab::new("sealed").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let [a, b] = ["a", "b"].map(|name| home.host(name).unwrap());
    let discovery = Discovery::start(&server).unwrap();
    let said = said_by_the_server(&server, || {
        let alice = create(&a, &discovery);
        let bob = join(&b, &alice.join_link().unwrap(), "bob");
        alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    });
    // What it knows can be read here, and a signal went through it.
    for known in ["wireguard_key", "peer_joined", "\"type\":\"signal\""] {
        assert!(holds(&said, known), "{known}");
    }
    for sealed in ["candidate", "ufrag", "typ host"] {
        assert!(!holds(&said, sealed), "{sealed}");
    }
}

#[test]
fn the_creator_writes_those_who_joined_a_certificate_that_rests_on_no_link() {
    let (_lab, discovery, [a, b]) = lab_with("renewal", ["a", "b"]);
    let alice = create(&a, &discovery);
    let link = alice.ask(&["invite", "--expires", "3s"]).unwrap();
    let bob = join(&b, &link, "bob");
    wait_until("it shows the new one", Duration::from_secs(5), || {
        certificate_length(&b, "bob") < 300
    });
    let state = fs::read_to_string(bob.state_dir().join("network.json")).unwrap();
    assert!(state.contains("certificate"));
    // The server loses everything when the link is long gone.
    thread::sleep(Duration::from_millis(3100));
    discovery.process.kill().unwrap();
    fs::remove_dir_all(discovery.data_dir()).unwrap();
    let _server = discovery.restart().unwrap();
    wait_until("both are back", Duration::from_secs(20), || {
        [&alice, &bob]
            .iter()
            .all(|daemon| daemon.status().unwrap()["server"]["connected"] == true)
    });
    assert_eq!(names(&alice), ["bob"]);
    bob.first_echo(&alice, Duration::from_secs(5)).unwrap();
}

#[test]
fn what_an_admin_said_while_the_server_was_dead_holds_after_it_was_put_out_itself() {
    let (_lab, discovery, [a, b, c]) = lab_with("order", ["a", "b", "c"]);
    let alice = create(&a, &discovery);
    let link = alice.ask(&["invite", "--role", "admin"]).unwrap();
    let (bob, carol) = (join(&b, &link, "bob"), join(&c, &link, "carol"));
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    alice.first_echo(&carol, Duration::from_secs(5)).unwrap();
    discovery.process.kill().unwrap();
    let missed = |daemon: &Daemon| daemon.status().unwrap()["server"]["connected"] == false;
    wait_until("all notice", Duration::from_secs(5), || {
        missed(&alice) && missed(&bob)
    });
    bob.ask(&["revoke", "carol"]).unwrap();
    wait_until("alice has heard", Duration::from_secs(5), || {
        names(&alice) == ["bob"]
    });
    // The order is told by seconds.
    thread::sleep(Duration::from_millis(1100));
    alice.ask(&["revoke", "bob"]).unwrap();
    bob.kill().unwrap();
    let _server = discovery.restart().unwrap();
    wait_until("carol is told", Duration::from_secs(30), || {
        carol
            .cli(&["status"])
            .is_ok_and(|output| output.stdout.contains("revoked"))
    });
    assert!(names(&alice).is_empty());
    assert_eq!(alice.status().unwrap()["server"]["connected"], true);
}

#[test]
fn a_server_that_takes_no_request_hears_of_a_revocation_later_and_loses_nobody_meanwhile() {
    let lab = Lab::new("later").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|machine| home.host(machine).unwrap());
    let discovery = Discovery::start(&server).unwrap();
    let alice = create(&a, &discovery);
    let link = alice.join_link().unwrap();
    let bob = join(&b, &link, "bob");
    let carol = join(&c, &link, "carol");
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    alice.first_echo(&carol, Duration::from_secs(5)).unwrap();
    // What stands goes on; whoever comes is turned away.
    let closed = "table ip closed { chain input { type filter hook input priority 0; \
                  tcp dport 7080 tcp flags & (syn | ack) == syn reject with tcp reset; }; }";
    server.namespace().nft(closed).unwrap();
    alice.ask(&["revoke", "bob"]).unwrap();
    wait_until("carol hears of it", Duration::from_secs(10), || {
        names(&carol) == ["alice"]
    });
    // Some attempts.
    thread::sleep(Duration::from_secs(6));
    server.namespace().nft("delete table ip closed").unwrap();
    let url = format!("{}/metrics", discovery.url());
    wait_until("the server hears of it", Duration::from_secs(40), || {
        let metrics = a.sh(&format!("curl -sf {url}")).unwrap().stdout;
        metrics.lines().any(|line| line == "discovery_peers 2")
    });
    for daemon in [&alice, &carol] {
        let log = daemon.process.log();
        assert!(!log.contains("discovery server lost"), "{log}");
    }
}
