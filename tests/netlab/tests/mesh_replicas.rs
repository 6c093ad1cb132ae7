//! Are two discovery servers on one PostgreSQL database as good as one, and is one of them enough?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Postgres, wait_until};

/// News go round in milliseconds; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(10);

const NETWORKS: &str = "/api/v1/mesh/networks";

/// A server that died is given up by then.
const LEASE: Duration = Duration::from_secs(30);

/// A server that is cut off has told so by then.
const AWAY: Duration = Duration::from_secs(15);

struct Scene {
    server: Host,
    replicas: [Discovery; 2],
    postgres: Postgres,
    lab: Lab,
}

/// Where the second server finds PostgreSQL if that way can be cut.
const WAY: &str = "127.0.0.9";

/// What of it gets lost.
#[derive(Debug, Clone, Copy)]
enum Lost {
    Everything,
    Questions,
    Answers,
}

impl Scene {
    /// How many members are connected, by the database.
    fn present(&self) -> String {
        self.sql("SELECT count(DISTINCT node_id) FROM presence")
    }

    fn new(name: &str) -> Self {
        Self::with_database(name, str::to_owned)
    }

    /// As [`Self::new`], with a way from the second server to PostgreSQL that can be cut.
    fn with_way(name: &str) -> Self {
        Self::with_database(name, |database| database.replace("127.0.0.1", WAY))
    }

