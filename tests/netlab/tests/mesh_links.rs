//! Does a join link for one machine let in one, where two discovery servers that know nothing of each other both take it?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use mesh_wire::trust::{Certificate, Issuer};
use netlab::{Daemon, Discovery, Host, Lab, Nat};
use serde_json::Value;

/// What an echo between two who never spoke may take.
const ECHO: Duration = Duration::from_secs(10);
/// After which a daemon that judged by what it hears of first would have.
const QUIET: Duration = Duration::from_secs(10);
/// A server that refused is asked again after some time.
const BACK: Duration = Duration::from_secs(90);
/// What the link's maker may take until it has spoken, and all have heard it.
const JUDGED: Duration = Duration::from_secs(30);

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

struct Scene {
    lab: Lab,
    servers: [Discovery; 2],
    alice: Daemon,
    /// Uses both servers.
    carol: Daemon,
    /// A link for one machine.
    link: String,
}

impl Scene {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let servers = ["one", "two"].map(|name| {
            let host = lab.internet().public_host(name).unwrap();
            Discovery::start(&host).unwrap()
        });
        let [one, two] = servers.each_ref().map(Discovery::url);
        let create = ["--server", &one, "--server", &two, "--name", "alice"];
        let alice = Daemon::up(&machine(&lab, "a"), &create).unwrap();
        let any = alice.join_link().unwrap();
        let join = ["--join", &any, "--name", "carol"];
        let carol = Daemon::up(&machine(&lab, "c"), &join).unwrap();
        wait_until("both use both", ECHO, || {
            [&alice, &carol].iter().all(|daemon| {
                let status = daemon.status().unwrap();
                let mut servers = status["servers"].as_array().unwrap().iter();
                servers.all(|server| server["connected"] == true)
            })
        });
        alice.first_echo(&carol, ECHO).unwrap();
        let link = alice.ask(&["invite", "--uses", "1"]).unwrap();
        Self {
            link: link.trim().to_owned(),
            lab,
            servers,
            alice,
            carol,
        }
    }

    /// Joins by the link at one of the servers, as somebody does who cannot reach the other one.
    fn join_at(&self, server: usize, name: &str) -> Daemon {
        let (address, fragment) = self.link.split_once('#').unwrap();
        let (_, query) = address.split_once('?').unwrap();
        let key = query.split('&').find(|part| part.starts_with("key="));
        let link = format!(
            "{}/join/my-network?{}#{fragment}",
            self.servers[server].url(),
            key.unwrap()
        );
        let host = machine(&self.lab, &name[..1]);
        Daemon::up(&host, &["--join", &link, "--name", name]).unwrap()
    }
}

fn machine(lab: &Lab, name: &str) -> Host {
    let home = lab
        .internet()
        .home(&format!("h{name}"), Nat::PortRestricted);
    home.unwrap().host(name).unwrap()
}

fn names(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status().unwrap();
    let peers = status["peers"].as_array().unwrap();
    let name = |peer: &Value| peer["name"].as_str().unwrap().to_owned();
    peers.iter().map(name).collect()
}

fn says(daemon: &Daemon, code: &str, what: &[&str]) -> bool {
    let health = daemon.status().unwrap()["health"].clone();
    let problems = health.as_array().unwrap();
    problems.iter().any(|problem| {
        let text = problem.to_string();
        problem["code"] == code && what.iter().all(|word| text.contains(word))
    })
}

/// The node id that a daemon shows of itself.
fn id(daemon: &Daemon) -> String {
    let status = daemon.status().unwrap();
    status["node_id"].as_str().unwrap().to_owned()
}

/// Whether `daemon` knows the member with a certificate that does not rest on a link.
fn is_vouched_for(daemon: &Daemon, name: &str) -> bool {
    let at = "http://127.0.0.1:7082/api/v1/mesh/networks/my-network/peers";
    let answer = daemon.host().run("curl", ["-sS", at]).unwrap();
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let mut peers = answer["peers"].as_array().unwrap().iter();
    let found = peers.find(|peer| peer["name"] == name);
    found.is_some_and(|peer| {
        let certificate = Certificate::from_text(peer["certificate"].as_str().unwrap()).unwrap();
        !matches!(certificate.issuer, Issuer::Invite(_))
    })
}

/// It says that it is no member any more, and why.
fn knows_that_it_is_out(daemon: &Daemon) {
    wait_until("it knows that it is out", JUDGED, || {
        daemon.ask(&["status"]).unwrap().contains("revoked")
    });
}

