//! What can the operator of a discovery server do to its members? It holds the database: here it is rewritten under them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{Daemon, Discovery, Host, Lab, Nat};
use serde_json::Value;

/// A server, and three machines of which the first knows the others and is the only one left.
struct Scene {
    _lab: Lab,
    server: Host,
    discovery: Discovery,
    alice: Daemon,
    others: [(Host, Daemon); 2],
}

impl Scene {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| home.host(name).unwrap());
        let discovery = Discovery::start(&server).unwrap();
        let create = ["--server", &discovery.url(), "--name", "alice"];
        let alice = Daemon::up(&a, &create).unwrap();
        let link = alice.join_link().unwrap();
        let join = |host: Host, name| {
            let daemon = Daemon::up(&host, &["--join", &link, "--name", name]).unwrap();
            alice.first_echo(&daemon, Duration::from_secs(5)).unwrap();
            (host, daemon)
        };
        let others = [join(b, "bob"), join(c, "carol")];
        // Until the creator has written both a certificate of its own, they register once more.
        wait_until("all is quiet", Duration::from_secs(5), || {
            let members = members(alice.host());
            members.len() == 3
                && members.iter().all(|member| {
                    member["certificate"]
                        .as_str()
                        .is_some_and(|text| text.len() < 300)
                })
        });
        for (_, daemon) in &others {
            daemon.kill().unwrap();
        }
        Self {
            _lab: lab,
            server,
            discovery,
            alice,
            others,
        }
    }

    /// Kills the server, runs SQL over its database, and starts it again. Returns when alice has heard the new list.
    fn rewrite(&mut self, sql: &str) {
        self.discovery.process.kill().unwrap();
        let database = self.discovery.data_dir().join("discovery.sqlite");
        let database = database.display().to_string();
        let output = self.server.run("sqlite3", [&database, sql]).unwrap();
        assert!(output.status.success(), "{}", output.stderr);
        self.discovery = self.discovery.restart().unwrap();
        wait_until("alice is back", Duration::from_secs(15), || {
            self.alice.status().unwrap()["server"]["connected"] == true
        });
    }

    /// The lie has reached her.
    fn alice_has_refused(&self) {
        let log = self.alice.process.log();
        assert!(
            log.contains("refused members that the server lists"),
            "{log}"
        );
    }

    /// The others start again, and all is as it was.
    fn recovers(self) {
        for (host, _) in self.others {
            let daemon = Daemon::up(&host, &[]).unwrap();
            daemon
                .first_echo(&self.alice, Duration::from_secs(5))
                .unwrap();
        }
    }
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// The members as the daemon of this host believes them to be.
fn members(host: &Host) -> Vec<Value> {
    let url = "http://127.0.0.1:7082/api/v1/mesh/networks/my-network/peers";
    let answer = host.run("curl", ["-sS", "-f", url]).unwrap().stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["peers"].as_array().unwrap().clone()
}

fn member(host: &Host, name: &str) -> Value {
    let found = members(host)
        .into_iter()
        .find(|member| member["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is gone"))
}

/// What a server may say of a member without proof.
fn without_presence(mut member: Value) -> Value {
    let fields = member.as_object_mut().unwrap();
    fields.remove("online");
    fields.remove("last_seen");
    member
}

#[test]
fn a_server_that_swaps_keys_addresses_and_names_is_not_believed() {
    let mut scene = Scene::new("swap");
    let host = scene.alice.host().clone();
    let before = ["bob", "carol"].map(|name| without_presence(member(&host, name)));
    scene.rewrite(
        "UPDATE peers SET record = json_set(record, '$.wireguard_key', 'BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=') \
           WHERE name = 'bob'; \
         UPDATE peers SET virtual_ip = virtual_ip + 7, name = 'bank' WHERE name = 'carol';",
    );
    let after = ["bob", "carol"].map(|name| without_presence(member(&host, name)));
    assert_eq!(after, before);
    assert_eq!(members(&host).len(), 3, "nobody is called bank");
    scene.alice_has_refused();
    scene.recovers();
}

#[test]
fn a_server_that_makes_up_a_member_or_gives_it_anothers_certificate_is_not_believed() {
    let mut scene = Scene::new("madeup");
    let host = scene.alice.host().clone();
    scene.rewrite(
        "INSERT INTO peers SELECT network, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', \
           json_set(record, '$.node_id', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '$.wireguard_key', \
           'BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc='), 'mallory', virtual_ip + 9, last_seen, 'other' FROM peers \
           WHERE name = 'bob';",
    );
    let names: Vec<Value> = members(&host)
        .into_iter()
        .map(|member| member["name"].clone())
        .collect();
    assert_eq!(names, ["alice", "bob", "carol"]);
    scene.alice_has_refused();
    scene.recovers();
}