    fn with_database(name: &str, second: fn(&str) -> String) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let postgres = Postgres::start(&server).unwrap();
        let way = format!(
            "nft 'table ip way {{ chain there {{ type nat hook output priority -100; ip daddr {WAY} dnat to 127.0.0.1; }}; \
             chain lost {{ type filter hook input priority 0; }}; }}'"
        );
        server.sh(&way).unwrap();
        let database = postgres.database();
        let replica =
            |number, database: &str| Discovery::start_replica(&server, number, database).unwrap();
        Self {
            replicas: [replica(0, database), replica(1, &second(database))],
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

    /// From now on the second server loses what it says to PostgreSQL, or hears from it.
    fn cut(&self, lost: Lost) {
        let which = match lost {
            Lost::Everything => "",
            Lost::Questions => "ct direction original",
            Lost::Answers => "ct direction reply",
        };
        let rule = format!("nft add rule ip way lost ct original ip daddr {WAY} {which} drop");
        self.server.sh(&rule).unwrap();
    }

    fn heal(&self) {
        self.server.sh("nft flush chain ip way lost").unwrap();
    }

    /// Status and body of what a server answers, with the admin token.
    fn ask(&self, replica: usize, path: &str, more: &str) -> (u16, String) {
        let token = fs::read_to_string(self.replicas[replica].data_dir().join("admin-token"));
        let ask = format!(
            "curl -sS -m 40 -w '\n%{{http_code}}' -H 'authorization: Bearer {}' {more} {}{path}",
            token.unwrap().trim(),
            self.replicas[replica].url()
        );
        let answer = self.server.sh(&ask).unwrap().stdout;
        let (body, status) = answer.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn create(&self, replica: usize, name: &str) -> (u16, String) {
        let token = "t".repeat(40);
        let body = format!(r#"{{"id":"{name}","cidr":"10.9.0.0/16","admission_token":"{token}"}}"#);
        let post = format!("-H 'content-type: application/json' -d '{body}'");
        self.ask(replica, NETWORKS, &post)
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
    wait_until("both know", SOON, || {
        Ok((scene.members(0), scene.members(1)) == (1, 1))
    })
    .unwrap();
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

/// The second server is cut off: it says nothing wrong, and soon what is wrong. The other one is not held up.
fn says_that_it_is_cut_off(scene: &Scene, bob_is_there: impl Fn()) {
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    for number in 0.. {
        let asked = Instant::now();
        let (status, body) = scene.create(0, &format!("n{number}"));
        assert_eq!(status, 201, "{body}");
        slowest = slowest.max(asked.elapsed());
        bob_is_there();
        let (status, list) = scene.ask(1, NETWORKS, "");
        if status == 503 && list.contains("database-away") {
            break;
        }
        assert!(
            status == 200 && list.contains("my-network"),
            "{status} {list}"
        );
        assert!(begin.elapsed() < AWAY, "{list}");
    }
    assert!(slowest < SOON, "{slowest:?}");
    wait_until("it says so", AWAY, || {
        Ok(scene.ask(1, "/healthz", "").0 == 503)
    })
    .unwrap();
    let (status, metrics) = scene.ask(1, "/metrics", "");
    assert_eq!(status, 200);
    assert!(metrics.contains("\ndiscovery_database_up 0\n"), "{metrics}");
    assert!(!metrics.contains("discovery_peers "), "{metrics}");
    let (status, refusal) = scene.create(1, "refused");
    assert_eq!(status, 503, "{refusal}");
}

/// The second server serves again, and has all four members.
fn is_back(scene: &Scene) {
    wait_until("it is back", SOON, || {
        Ok(scene.ask(1, "/healthz", "").0 == 200)
    })
    .unwrap();
    // By herself, when her pause is over.
    wait_until("eve is back", Duration::from_secs(90), || {
        Ok(scene.present() == "4")
    })
    .unwrap();
}

/// The second of two servers is cut off from their database. `ann` is at the first one, `bob` at both, `eve` at the second.
fn a_server_that_is_cut_off(name: &str, lost: Lost) {
    let scene = Scene::with_way(name);
    let [first, second] = scene.replicas.each_ref().map(Discovery::url);
    let ann = scene.daemon("ann", ["--server", &first]);
    let link = ann.join_link().unwrap();
    let bob = scene.daemon("bob", ["--join", &scene.other_way(&link)]);
    bob.ask(&["servers", "set", &second, &first]).unwrap();
    let eve = scene.daemon("eve", ["--join", &scene.other_way(&link)]);
    for other in [&bob, &eve] {
        ann.first_echo(other, SOON).unwrap();
        sees(&ann, &other.name, true);
    }
    wait_until("bob is at both", SOON, || {
        Ok(bob.ask(&["servers"])?.matches("not connected").count() == 0)
    })
    .unwrap();

    scene.cut(lost);
    let bob_is_there = || assert_ne!(ann.peer("bob").unwrap()["online"], false);
    says_that_it_is_cut_off(&scene, bob_is_there);
    // Members use the other one, and whoever has none keeps whom it knows.
    wait_until("bob is told", AWAY, || {
        Ok(bob.ask(&["servers"])?.contains("cut off from its database"))
    })
    .unwrap();
    bob_is_there();
    let dora = scene.daemon("dora", ["--join", &link]);
    dora.first_echo(&bob, SOON).unwrap();
    wait_until("eve is given up", LEASE, || Ok(scene.present() == "3")).unwrap();
    bob_is_there();
    assert_eq!(
        eve.host()
            .ping(ann.virtual_ip.parse().unwrap(), 5)
            .unwrap()
            .received(),
        5
    );

    scene.heal();
    is_back(&scene);
    // Whoever comes back is not thrown off once more.
    let log = scene.replicas[1].process.log();
    assert!(!log.contains("began anew among the servers"), "{log}");
    sees(&eve, "dora", true);
    bob_is_there();
    assert_eq!((scene.members(0), scene.members(1)), (4, 4));
    assert_eq!(scene.sql("SELECT count(*) FROM replicas"), "2");
    // News come by themselves again.
    dora.kill().unwrap();
    sees(&eve, "dora", false);
}

#[test]
fn a_server_without_its_database_sends_its_members_to_the_other_one() {
    a_server_that_is_cut_off("replicas-cut", Lost::Everything);
}

#[test]
fn a_server_that_its_database_does_not_hear_sends_its_members_to_the_other_one() {
    a_server_that_is_cut_off("replicas-mute", Lost::Questions);
}

#[test]
fn a_server_that_does_not_hear_its_database_sends_its_members_to_the_other_one() {
    a_server_that_is_cut_off("replicas-deaf", Lost::Answers);
}