#[test]
fn a_link_for_one_machine_that_is_used_at_two_servers_lets_one_in() {
    let scene = Scene::new("twoservers");
    let (alice, carol) = (&scene.alice, &scene.carol);
    let bob = scene.join_at(0, "bob");
    wait_until("both know bob", ECHO, || {
        [alice, carol]
            .iter()
            .all(|daemon| daemon.peer("bob").is_ok())
    });
    // The other server takes it: it knows nothing of bob.
    let mallory = scene.join_at(1, "mallory");
    wait_until("alice has put her out", JUDGED, || {
        says(alice, "link-overused", &["mallory", "bob", "1 machine"])
    });
    knows_that_it_is_out(&mallory);
    assert!(alice.process.log().contains("was put out"));
    assert_eq!(names(alice), ["bob", "carol"]);
    assert_eq!(names(carol), ["alice", "bob"]);
    alice.first_echo(&bob, ECHO).unwrap();
    carol.first_echo(&bob, ECHO).unwrap();
    // She stays out, also when both start again.
    alice.kill().unwrap();
    mallory.kill().unwrap();
    let alice = Daemon::up(alice.host(), &[]).unwrap();
    let mallory = Daemon::launch(mallory.host(), &[]).unwrap();
    wait_until("she is told again", JUDGED, || {
        mallory
            .cli(&["status"])
            .is_ok_and(|output| output.stdout.contains("revoked"))
    });
    assert_eq!(names(&alice), ["bob", "carol"]);
    assert!(says(&alice, "link-overused", &["mallory"]));
}

#[test]
fn while_the_links_maker_is_off_others_keep_whom_they_heard_first_and_then_its_user_decides() {
    let scene = Scene::new("judgeoff");
    scene.alice.kill().unwrap();
    let carol = &scene.carol;
    let bob = scene.join_at(0, "bob");
    wait_until("carol knows bob", ECHO, || carol.peer("bob").is_ok());
    let mallory = scene.join_at(1, "mallory");
    wait_until("carol refuses mallory and says so", ECHO, || {
        says(carol, "member-refused", &["mallory", "bob", "1 machine"])
    });
    assert_eq!(names(carol), ["alice", "bob"]);
    carol.first_echo(&bob, ECHO).unwrap();
    // Which of the two alice hears of first is chance, and she knows that.
    let mut alice = Daemon::up(scene.alice.host(), &[]).unwrap();
    for start in 0..2 {
        if start > 0 {
            alice.kill().unwrap();
            alice = Daemon::up(scene.alice.host(), &[]).unwrap();
        }
        let ids = [id(&bob), id(&mallory)];
        let asked = ["bob", "mallory", &ids[0], &ids[1]];
        wait_until("alice asks", JUDGED, || {
            says(&alice, "link-contested", &asked)
        });
    }
    // She has met both by now, were she to judge by what she hears of first.
    std::thread::sleep(QUIET);
    for daemon in [&bob, &mallory] {
        assert!(!daemon.ask(&["status"]).unwrap().contains("revoked"));
        assert!(!is_vouched_for(carol, &daemon.name));
    }
    assert_eq!(names(carol), ["alice", "bob"]);
    alice.ask(&["revoke", &id(&mallory)]).unwrap();
    knows_that_it_is_out(&mallory);
    wait_until("all have bob, and nobody is asked any more", JUDGED, || {
        !says(&alice, "link-contested", &[])
            && names(&alice) == ["bob", "carol"]
            && names(carol) == ["alice", "bob"]
    });
    wait_until("alice vouches for bob", JUDGED, || {
        is_vouched_for(carol, "bob")
    });
    alice.first_echo(&bob, ECHO).unwrap();
    carol.first_echo(&bob, ECHO).unwrap();
}

