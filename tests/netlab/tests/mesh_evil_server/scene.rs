//! Who is lied to?

use std::{fs, time::Duration};

use netlab::{Daemon, Discovery, EvilServer, Host, Lab, Nat};
use serde_json::Value;

/// Enough for a reconnection after the longest pause that a test here causes.
pub(crate) const BACK: Duration = Duration::from_secs(40);
/// Lies that are in, or before, the list that begins each connection. The others come when something happens.
const IN_THE_LIST: [&str; 10] = [
    "swap-keys",
    "strangers",
    "swap-addresses",
    "double-keys",
    "crowd",
    "deep-message",
    "crumbs",
    "wrong-time",
    "empty-list",
    "error-message",
];

pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// The list of members as the daemon of this host answers it.
pub(crate) fn list(daemon: &Daemon) -> Value {
    let url = "http://127.0.0.1:7082/api/v1/mesh/networks/my-network/peers";
    let answer = daemon
        .host()
        .run("curl", ["-sS", "-f", url])
        .unwrap()
        .stdout;
    serde_json::from_str(&answer).unwrap()
}

/// The members as the daemon of this host believes them to be.
pub(crate) fn members(daemon: &Daemon) -> Vec<Value> {
    list(daemon)["peers"].as_array().unwrap().clone()
}

/// How often a line is in the log.
pub(crate) fn said(daemon: &Daemon, line: &str) -> usize {
    daemon.process.log().matches(line).count()
}

/// Three members who talk with each other, and know the real server by the lying one only.
pub(crate) struct Scene {
    _lab: Lab,
    pub(crate) evil: EvilServer,
    _discovery: Discovery,
    pub(crate) daemons: [Daemon; 3],
}

impl Scene {
    pub(crate) fn new(name: &str) -> Self {
        Self::configured(name, "")
    }

    /// With this text as everybody's configuration.
    pub(crate) fn configured(name: &str, configuration: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| home.host(name).unwrap());
        let discovery = Discovery::start(&server).unwrap();
        let evil = EvilServer::start(&server, "nothing", None).unwrap();
        let up = |host: &Host, args: [&str; 4]| {
            let file = host.dir().join("mesh.yaml");
            fs::write(&file, configuration).unwrap();
            let file = file.to_str().unwrap();
            Daemon::up(host, &[&args[..], &["--config", file]].concat()).unwrap()
        };
        let alice = up(&a, ["--server", &evil.url(), "--name", "alice"]);
        let link = alice.join_link().unwrap();
        let bob = up(&b, ["--join", &link, "--name", "bob"]);
        let carol = up(&c, ["--join", &link, "--name", "carol"]);
        let daemons = [alice, bob, carol];
        for (from, to) in [(0, 1), (0, 2), (1, 2)] {
            let limit = Duration::from_secs(5);
            daemons[from].first_echo(&daemons[to], limit).unwrap();
        }
        // Until the creator has written both a certificate of its own, they register once more.
        wait_until("all is quiet", Duration::from_secs(5), || {
            let members = members(&daemons[0]);
            let short = |member: &Value| member["certificate"].as_str().unwrap().len() < 300;
            members.len() == 3 && members.iter().all(short)
        });
        Self {
            _lab: lab,
            evil,
            _discovery: discovery,
            daemons,
        }
    }

    /// Another lie from now on; returns when it was sent to all, or the list if the lie is none of lists.
    pub(crate) fn tell(&mut self, lie: &str) {
        self.evil.change(lie, None).unwrap();
        let is_in_the_list = IN_THE_LIST.contains(&lie);
        for daemon in &self.daemons {
            let node = daemon.status().unwrap()["node_id"].clone();
            let [told, lied] = ["told", "lied to"]
                .map(|verb| format!("{verb} {}: snapshot", node.as_str().unwrap()));
            let what = format!("{} hears {lie}", daemon.name);
            wait_until(&what, BACK, || {
                self.evil.said(&lied) > 0 || !is_in_the_list && self.evil.said(&told) > 0
            });
        }
    }

    /// As [`Self::tell`]; each daemon must then have said `line` so many times more, which shows that it has read the lie.
    pub(crate) fn tell_and_see(&mut self, lie: &str, (line, times): (&str, usize)) {
        let before = self.daemons.each_ref().map(|daemon| said(daemon, line));
        self.tell(lie);
        for (daemon, before) in self.daemons.iter().zip(before) {
            let what = format!("{} says {line:?} of {lie}", daemon.name);
            wait_until(&what, BACK, || said(daemon, line) >= before + times);
        }
    }

    pub(crate) fn alice(&self) -> &Daemon {
        &self.daemons[0]
    }
}
