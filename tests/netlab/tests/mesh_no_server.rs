//! What still works while the discovery server is dead?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use netlab::{Daemon, Discovery, Host, Lab, Nat};

/// What a rejoin may take.
const REJOIN: Duration = Duration::from_secs(5);

/// A server on a public host, and machines behind routers of their own.
fn lab_with<const N: usize>(
    name: &str,
    machines: [(&str, Nat); N],
) -> (Lab, Discovery, [(Host, Daemon); N]) {
    let lab = Lab::new(name).unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    let mut link: Option<String> = None;
    let daemons = machines.map(|(machine, nat)| {
        let home = lab.internet().home(&format!("h{machine}"), nat).unwrap();
        let host = home.host(machine).unwrap();
        let url = discovery.url();
        let how = match &link {
            None => ["--server", &url],
            Some(link) => ["--join", link],
        };
        let daemon = Daemon::up(&host, &[&how[..], &["--name", machine]].concat()).unwrap();
        if link.is_none() {
            link = Some(daemon.join_link().unwrap());
        }
        (host, daemon)
    });
    (lab, discovery, daemons)
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// The server dies, and all notice.
fn kill(discovery: &Discovery, daemons: &[&Daemon]) {
    discovery.process.kill().unwrap();
    wait_until("all notice", Duration::from_secs(5), || {
        daemons
            .iter()
            .all(|daemon| daemon.status().unwrap()["server"]["connected"] == false)
    });
}

/// Lets daemons note where they reached each other: every five seconds.
fn let_them_note(daemon: &Daemon) {
    let file = daemon.state_dir().join("endpoints.json");
    wait_until("it is noted", Duration::from_secs(8), || {
        // An address has a port, and is the one value of the one member.
        std::fs::read_to_string(&file).is_ok_and(|text| text.matches("\": \"").count() > 1)
    });
}

/// Starts a machine's daemon again, and measures until it reaches the other.
fn rejoin(host: &Host, other: &Daemon) -> (Daemon, Duration) {
    let start = Instant::now();
    let daemon = Daemon::up(host, &[]).unwrap();
    daemon.first_echo(other, REJOIN).unwrap();
    (daemon, start.elapsed())
}

#[test]
fn a_daemon_that_restarts_while_the_server_is_dead_rejoins_by_itself() {
    let machines = [("ann", Nat::PortRestricted), ("bob", Nat::PortRestricted)];
    let (_lab, discovery, [(a, ann), (b, bob)]) = lab_with("restart", machines);
    ann.first_echo(&bob, REJOIN).unwrap();
    let_them_note(&ann);
    let_them_note(&bob);
    kill(&discovery, &[&ann, &bob]);

    ann.kill().unwrap();
    let (ann, took) = rejoin(&a, &bob);
    assert!(took < REJOIN, "{took:?}");
    bob.ask(&["down"]).unwrap();
    let (bob, took) = rejoin(&b, &ann);
    assert!(took < REJOIN, "{took:?}");
    // Both at once, and the other side is who asks.
    ann.kill().unwrap();
    bob.kill().unwrap();
    let (ann, bob) = (Daemon::launch(&a, &[]), Daemon::launch(&b, &[]));
    let (mut ann, mut bob) = (ann.unwrap(), bob.unwrap());
    ann.wait_ready().unwrap();
    bob.wait_ready().unwrap();
    bob.first_echo(&ann, REJOIN).unwrap();
    assert_eq!(ann.status().unwrap()["server"]["connected"], false);
}

#[test]
fn two_who_never_spoke_meet_through_a_third_while_the_server_is_dead() {
    let machines = [
        ("ann", Nat::PortRestricted),
        ("bob", Nat::PortRestricted),
        ("eve", Nat::PortRestricted),
    ];
    let (_lab, discovery, [(_, ann), (_, bob), (_, eve)]) = lab_with("through", machines);
    ann.first_echo(&bob, REJOIN).unwrap();
    bob.first_echo(&eve, REJOIN).unwrap();
    kill(&discovery, &[&ann, &bob, &eve]);
    ann.first_echo(&eve, REJOIN).unwrap();
    wait_until("it is told", Duration::from_secs(3), || {
        ann.peer("eve").unwrap()["path"] == "direct"
    });
    assert_eq!(eve.status().unwrap()["server"]["connected"], false);
}

#[test]
fn rights_names_and_addresses_outlast_a_restart_of_all_without_a_server() {
    let nats = [Nat::PortRestricted; 3];
    let [a, b, c] = [("ann", nats[0]), ("bob", nats[1]), ("eve", nats[2])];
    let (_lab, discovery, [ann, bob, eve]) = lab_with("rights", [a, b, c]);
    let (hosts, daemons) = ([ann.0, bob.0, eve.0], [ann.1, bob.1, eve.1]);
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        daemons[one].first_echo(&daemons[other], REJOIN).unwrap();
    }
    for daemon in &daemons {
        let_them_note_two(daemon);
    }
    let all: Vec<&Daemon> = daemons.iter().collect();
    kill(&discovery, &all);
    let before = daemons
        .each_ref()
        .map(|daemon| (daemon.name.clone(), daemon.virtual_ip.clone()));
    for daemon in &daemons {
        daemon.kill().unwrap();
    }
    let mut daemons = hosts.map(|host| Daemon::launch(&host, &[]).unwrap());
    for daemon in &mut daemons {
        daemon.wait_ready().unwrap();
    }
    let after = daemons
        .each_ref()
        .map(|daemon| (daemon.name.clone(), daemon.virtual_ip.clone()));
    assert_eq!(after, before);
    let [ann, bob, eve] = &daemons;
    for (one, other) in [(ann, bob), (bob, eve), (ann, eve)] {
        one.first_echo(other, REJOIN).unwrap();
    }

    // Who is no admin has no more to say than before.
    let refused = bob.cli(&["revoke", "eve"]).unwrap();
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("cannot revoke"),
        "{}",
        refused.stderr
    );
    bob.first_echo(eve, REJOIN).unwrap();
    ann.ask(&["revoke", "eve"]).unwrap();
    // By gossip: ann has a session with each.
    for daemon in [ann, bob] {
        wait_until("eve is out", Duration::from_secs(2), || {
            daemon.peer("eve").is_err()
        });
        let report = daemon.host().ping(eve.ip().unwrap(), 3).unwrap();
        assert_eq!(report.received(), 0);
    }
    bob.first_echo(ann, REJOIN).unwrap();
    assert_eq!(ann.status().unwrap()["server"]["connected"], false);
}

/// As [`let_them_note`], for who has reached two.
fn let_them_note_two(daemon: &Daemon) {
    let file = daemon.state_dir().join("endpoints.json");
    wait_until("both are noted", Duration::from_secs(15), || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let noted: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        noted["endpoints"]
            .as_object()
            .is_some_and(|it| it.len() == 2)
    });
}
