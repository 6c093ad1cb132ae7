//! Are two discovery servers on one PostgreSQL database as good as one, and is one of them enough?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, thread, time::Duration};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Postgres, wait_until};

/// News go round in milliseconds; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(10);

struct Scene {
    server: Host,
    replicas: [Discovery; 2],
    postgres: Postgres,
    lab: Lab,
}

impl Scene {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let postgres = Postgres::start(&server).unwrap();
        let replica =
            |number| Discovery::start_replica(&server, number, postgres.database()).unwrap();
        Self {
            replicas: [replica(0), replica(1)],
            server,
            postgres,
            lab,
        }
    }

    /// A machine behind a router of its own whose daemon is started with these words.
    fn daemon(&self, name: &str, how: [&str; 2]) -> Daemon {
        let home = self
            .lab
            .internet()
            .home(&format!("h{name}"), Nat::PortRestricted);
        let host = home.unwrap().host(name).unwrap();
        Daemon::up(&host, &[&how[..], &["--name", name]].concat()).unwrap()
    }

    /// A link to the other server than the one that `link` names.
    fn other_way(&self, link: &str) -> String {
        let [first, second] = self.replicas.each_ref().map(Discovery::url);
        assert!(link.contains(&first), "{link}");
        link.replace(&first, &second)
    }

    /// What PostgreSQL answers to this.
    fn sql(&self, text: &str) -> String {
        let psql = ["-Atc", text, self.postgres.database()];
        let output = self.server.run("psql", psql).unwrap();
        assert!(output.status.success(), "{}", output.stderr);
        output.stdout.trim().to_owned()
    }

    /// Members of the network as a server lists them.
    fn members(&self, replica: usize) -> u64 {
        let text = self
            .server
            .sh(&format!(
                "curl -sf {}/metrics",
                self.replicas[replica].url()
            ))
            .unwrap()
            .stdout;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("discovery_peers "));
        line.unwrap().parse().unwrap()
    }
}

fn sees(daemon: &Daemon, peer: &str, online: bool) {
    wait_until(
        &format!("{} sees {peer} {online}", daemon.name),
        Duration::from_secs(30),
        || {
            let status = daemon.status()?;
            let peers = status["peers"].as_array().unwrap();
            Ok(peers
                .iter()
                .any(|known| known["name"] == peer && known["online"] == online))
        },
    )
    .unwrap();
}

#[test]
fn members_at_two_servers_of_one_database_meet() {
    let scene = Scene::new("replicas-meet");
    let ann = scene.daemon("ann", ["--server", &scene.replicas[0].url()]);
    let link = ann.join_link().unwrap();
    let bob = scene.daemon("bob", ["--join", &scene.other_way(&link)]);
    let at = bob.status().unwrap()["server"]["url"].to_string();
    assert!(at.contains(&scene.replicas[1].url()), "{at}");
    // Their letters cross from one server to the other.
    ann.first_echo(&bob, SOON).unwrap();
    sees(&ann, "bob", true);
    sees(&bob, "ann", true);

    // Gone in good order, and without a word.
    bob.ask(&["down"]).unwrap();
    bob.process.wait(SOON).unwrap();
    sees(&ann, "bob", false);
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    sees(&ann, "bob", true);
    bob.first_echo(&ann, SOON).unwrap();

    // What one server takes, the other tells.
    ann.ask(&["revoke", "bob"]).unwrap();
    wait_until("bob is out", SOON, || {
        let status = ann.status()?;
        Ok(status["peers"].as_array().unwrap().is_empty())
    })
    .unwrap();
    assert_eq!((scene.members(0), scene.members(1)), (1, 1));
    // Nothing says any more that he is connected anywhere.
    assert_eq!(scene.sql("SELECT count(*) FROM presence"), "1");
}

