//! What do the command line and the local API say of a running mesh?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{Daemon, Host, Nat, Output, Pair, wait_until};

/// Runs a shell line on a host; it must succeed.
fn sh(host: &Host, line: &str) -> Output {
    host.sh(line).unwrap()
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_until(what, limit, || Ok(holds())).unwrap();
}

#[test]
fn status_peers_ping_and_the_local_api_answer_as_the_contract_says() {
    let pair = Pair::linked("status", [Nat::PortRestricted, Nat::FullCone]).unwrap();
    let alice = &pair.alice;
    until("the status shows the path", Duration::from_secs(3), || {
        alice.peer("bob").unwrap()["path"] == "direct"
    });
    status_has_what_the_contract_names(alice);
    let peer = alice.peer("bob").unwrap();
    assert_eq!(peer["path"], "direct");
    assert!(peer["tx_bytes"].as_u64().unwrap() > 0);
    the_command_line_speaks(alice, &pair.bob);

    let host = alice.host();
    let address = sh(host, "ip -o addr show mesh0").stdout;
    assert!(
        address.contains(&format!("{}/16", alice.virtual_ip)),
        "{address}"
    );
    assert!(
        sh(host, "ip route show dev mesh0")
            .stdout
            .contains("10.100.0.0/16")
    );
    let api = "http://localhost:7082/api/v1/mesh/networks/my-network/peers";
    let peers: serde_json::Value =
        serde_json::from_str(&sh(host, &format!("curl -sS -f {api}")).stdout).unwrap();
    let names: Vec<_> = peers["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["alice", "bob"]);
    members_were_seen_just_now(host, api);
}

/// They say nothing for longer than that, and the server has nothing new to tell of them.
fn members_were_seen_just_now(host: &Host, api: &str) {
    std::thread::sleep(Duration::from_secs(5));
    let answer = sh(host, &format!("date +%s; curl -sS -f {api}")).stdout;
    let (now, peers) = answer.split_once('\n').unwrap();
    let now: u64 = now.parse().unwrap();
    let peers: serde_json::Value = serde_json::from_str(peers).unwrap();
    for peer in peers["peers"].as_array().unwrap() {
        let seen = peer["last_seen"].as_u64().unwrap();
        assert!((now..=now + 1).contains(&seen), "{now}: {peer:#}");
    }
}

#[test]
fn a_later_start_takes_a_new_name_and_refuses_another_range() {
    let pair = Pair::linked("rename", [Nat::FullCone; 2]).unwrap();
    let (address, host) = (pair.bob.virtual_ip.clone(), pair.bob.host().clone());
    pair.bob.kill().unwrap();
    let refused = Daemon::launch(&host, &["--cidr", "10.123.0.0/16"]).unwrap();
    assert_eq!(
        refused
            .process
            .wait(Duration::from_secs(10))
            .unwrap()
            .code(),
        Some(1)
    );
    assert!(
        refused.process.log().contains("10.100.0.0/16"),
        "{}",
        refused.process.log()
    );
    let robert = Daemon::up(&host, &["--name", "robert"]).unwrap();
    assert_eq!(robert.virtual_ip, address);
    assert_eq!(robert.name, "robert", "the ready line has the new name");
    until("alice knows the new name", Duration::from_secs(5), || {
        pair.alice
            .peer("robert")
            .is_ok_and(|peer| peer["virtual_ips"][0] == address.as_str())
    });
}

fn status_has_what_the_contract_names(alice: &Daemon) {
    let status = alice.status().unwrap();
    for key in [
        "version",
        "node_id",
        "name",
        "network",
        "interface",
        "virtual_ips",
        "trust",
        "server",
        "nat",
        "peers",
        "health",
    ] {
        assert!(status.get(key).is_some(), "{key} is missing: {status:#}");
    }
    assert_eq!(status["network"], "my-network");
    assert_eq!(status["interface"], "mesh0");
    assert_eq!(status["virtual_ips"][0], alice.virtual_ip.as_str());
    assert_eq!(status["server"]["connected"], true);
    assert_eq!(status["health"].as_array().unwrap().len(), 0, "{status:#}");
    let peer = alice.peer("bob").unwrap();
    for key in [
        "name",
        "node_id",
        "virtual_ips",
        "online",
        "path",
        "via",
        "endpoint",
        "rtt_ms",
        "tx_bytes",
        "rx_bytes",
        "last_handshake_s",
        "last_heard_s",
        "mtu",
    ] {
        assert!(peer.get(key).is_some(), "{key} is missing: {peer:#}");
    }
}

fn the_command_line_speaks(alice: &Daemon, bob: &Daemon) {
    assert!(alice.ask(&["status"]).unwrap().contains("bob"));
    assert!(alice.ask(&["peers"]).unwrap().contains("bob"));
    let pong = alice.ask(&["ping", "bob", "-c", "2"]).unwrap();
    assert!(pong.contains("direct"), "{pong}");
    alice
        .ask(&["ping", &bob.virtual_ip, "-c", "1", "--until-direct"])
        .unwrap();
    assert_eq!(
        alice.cli(&["ping", "nobody"]).unwrap().status.code(),
        Some(1)
    );
}
