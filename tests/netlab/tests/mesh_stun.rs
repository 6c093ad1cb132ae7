//! Do peers behind NATs find each other when STUN servers are dead: some, or all?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::time::Duration;

use netlab::{Daemon, Nat, Pair, wait_until};

const CONES: [Nat; 2] = [Nat::PortRestricted; 2];
/// Nobody has this address.
const DEAD: &str = "mesh: {stun: {servers: [stun:198.51.100.250:3478]}}";
const LIMIT: Duration = Duration::from_secs(5);

/// The codes of what is wrong.
fn health(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status().unwrap();
    let problems = status["health"].as_array().unwrap().iter();
    let codes = problems.map(|problem| problem["code"].as_str().unwrap().to_owned());
    codes.collect()
}

#[test]
fn a_dead_server_beside_one_that_answers_holds_up_nobody() {
    let pair = Pair::configured("stun-dead", CONES, [DEAD; 2]).unwrap();
    pair.acquaint().unwrap();
    let met = pair.meet(LIMIT).unwrap();
    println!("{met:?}");
    // As soon as with good servers only; a second question to the dead one takes a quarter of a second.
    assert!(
        met.direct.is_some_and(|took| took < Duration::from_secs(1)),
        "{met:?}"
    );
    assert_eq!(health(&pair.bob), [""; 0]);
}

#[test]
fn without_any_answer_peers_are_relayed_and_the_health_names_it() {
    let pair = Pair::configured("stun-none", CONES, [DEAD; 2]).unwrap();
    pair.acquaint().unwrap();
    // Of what comes to the server the Binding requests are dropped: it relays all the same.
    let deaf = "table ip deaf {\nchain input {\ntype filter hook input priority filter;\n\
                udp dport 3478 @th,64,16 0x0001 drop\n}\n}\n";
    pair.server.namespace().nft(deaf).unwrap();
    // Neither knows any more what it was told before.
    let [alice, bob] = [&pair.alice, &pair.bob].map(|daemon| {
        daemon.kill().unwrap();
        let file = daemon.host().dir().join("mesh.yaml");
        Daemon::up(daemon.host(), &["--config", file.to_str().unwrap()]).unwrap()
    });
    let took = bob.first_echo(&alice, LIMIT).unwrap();
    println!(
        "first echo: {} ms, {}",
        took.as_millis(),
        bob.peer("alice").unwrap()["path"]
    );
    for daemon in [&alice, &bob] {
        let status = daemon.status().unwrap();
        assert_eq!(
            status["nat"]["mapped_addresses"].as_array().unwrap().len(),
            0
        );
        wait_until("it is named", 3 * LIMIT, || {
            Ok(health(daemon).contains(&"stun-silent".to_owned()))
        })
        .unwrap();
        let words = daemon.ask(&["status"]).unwrap();
        assert!(words.contains("no STUN server answers"), "{words}");
    }
    pair.server.sh("nft delete table ip deaf").unwrap();
    wait_until("it is over", Duration::from_secs(40), || {
        Ok(health(&bob).is_empty())
    })
    .unwrap();
    bob.ask(&["ping", "alice", "-c", "30", "--until-direct"])
        .unwrap();
}
