//! Does a mesh work that several threads carry, each with its own peers?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use netlab::{Daemon, Discovery, Lab, Traffic, wait_until};

const LIMIT: Duration = Duration::from_secs(10);
/// That none of so many peers falls to one of two threads happens once in 8,192 runs.
const MOST_PEERS: usize = 14;

/// The port of the hub that a peer talks with, once its status shows it.
fn port_of_hub(peer: &Daemon) -> u16 {
    let mut port = None;
    wait_until("the hub has an endpoint", LIMIT, || {
        let hub = peer.peer("hub")?;
        let endpoint = hub["endpoint"]
            .as_str()
            .and_then(|text| text.rsplit(':').next());
        port = endpoint.and_then(|port| port.parse().ok());
        Ok(port.is_some())
    })
    .unwrap();
    port.unwrap()
}

#[test]
fn two_threads_carry_the_packets_of_their_own_peers() {
    let lab = Lab::new("threads").unwrap();
    let discovery = Discovery::start(&lab.internet().public_host("server").unwrap()).unwrap();
    let host = lab.internet().public_host("hub").unwrap();
    let file = host.dir().join("mesh.yaml");
    std::fs::write(&file, "mesh: {device: {threads: 2}}").unwrap();
    let file = file.to_str().unwrap();
    let hub = [
        "--server",
        &discovery.url(),
        "--name",
        "hub",
        "--config",
        file,
    ];
    let hub = Daemon::up(&host, &hub).unwrap();
    let link = hub.join_link().unwrap();
    let (mut peers, mut ports) = (Vec::new(), BTreeSet::new());
    while ports.len() < 2 || peers.len() < 3 {
        assert!(peers.len() < MOST_PEERS, "all peers talk with {ports:?}");
        let name = format!("peer-{}", peers.len());
        let host = lab.internet().public_host(&name).unwrap();
        let peer = Daemon::up(&host, &["--join", &link, "--name", &name]).unwrap();
        // The first packet goes out to the peer, or comes from it: both must find the peer's thread.
        let [from, to] = if peers.len() % 2 == 0 {
            [&hub, &peer]
        } else {
            [&peer, &hub]
        };
        from.first_echo(to, LIMIT).unwrap();
        ports.insert(port_of_hub(&peer));
        peers.push(peer);
    }
    assert_eq!(ports, BTreeSet::from([7081, 7082]));
    std::thread::scope(|scope| {
        for peer in &peers {
            let there = Traffic::between(&hub, peer).unwrap();
            let back = Traffic::between(peer, &hub).unwrap();
            scope.spawn(move || {
                there.stream(&[65_536; 64]).unwrap();
                back.stream(&[1, 700, 65_536, 3]).unwrap();
                there.datagrams(&[1; 50]).unwrap();
            });
        }
    });
    wait_until("one status names all peers", LIMIT, || {
        let status = hub.status()?;
        let listed = status["peers"].as_array().unwrap().iter();
        let direct = listed.filter(|peer| peer["path"] == "direct").count();
        Ok(direct == peers.len())
    })
    .unwrap();
}
