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