#[test]
fn a_server_that_comes_back_from_an_old_backup_takes_nothing_back() {
    let mut scene = Scene::new("backup");
    let host = scene.alice.host().clone();
    let b = scene.others[0].0.clone();
    let old = member(&host, "bob");
    scene.rewrite("CREATE TABLE backup AS SELECT * FROM peers;");
    let bob = Daemon::up(&b, &[]).unwrap();
    wait_until(
        "bob has signed another record",
        Duration::from_secs(5),
        || member(&host, "bob")["seq"].as_u64() > old["seq"].as_u64(),
    );
    bob.kill().unwrap();
    let newer = without_presence(member(&host, "bob"));
    scene.rewrite("DELETE FROM peers; INSERT INTO peers SELECT * FROM backup;");
    assert_eq!(without_presence(member(&host, "bob")), newer);
    scene.rewrite("DELETE FROM peers;");
    assert_eq!(members(&host).len(), 3, "an empty list empties none");
    scene.recovers();
}

#[test]
fn a_server_cannot_bring_a_revoked_member_back() {
    let mut scene = Scene::new("undead");
    let host = scene.alice.host().clone();
    scene.rewrite("CREATE TABLE backup AS SELECT * FROM peers;");
    scene.alice.ask(&["revoke", "bob"]).unwrap();
    wait_until("it is out", Duration::from_secs(3), || {
        members(&host).len() == 2
    });
    scene.rewrite(
        "DELETE FROM revocations; DELETE FROM peers; INSERT INTO peers SELECT * FROM backup;",
    );
    assert_eq!(members(&host).len(), 2);
    // Alice has told the server again: bob is not let in, and carol hears of it.
    let [(b, _), (c, _)] = &scene.others;
    let carol = Daemon::up(c, &[]).unwrap();
    carol
        .first_echo(&scene.alice, Duration::from_secs(5))
        .unwrap();
    let bob = Daemon::launch(b, &[]).unwrap();
    wait_until("bob is told", Duration::from_secs(10), || {
        bob.cli(&["status"])
            .is_ok_and(|output| output.stdout.contains("revoked"))
    });
    assert_eq!(members(c).len(), 2);
}

#[test]
fn a_server_that_takes_no_revocation_keeps_nobody_offline() {
    let mut scene = Scene::new("full");
    let host = scene.alice.host().clone();
    scene.alice.ask(&["revoke", "bob"]).unwrap();
    wait_until("it is out", Duration::from_secs(3), || {
        members(&host).len() == 2
    });
    scene.rewrite(
        "DELETE FROM revocations; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
         INSERT INTO revocations SELECT 'my-network', i, 'AA==' FROM n;",
    );
    wait_until("she has heard no", Duration::from_secs(5), || {
        scene
            .alice
            .process
            .log()
            .contains("the server does not take a revocation")
    });
    assert_eq!(scene.alice.status().unwrap()["server"]["connected"], true);
    let (c, _) = &scene.others[1];
    let carol = Daemon::up(c, &[]).unwrap();
    carol
        .first_echo(&scene.alice, Duration::from_secs(5))
        .unwrap();
}

#[test]
fn who_has_the_address_of_a_member_that_the_server_lost_is_refused_in_the_open_until_that_one_is_out()
 {
    let lab = Lab::new("lost").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| home.host(name).unwrap());
    let mut discovery = Discovery::start(&server).unwrap();
    // With room for two, so that the third has no choice.
    let url = discovery.url();
    let create = [
        "--server",
        &url,
        "--name",
        "alice",
        "--cidr",
        "10.77.0.0/30",
    ];
    let alice = Daemon::up(&a, &create).unwrap();
    let link = alice.join_link().unwrap();
    let bob = Daemon::up(&b, &["--join", &link, "--name", "bob"]).unwrap();
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    bob.kill().unwrap();
    discovery.process.kill().unwrap();
    let database = discovery.data_dir().join("discovery.sqlite");
    let database = database.display().to_string();
    let forget = "DELETE FROM peers WHERE name = 'bob';";
    let output = server.run("sqlite3", [database.as_str(), forget]).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    discovery = discovery.restart().unwrap();
    let carol = Daemon::up(&c, &["--join", &link, "--name", "carol"]).unwrap();
    assert_eq!(carol.virtual_ip, "10.77.0.2");
    let refused = || {
        let health = alice.status().unwrap()["health"].clone();
        let mut problems = health.as_array().unwrap().clone().into_iter();
        problems.find(|problem| problem["code"] == "member-refused")
    };
    wait_until("alice says so", Duration::from_secs(15), || {
        refused().is_some_and(|problem| {
            let text = problem.to_string();
            text.contains("carol is listed") && text.contains("meshd revoke bob")
        })
    });
    alice.ask(&["revoke", "bob"]).unwrap();
    wait_until("alice takes her in", Duration::from_secs(15), || {
        refused().is_none() && alice.peer("carol").is_ok()
    });
    alice.first_echo(&carol, Duration::from_secs(10)).unwrap();
    drop(discovery);
}