/// The thief's advantages: it came first where the others hear of it, and alice may have heard of it first.
#[test]
fn who_was_refused_while_the_links_maker_was_off_is_let_in_when_its_user_puts_out_the_other() {
    let scene = Scene::new("judgethief");
    scene.alice.kill().unwrap();
    let carol = &scene.carol;
    let mallory = scene.join_at(0, "mallory");
    wait_until("carol knows her", ECHO, || carol.peer("mallory").is_ok());
    let bob = scene.join_at(1, "bob");
    let alice = Daemon::up(scene.alice.host(), &[]).unwrap();
    wait_until("alice asks", JUDGED, || {
        says(&alice, "link-contested", &["bob", "mallory"])
    });
    assert_eq!(names(carol), ["alice", "mallory"]);
    alice.ask(&["revoke", &id(&mallory)]).unwrap();
    knows_that_it_is_out(&mallory);
    wait_until("all have bob", JUDGED, || {
        names(&alice) == ["bob", "carol"] && names(carol) == ["alice", "bob"]
    });
    alice.first_echo(&bob, ECHO).unwrap();
    carol.first_echo(&bob, ECHO).unwrap();
    // The link, which mallory has still, lets in nobody else.
    mallory.kill().unwrap();
    wait_until("the link is ended", JUDGED, || {
        says(&alice, "link-overused", &["put out"])
    });
}

#[test]
fn who_was_put_out_with_its_link_comes_back_by_a_new_one_with_its_state() {
    let scene = Scene::new("judgeback");
    let alice = &scene.alice;
    let bob = scene.join_at(0, "bob");
    wait_until("alice vouches for bob", ECHO, || {
        is_vouched_for(alice, "bob")
    });
    let late = scene.join_at(1, "late");
    knows_that_it_is_out(&late);
    wait_until("it is told how to come back", ECHO, || {
        says(&late, "put-out", &["meshd up --join"])
    });
    let node = id(&late);
    late.kill().unwrap();
    let link = alice.ask(&["invite", "--uses", "1"]).unwrap();
    let join = ["--join", link.trim(), "--name", "late"];
    let late = Daemon::up(late.host(), &join).unwrap();
    assert_eq!(id(&late), node);
    wait_until("both are in", JUDGED, || {
        names(alice) == ["bob", "carol", "late"]
    });
    alice.first_echo(&late, ECHO).unwrap();
    late.first_echo(&bob, ECHO).unwrap();
    assert!(!says(&late, "put-out", &[]));
}

#[test]
fn a_thief_at_an_emptied_server_uses_up_the_link_there_only_until_it_is_put_out() {
    let lab = Lab::new("emptiedlink").unwrap();
    let one = lab.internet().public_host("one").unwrap();
    let server = Discovery::start(&one).unwrap();
    let create = ["--server", &server.url(), "--name", "alice"];
    let alice = Daemon::up(&machine(&lab, "a"), &create).unwrap();
    let link = alice.ask(&["invite", "--uses", "1"]).unwrap();
    // Bob rests on the link: alice was never on with him.
    alice.kill().unwrap();
    let join = ["--join", link.trim(), "--name"];
    let bob = Daemon::up(&machine(&lab, "b"), &[&join[..], &["bob"]].concat()).unwrap();
    bob.kill().unwrap();
    let alice = Daemon::up(alice.host(), &[]).unwrap();
    wait_until("alice has heard of bob", ECHO, || names(&alice) == ["bob"]);
    let is_connected = || alice.status().unwrap()["server"]["connected"] == true;
    server.process.kill().unwrap();
    wait_until("alice has lost it", JUDGED, || !is_connected());
    std::fs::remove_dir_all(server.data_dir()).unwrap();
    let _server = Discovery::start(&one).unwrap();
    wait_until("alice has filled it", JUDGED, is_connected);
    let join = [&join[..], &["mallory"]].concat();
    let mallory = Daemon::up(&machine(&lab, "m"), &join).unwrap();
    wait_until("alice names her, and the command", JUDGED, || {
        let command = format!("meshd revoke {}", id(&mallory));
        says(&alice, "link-overused", &["mallory", "bob", &command])
    });
    let mut bob = Daemon::launch(bob.host(), &[]).unwrap();
    wait_until("bob finds the link used up", JUDGED, || {
        bob.cli(&["status"])
            .is_ok_and(|output| output.stdout.contains("as many machines as it may"))
    });
    alice.ask(&["revoke", &id(&mallory)]).unwrap();
    knows_that_it_is_out(&mallory);
    wait_until("alice vouches for bob", BACK, || {
        is_vouched_for(&alice, "bob")
    });
    bob.wait_ready().unwrap();
    alice.first_echo(&bob, ECHO).unwrap();
    assert_eq!(names(&alice), ["bob"]);
    wait_until("alice has ended the link", JUDGED, || {
        says(&alice, "link-overused", &["put out"])
    });
}