#[test]
fn either_of_two_servers_may_be_killed_while_joins_and_events_go_on() {
    let mut scene = Scene::new("replicas-die");
    let ann = scene.daemon("ann", ["--server", &scene.replicas[0].url()]);
    let link = ann.join_link().unwrap();
    let links = [link.clone(), scene.other_way(&link)];
    let bob = scene.daemon("bob", ["--join", &links[1]]);
    ann.first_echo(&bob, SOON).unwrap();
    let watching = [&ann, &bob];

    for round in 0..4_usize {
        let (dead, alive) = (round % 2, 1 - round % 2);
        scene.replicas[dead].process.kill().unwrap();
        // REST, a join and its event, and the first path of the new member, at the one that is left.
        let name = format!("net{round}");
        let body = format!(
            "{{\"id\":\"{name}\",\"cidr\":\"10.9.0.0/16\",\"admission_token\":\"{}\"}}",
            "t".repeat(40)
        );
        let url = scene.replicas[alive].url();
        let create = format!(
            "curl -sf -H 'content-type: application/json' -d '{body}' {url}/api/v1/mesh/networks"
        );
        scene.server.sh(&create).unwrap();
        let newcomer = scene.daemon(&format!("new{round}"), ["--join", &links[alive]]);
        sees(watching[alive], &newcomer.name, true);
        newcomer.first_echo(watching[alive], SOON).unwrap();

        // The one that comes back tells its clients what they missed.
        scene.replicas[dead] = scene.replicas[dead].restart().unwrap();
        sees(watching[dead], &newcomer.name, true);
        newcomer.first_echo(watching[dead], SOON).unwrap();
    }
    assert_eq!((scene.members(0), scene.members(1)), (6, 6));
    sees(&ann, "bob", true);
    sees(&bob, "ann", true);
}

#[test]
fn whoever_was_connected_to_a_server_that_died_is_offline_for_the_others() {
    let scene = Scene::new("replicas-lease");
    let ann = scene.daemon("ann", ["--server", &scene.replicas[0].url()]);
    let link = scene.other_way(&ann.join_link().unwrap());
    let bob = scene.daemon("bob", ["--join", &link]);
    sees(&ann, "bob", true);
    // Both at one blow: the server cannot say that bob is gone, nor can he.
    scene.replicas[1].process.kill().unwrap();
    bob.kill().unwrap();
    sees(&ann, "bob", false);
}

#[test]
fn a_network_of_thousands_is_deleted_by_a_few_statements() {
    let scene = Scene::new("replicas-delete");
    let url = scene.replicas[0].url();
    let body = format!(
        "{{\"id\":\"large\",\"cidr\":\"10.9.0.0/16\",\"admission_token\":\"{}\"}}",
        "t".repeat(40)
    );
    let networks = format!("{url}/api/v1/mesh/networks");
    let create = format!("curl -sf -H 'content-type: application/json' -d '{body}' {networks}");
    scene.server.sh(&create).unwrap();
    // Members that are never there. A node id is 51 digits of base32 and one that is half a digit.
    scene.sql(
        "INSERT INTO peers (network, node_id, record, name, virtual_ip, last_seen, wireguard_key) \
         SELECT 'large', lpad(translate(to_hex(n), '0123456789abcdef', 'abcdefghijklmnop'), 51, 'a') || 'a', \
         '{}', 'm' || n, n, 0, 'k' || n FROM generate_series(1, 3000) AS n",
    );
    let looks = || -> u64 {
        let query = "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0) FROM pg_stat_user_tables \
                     WHERE relname = 'presence'";
        scene.sql(query).parse().unwrap()
    };
    let before = looks();
    let token = fs::read_to_string(scene.replicas[0].data_dir().join("admin-token")).unwrap();
    let token = token.trim();
    let delete = format!("curl -sf -X DELETE -H 'authorization: Bearer {token}' {networks}/large");
    assert!(scene.server.sh(&delete).unwrap().status.success());
    let told = "SELECT count(*) FROM news WHERE network = 'large' AND change LIKE '%left%'";
    assert_eq!(scene.sql(told), "3000");
    // A session tells what it did within a second.
    thread::sleep(Duration::from_secs(3));
    let looked = looks() - before;
    assert!(looked < 100, "looked at who is there {looked} times");
    // The other server has understood all of it, and both are at work.
    let log = scene.replicas[1].process.log();
    assert!(!log.contains("will try again"), "{log}");
    assert_eq!(scene.sql("SELECT count(*) FROM replicas"), "2");
}

#[test]
fn a_lease_that_was_renewed_after_a_wait_holds_as_long_as_any() {
    let scene = Scene::new("replicas-wait");
    // Renewed every five seconds: each server waits for three at least.
    scene.sql("BEGIN; LOCK TABLE server IN EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT");
    thread::sleep(Duration::from_millis(500));
    let left = "SELECT min(extract(epoch FROM alive_until - clock_timestamp())) FROM replicas";
    let left: f64 = scene.sql(left).parse().unwrap();
    assert!(left > 13.5, "{left} s of 15");
}
