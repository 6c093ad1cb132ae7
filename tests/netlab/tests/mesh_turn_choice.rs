//! Which of several TURN servers relays: the nearest, and another one when that is gone or has no room for us? Both are coturn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::time::Duration;

use netlab::{
    COTURN_PASSWORD, Daemon, Discovery, Host, Lab, LinkShape, Nat, Process, coturn_with, wait_until,
};

const SECOND: Duration = Duration::from_secs(1);

/// How far the far server is, one way; the near one is on the same router as everybody.
const FAR: Duration = Duration::from_millis(50);

/// Two daemons that only a relay joins, and two servers, which they have in their configuration.
struct Choice {
    alice: Daemon,
    bob: Daemon,
    near: Server,
    far: Server,
    _discovery: Discovery,
    _lab: Lab,
}

struct Server {
    host: Host,
    process: Process,
}

impl Server {
    fn start(host: Host, arguments: &[&str]) -> Self {
        let process = coturn_with(&host, None, arguments).unwrap();
        Self { host, process }
    }

    /// Relayed addresses at this server: UDP sockets beside that of the port where it is asked.
    fn relays(&self) -> usize {
        let sockets = self.host.run("ss", ["-Hnul"]).unwrap().stdout;
        let address = format!("{}:", self.host.address());
        let at = sockets.lines().filter(|line| line.contains(&address));
        at.filter(|line| !line.contains(&format!("{address}3478 ")))
            .filter(|line| !line.contains(&format!("{address}3479 ")))
            .count()
    }
}

impl Choice {
    /// The near server has these arguments more.
    fn new(name: &str, arguments: &[&str]) -> Self {
        let lab = Lab::new(name).unwrap();
        let internet = lab.internet();
        let server = internet.public_host("server").unwrap();
        let discovery = Discovery::start_with(&server, &["--no-turn"]).unwrap();
        let shape = LinkShape {
            delay: FAR,
            ..LinkShape::default()
        };
        let far = Server::start(internet.public_host_shaped("far", shape).unwrap(), &[]);
        let near = Server::start(internet.public_host("near").unwrap(), arguments);
        // The far one stands first, so that the order is no reason.
        let servers = [&far, &near].map(|server| {
            let address = server.host.address();
            format!("{{url: 'turn:{address}:3478', username: ann, password: '{COTURN_PASSWORD}'}}")
        });
        let text = format!("mesh: {{turn: {{servers: [{}]}}}}", servers.join(", "));
        let up = |name: &str, rest: [&str; 2]| {
            let home = lab.internet().home(name, Nat::Symmetric).unwrap();
            let host = home.host("pc").unwrap();
            let file = host.dir().join("mesh.yaml");
            std::fs::write(&file, &text).unwrap();
            let more = ["--name", name, "--config", file.to_str().unwrap()];
            Daemon::up(&host, &[&rest[..], &more].concat()).unwrap()
        };
        let alice = up("alice", ["--server", &discovery.url()]);
        let bob = up("bob", ["--join", &alice.join_link().unwrap()]);
        Self {
            alice,
            bob,
            near,
            far,
            _discovery: discovery,
            _lab: lab,
        }
    }

    fn wait_relayed(&self) {
        wait_until("both are relayed", 10 * SECOND, || {
            let there = self.alice.peer("bob")?["path"] == "turn";
            Ok(there && self.bob.peer("alice")?["path"] == "turn")
        })
        .unwrap();
    }
}

#[test]
fn the_nearest_of_two_turn_servers_relays_and_the_other_one_when_it_is_gone() {
    let scene = Choice::new("turnnear", &[]);
    scene.alice.first_echo(&scene.bob, 10 * SECOND).unwrap();
    scene.wait_relayed();
    assert_eq!((scene.near.relays(), scene.far.relays()), (2, 0));
    let near = scene.alice.peer("bob").unwrap()["endpoint"].to_string();
    assert!(
        near.contains(&scene.near.host.address().to_string()),
        "{near}"
    );

    scene.near.process.kill().unwrap();
    let took = scene.alice.first_echo(&scene.bob, 60 * SECOND).unwrap();
    println!("by the far one after {:.1} s", took.as_secs_f64());
    wait_until("the far one relays for both", 30 * SECOND, || {
        let endpoint = scene.alice.peer("bob")?["endpoint"].to_string();
        let is_far = endpoint.contains(&scene.far.host.address().to_string());
        Ok(is_far && scene.far.relays() == 2)
    })
    .unwrap();
    scene.wait_relayed();
}

#[test]
fn a_turn_server_with_no_room_for_the_user_is_told_of_and_another_one_relays() {
    let scene = Choice::new("turnquota", &["--user-quota=1"]);
    scene.alice.first_echo(&scene.bob, 10 * SECOND).unwrap();
    scene.wait_relayed();
    // Whoever came second went on to the other server.
    wait_until("each server relays for one", 10 * SECOND, || {
        Ok((scene.near.relays(), scene.far.relays()) == (1, 1))
    })
    .unwrap();
    let near = scene.near.host.address().to_string();
    let told = [&scene.alice, &scene.bob].map(|daemon| {
        let health = daemon.status().unwrap()["health"].clone();
        let problems = health.as_array().unwrap().clone();
        let refused = problems.iter().find(|it| it["code"] == "turn-refused");
        refused.map(ToString::to_string)
    });
    let ([Some(told), None] | [None, Some(told)]) = &told else {
        panic!("one of them was refused: {told:?}");
    };
    println!("{told}");
    assert!(told.contains(&near), "{told}");
    assert!(
        told.contains("as many relayed addresses as it may (486)"),
        "{told}"
    );
    assert!(told.contains("a user of its own"), "{told}");
    let report = scene.bob.host().ping(scene.alice.ip().unwrap(), 5);
    assert_eq!(report.unwrap().received(), 5);
}
