//! Who fills a discovery server that came back without its database, and where is a network not made again?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mesh_servers/scene.rs"]
mod scene;

use std::{fs, thread, time::Duration};

use netlab::{Daemon, Discovery, Host, Lab, Nat, binary};
use serde_json::{Value, json};

use crate::scene::{
    BACK, ECHO, is_connected, machine, up, url, wait_connected, wait_lost, wait_until,
};

fn server_host(lab: &Lab, name: &str) -> Host {
    lab.internet().public_host(name).unwrap()
}

/// It loses all that it had, and is away until it is started again.
fn empty(discovery: &Discovery) {
    discovery.process.kill().unwrap();
    fs::remove_dir_all(discovery.data_dir()).unwrap();
}

/// A request with the server's admin token: status and body.
fn as_admin(discovery: &Discovery, host: &Host, args: &[&str]) -> (u16, Value) {
    let token = fs::read_to_string(discovery.data_dir().join("admin-token")).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let form = ["-sS", "-w", "\n%{http_code}", "-H", &bearer];
    let output = host.run("curl", [&form[..], args].concat()).unwrap();
    let (body, code) = output.stdout.trim_end().rsplit_once('\n').unwrap();
    (
        code.parse().unwrap(),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

fn networks_of(discovery: &Discovery, host: &Host) -> Value {
    let at = format!("{}api/v1/mesh/networks", url(host));
    as_admin(discovery, host, &[&at]).1["networks"].clone()
}

/// What `daemon` knows of the member with this name.
fn known(daemon: &Daemon, name: &str) -> Value {
    let at = "http://127.0.0.1:7082/api/v1/mesh/networks/my-network/peers";
    let answer = daemon.host().run("curl", ["-sS", at]).unwrap();
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    let peers = answer["peers"].as_array().unwrap();
    let found = peers.iter().find(|peer| peer["name"] == name);
    found.unwrap().clone()
}

/// The problem of this code that the daemon shows, in JSON; empty if none.
fn problem(daemon: &Daemon, code: &str) -> String {
    let health = daemon.status().unwrap()["health"].clone();
    let mut problems = health.as_array().unwrap().iter();
    let found = problems.find(|problem| problem["code"] == code);
    found.map(Value::to_string).unwrap_or_default()
}

#[test]
fn an_emptied_server_is_filled_by_its_members_while_the_creator_is_off() {
    let lab = Lab::new("refill").unwrap();
    let one = server_host(&lab, "one");
    let mut server = Discovery::start(&one).unwrap();
    let alice = up(&machine(&lab, "a"), &["--server", &server.url()], "alice");
    let link = alice.join_link().unwrap();
    let [bob, carol, dave] = ["bob", "carol", "dave"]
        .map(|name| up(&machine(&lab, &name[..1]), &["--join", &link], name));
    bob.first_echo(&carol, ECHO).unwrap();
    wait_until("they know each other", ECHO, || dave.peer("bob").is_ok());
    alice.kill().unwrap();
    let before = known(&bob, "carol");

    empty(&server);
    wait_lost(&[&bob, &carol, &dave], &one);
    server = Discovery::start(&one).unwrap();
    wait_connected(&[&bob, &carol, &dave], &[&one]);
    // Dave has spoken with nobody yet.
    dave.first_echo(&carol, ECHO).unwrap();
    assert!(known(&bob, "alice").is_object(), "nobody is forgotten");
    let after = known(&bob, "carol");
    assert_eq!(after["virtual_ips"], before["virtual_ips"]);
    assert!(after["seq"].as_u64() >= before["seq"].as_u64());
    // Whoever comes new finds them, and the creator finds its network.
    let erin = up(&machine(&lab, "e"), &["--join", &link], "erin");
    erin.first_echo(&bob, ECHO).unwrap();
    let alice = Daemon::up(alice.host(), &[]).unwrap();
    alice.first_echo(&erin, ECHO).unwrap();
    let networks = networks_of(&server, &one);
    assert_eq!(networks.as_array().unwrap().len(), 1);
    assert_eq!(networks[0]["peer_count"], 5);
    assert_eq!(bob.status().unwrap()["health"], json!([]));
}

#[test]
fn of_several_that_find_a_server_empty_at_once_one_makes_the_network() {
    for trust in ["certificates", "psk"] {
        let lab = Lab::new("refillrace").unwrap();
        let one = server_host(&lab, "one");
        let server = Discovery::start(&one).unwrap();
        let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
        let a = home.host("a").unwrap();
        let file = a.dir().join("mesh.yaml");
        fs::write(&file, format!("mesh: {{trust: {trust}}}\n")).unwrap();
        let config = [
            "--config",
            file.to_str().unwrap(),
            "--server",
            &server.url(),
        ];
        let alice = up(&a, &config, "alice");
        let link = alice.join_link().unwrap();
        let others: Vec<Daemon> = ["b", "c", "d", "e", "f"]
            .iter()
            .map(|name| up(&home.host(name).unwrap(), &["--join", &link], name))
            .collect();
        let all: Vec<&Daemon> = others.iter().collect();
        let addresses: Vec<&str> = others.iter().map(|one| one.virtual_ip.as_str()).collect();
        alice.kill().unwrap();
        empty(&server);
        wait_lost(&all, &one);
        let server = Discovery::start(&one).unwrap();
        wait_connected(&all, &[&one]);
        let networks = networks_of(&server, &one);
        assert_eq!(networks.as_array().unwrap().len(), 1);
        assert_eq!(networks[0]["peer_count"], 5);
        for (daemon, address) in others.iter().zip(addresses) {
            let status = daemon.status().unwrap();
            assert_eq!(status["health"], json!([]));
            assert_eq!(known(daemon, &daemon.name)["virtual_ips"][0], address);
        }
        others[0].first_echo(&others[4], ECHO).unwrap();
    }
}

#[test]
fn an_empty_server_loses_nobody_and_any_member_fills_it() {
    let lab = Lab::new("empty").unwrap();
    let (one, two) = (server_host(&lab, "one"), server_host(&lab, "two"));
    let [first, second] = [&one, &two].map(|host| Discovery::start(host).unwrap());
    let alice = up(&machine(&lab, "a"), &["--server", &first.url()], "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    let carol = up(&machine(&lab, "c"), &["--join", &link], "carol");
    // A member makes the network on a further server.
    bob.ask(&["servers", "add", &second.url()]).unwrap();
    wait_connected(&[&bob], &[&one, &two]);
    bob.first_echo(&alice, ECHO).unwrap();
    alice.ask(&["servers", "add", &second.url()]).unwrap();
    wait_connected(&[&alice, &bob], &[&one, &two]);
    assert_eq!(bob.status().unwrap()["health"], json!([]));

    empty(&second);
    wait_lost(&[&alice, &bob], &two);
    let _second = Discovery::start(&two).unwrap();
    wait_connected(&[&alice, &bob], &[&one, &two]);
    // Carol does not use that server, and it does not list her.
    for (daemon, others) in [(&alice, ["bob", "carol"]), (&bob, ["alice", "carol"])] {
        for other in others {
            assert_eq!(daemon.peer(other).unwrap()["online"], true, "{other}");
        }
    }
    carol.first_echo(&bob, ECHO).unwrap();
}

#[test]
fn a_network_that_was_deleted_on_purpose_stays_so_and_its_members_say_it() {
    let lab = Lab::new("deleted").unwrap();
    let one = server_host(&lab, "one");
    let server = Discovery::start(&one).unwrap();
    let alice = up(&machine(&lab, "a"), &["--server", &server.url()], "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    bob.first_echo(&alice, ECHO).unwrap();
    let at = format!("{}api/v1/mesh/networks/my-network", url(&one));
    assert_eq!(as_admin(&server, &one, &["-X", "DELETE", &at]).0, 204);
    let says_so = |daemon: &Daemon| {
        wait_until("it says so", ECHO, || {
            let text = problem(daemon, "network-deleted");
            text.contains(&url(&one)) && text.contains("meshd servers")
        });
    };
    says_so(&alice);
    says_so(&bob);
    let text = bob.ask(&["status"]).unwrap();
    assert!(
        text.contains("was deleted on the discovery server"),
        "{text}"
    );
    // What stands goes on.
    bob.first_echo(&alice, Duration::from_secs(1)).unwrap();
    // Nor is it made again after a restart of one of them.
    alice.kill().unwrap();
    let alice = Daemon::up(alice.host(), &[]).unwrap();
    says_so(&alice);
    assert_eq!(networks_of(&server, &one), json!([]));
    // They ask less and less often.
    thread::sleep(Duration::from_secs(16));
    let status = bob.status().unwrap();
    assert!(
        status["server"]["retry_in_s"].as_u64() >= Some(15),
        "{status}"
    );
    assert_eq!(networks_of(&server, &one), json!([]));

    let forget = format!("{at}?remember=false");
    assert_eq!(as_admin(&server, &one, &["-X", "DELETE", &forget]).0, 204);
    bob.kill().unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    wait_connected(&[&bob], &[&one]);
    assert_eq!(problem(&bob, "network-deleted"), "");
}

#[test]
fn a_stranger_who_takes_the_name_at_an_empty_server_parts_nobody_and_is_named() {
    let lab = Lab::new("squat").unwrap();
    let (one, two) = (server_host(&lab, "one"), server_host(&lab, "two"));
    let [first, second] = [&one, &two].map(|host| Discovery::start(host).unwrap());
    let both = ["--server", &first.url(), "--server", &second.url()];
    let alice = up(&machine(&lab, "a"), &both, "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    wait_connected(&[&alice, &bob], &[&one, &two]);

    empty(&second);
    // He is there before any member.
    let alone = Discovery::start_with(&two, &["--listen", "127.0.0.1:7080"]).unwrap();
    let body = json!({
        "id": "my-network",
        "cidr": "10.100.0.0/16",
        "network_key": "a".repeat(52),
        "admission_token": "s".repeat(40),
    });
    let local = "http://127.0.0.1:7080/api/v1/mesh/networks";
    let json = ["-H", "Content-Type: application/json", "-d"];
    let (status, _) = as_admin(
        &alone,
        &two,
        &[&json[..], &[&body.to_string(), local]].concat(),
    );
    assert_eq!(status, 201);
    alone.process.kill().unwrap();
    let second = Discovery::start(&two).unwrap();
    for daemon in [&alice, &bob] {
        wait_until("it names the stranger's network", BACK, || {
            problem(daemon, "network-key-differs").contains(&url(&two))
        });
        assert!(is_connected(daemon, &one));
    }
    bob.kill().unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    bob.first_echo(&alice, ECHO).unwrap();
    // The administrator puts it right, and theirs is made again though the name was deleted.
    let at = format!("{}api/v1/mesh/networks/my-network", url(&two));
    assert_eq!(as_admin(&second, &two, &["-X", "DELETE", &at]).0, 204);
    bob.kill().unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    wait_connected(&[&bob], &[&one, &two]);
    assert_eq!(problem(&bob, "network-key-differs"), "");
}

#[test]
fn a_backup_from_before_a_join_and_a_change_is_made_good_by_running_members() {
    let lab = Lab::new("oldbackup").unwrap();
    let one = server_host(&lab, "one");
    let server = Discovery::start(&one).unwrap();
    let alice = up(&machine(&lab, "a"), &["--server", &server.url()], "alice");
    let link = alice.join_link().unwrap();
    let bob = up(&machine(&lab, "b"), &["--join", &link], "bob");
    bob.first_echo(&alice, ECHO).unwrap();
    let (data, copy) = (server.data_dir(), one.dir().join("old.sqlite"));
    let (data, copy) = (data.to_str().unwrap(), copy.to_str().unwrap());
    let program = binary("discovery-server").unwrap();
    one.run(&program, ["backup", "--data-dir", data, "--to", copy])
        .unwrap();

    // Somebody comes, and bob signs a newer record.
    let before = known(&alice, "bob")["seq"].as_u64();
    let carol = up(&machine(&lab, "c"), &["--join", &link], "carol");
    bob.kill().unwrap();
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    wait_until("bob's record is newer", ECHO, || {
        known(&alice, "bob")["seq"].as_u64() > before
    });
    carol.first_echo(&bob, ECHO).unwrap();
    let all = [&alice, &bob, &carol];
    let names = ["alice", "bob", "carol"];
    let seqs = || names.map(|name| known(&alice, name)["seq"].as_u64().unwrap());
    let addresses = || names.map(|name| known(&alice, name)["virtual_ips"].clone());
    let (seqs_before, addresses_before) = (seqs(), addresses());

    server.process.kill().unwrap();
    wait_lost(&all, &one);
    one.run(&program, ["restore", "--data-dir", data, "--from", copy])
        .unwrap();
    let server = server.restart().unwrap();
    wait_connected(&all, &[&one]);
    // The server has them all again, as they are now.
    wait_until("it lists all", BACK, || {
        networks_of(&server, &one)[0]["peer_count"] == 3
    });
    for daemon in all {
        for name in names {
            let now = known(daemon, name);
            let at = names.iter().position(|it| *it == name).unwrap();
            assert!(now["seq"].as_u64().unwrap() >= seqs_before[at], "{now}");
            assert_eq!(now["virtual_ips"], addresses_before[at], "{name}");
        }
        assert_eq!(daemon.status().unwrap()["health"], json!([]));
    }
    let at = format!("{}api/v1/mesh/networks/my-network/peers", url(&one));
    let listed = as_admin(&server, &one, &[&at]).1;
    for (name, seq) in names.iter().zip(seqs_before) {
        let peers = listed["peers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["name"] == *name).unwrap();
        assert!(peer["seq"].as_u64().unwrap() >= seq, "{peer}");
    }
    for (one, other) in [(&alice, &bob), (&bob, &carol), (&carol, &alice)] {
        one.first_echo(other, ECHO).unwrap();
    }
}
