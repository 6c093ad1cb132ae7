//! How do members find each other in a network that is too large for everybody to be told of everybody?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, time::Duration};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId, WireGuardKey,
    discovery::{MAX_WHOLE_LIST, RegisterPeer},
    join_link::JoinLink,
    peer_info::PeerRecord,
};
use netlab::{Daemon, Discovery, Host, Lab, Nat, wait_until};

/// What asking the server and connecting may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

/// A path is looked at for a while before its peer is taken to be gone.
const GONE: Duration = Duration::from_secs(30);

struct Scene {
    discovery: Discovery,
    link: String,
    lab: Lab,
}

impl Scene {
    /// A network with as many members as everybody is told of, all but one of which are only registered.
    fn new(name: &str) -> (Self, Daemon) {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let discovery = Discovery::start(&server).unwrap();
        let home = lab.internet().home("hann", Nat::PortRestricted).unwrap();
        let host = home.host("ann").unwrap();
        let file = host.dir().join("mesh.yaml");
        fs::write(&file, "mesh:\n  trust: psk\n").unwrap();
        let url = discovery.url();
        let args = ["--server", &url, "--name", "ann", "--config"];
        let ann = Daemon::up(&host, &[&args[..], &[file.to_str().unwrap()]].concat()).unwrap();
        let link = ann.join_link().unwrap();
        register(&server, &discovery, &link);
        let scene = Self {
            discovery,
            link,
            lab,
        };
        (scene, ann)
    }

    fn join(&self, name: &str) -> Daemon {
        let home = self
            .lab
            .internet()
            .home(&format!("h{name}"), Nat::PortRestricted);
        let host = home.unwrap().host(name).unwrap();
        Daemon::up(&host, &["--join", &self.link, "--name", name]).unwrap()
    }
}

/// Registers members that are never there.
fn register(server: &Host, discovery: &Discovery, link: &str) {
    let link = JoinLink::parse(link).unwrap();
    let token = fs::read_to_string(discovery.data_dir().join("admin-token")).unwrap();
    let url = format!(
        "{}/api/v1/mesh/networks/{}/peers",
        discovery.url(),
        link.network
    );
    // All in one call of curl: each is a part of its configuration.
    let mut config = String::new();
    for number in 0..u8::try_from(MAX_WHOLE_LIST).unwrap() {
        let key = SigningKey::from_bytes(&[number; 32]);
        let wireguard_key = WireGuardKey::from_bytes(*NodeId::of(&key).as_bytes());
        let name = format!("member-{number}");
        let record = PeerRecord::sign(&key, &link.network, wireguard_key, &name, (1, 1)).unwrap();
        let body = serde_json::to_string(&RegisterPeer {
            record,
            requested_ip: None,
        });
        let body = body.unwrap().replace('"', "\\\"");
        writeln!(
            config,
            "url = \"{url}\"\nheader = \"authorization: Bearer {}\"\nheader = \"content-type: application/json\"\n\
             data = \"{body}\"\noutput = /dev/null\nfail\nnext",
            token.trim()
        )
        .unwrap();
    }
    let file = server.dir().join("curl.conf");
    fs::write(&file, config.trim_end().trim_end_matches("next")).unwrap();
    server
        .run("curl", ["-sS", "-K", file.to_str().unwrap()])
        .unwrap();
}

fn known(daemon: &Daemon) -> usize {
    daemon.status().unwrap()["peers"].as_array().unwrap().len()
}

#[test]
fn members_of_a_large_network_find_each_other_when_they_want_to_talk() {
    let (scene, ann) = Scene::new("large");
    let bob = scene.join("bob");
    let carol = scene.join("carol");
    assert!(known(&bob) < 5 && known(&carol) < 5);
    // The first packet of bob's waits until the server has said whose the address is, and carol is shown who writes.
    let took = bob.first_echo(&carol, LIMIT).unwrap();
    println!("first echo after {took:?}");
    carol.first_echo(&ann, LIMIT).unwrap();
    assert!(known(&bob) < 5);
    wait_until("it is told", LIMIT, || {
        Ok(bob.peer("carol")?["path"] == "direct")
    })
    .unwrap();

    // Who was known is followed again after a start.
    bob.ask(&["down"]).unwrap();
    bob.process.wait(LIMIT).unwrap();
    let took = wait_until("carol sees bob go", GONE, || {
        Ok(carol.peer("bob")?["online"] == false)
    })
    .unwrap();
    println!("gone after {took:?}");
    let bob = Daemon::up(bob.host(), &[]).unwrap();
    wait_until("they see each other", LIMIT, || {
        Ok(carol.peer("bob")?["online"] == true && bob.peer("carol")?["online"] == true)
    })
    .unwrap();
    carol.first_echo(&bob, LIMIT).unwrap();
    // An address that nobody has is asked for, and stays without an answer.
    assert_eq!(
        bob.host()
            .ping("10.100.77.77".parse().unwrap(), 3)
            .unwrap()
            .received(),
        0
    );
    assert_eq!(scene.discovery.process.ended().unwrap(), None);
}
