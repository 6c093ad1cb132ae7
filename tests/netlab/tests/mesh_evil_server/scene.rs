//! Who is lied to?

use std::{fs, time::Duration};

use netlab::{Daemon, Discovery, EvilServer, Host, Lab, Nat};
use serde_json::Value;

use super::{members, said, wait_until};

/// Enough for a reconnection after the longest pause that a test here causes.
pub(crate) const BACK: Duration = Duration::from_secs(40);
const CONNECTED: &str = "connected to the discovery server";

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

    /// Another lie from now on; returns when all have connected to it.
    pub(crate) fn tell(&mut self, lie: &str) {
        let before = self
            .daemons
            .each_ref()
            .map(|daemon| said(daemon, CONNECTED));
        self.evil.change(lie, None).unwrap();
        for (daemon, before) in self.daemons.iter().zip(before) {
            let what = format!("{} is back", daemon.name);
            wait_until(&what, BACK, || said(daemon, CONNECTED) > before);
        }
    }

    pub(crate) fn alice(&self) -> &Daemon {
        &self.daemons[0]
    }
}
