//! Does a call through the server's relay outlive the credentials it began with, and end with its right to be relayed?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures for the reader of the test's output"
)]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(12);

/// Two members that only a relay joins, at a server whose credentials hold for [`LIFETIME`].
struct Call {
    alice: Daemon,
    bob: Daemon,
    server: Host,
    discovery: Discovery,
    lab: Lab,
}

impl Call {
    fn new(name: &str) -> Self {
        let lab = Lab::new(name).unwrap();
        let server = lab.internet().public_host("server").unwrap();
        let lifetime = LIFETIME.as_secs().to_string();
        let discovery = Discovery::start_with(&server, &["--turn-lifetime", &lifetime]).unwrap();
        let up = |name: &str, how: [&str; 2]| {
            let home = lab.internet().home(name, Nat::Symmetric).unwrap();
            Daemon::up(
                &home.host("pc").unwrap(),
                &[&how[..], &["--name", name]].concat(),
            )
            .unwrap()
        };
        let alice = up("alice", ["--server", &discovery.url()]);
        let bob = up("bob", ["--join", &alice.join_link().unwrap()]);
        alice.first_echo(&bob, 10 * SECOND).unwrap();
        wait_until("both are relayed", 5 * SECOND, || {
            Ok(alice.peer("bob")?["path"] == "turn" && bob.peer("alice")?["path"] == "turn")
        })
        .unwrap();
        Self {
            alice,
            bob,
            server,
            discovery,
            lab,
        }
    }

    fn metric(&self, line: &str) -> u64 {
        let url = format!("{}/metrics", self.discovery.url());
        let text = self.server.run("curl", ["-sS", "-f", &url]).unwrap().stdout;
        let mut lines = text.lines();
        let value = lines.find_map(|found| found.strip_prefix(&format!("discovery_turn_{line} ")));
        value.unwrap_or("0").parse().unwrap()
    }

    fn allocations(&self) -> u64 {
        self.metric("allocations")
    }
}

#[test]
fn credentials_that_end_in_the_middle_of_a_call_are_renewed_and_no_ping_is_lost() {
    let call = Call::new("renewed");
    let (held, refused) = (
        call.allocations(),
        call.metric("refused_total{code=\"401\"}"),
    );
    let gap = Duration::from_millis(200);
    // Five lifetimes.
    let report = call
        .alice
        .host()
        .ping_each(gap, call.bob.ip().unwrap(), 300)
        .unwrap();
    assert_eq!(report.received(), 300);
    // By which of their two addresses at the server is open: each attempt at a direct path may find the other one first.
    assert_eq!(call.alice.peer("bob").unwrap()["path"], "turn");
    assert_eq!(call.allocations(), held, "the same ones all the time");
    assert_eq!(call.metric("refused_total{code=\"401\"}"), refused);
    for daemon in [&call.alice, &call.bob] {
        assert_eq!(daemon.status().unwrap()["health"], serde_json::json!([]));
    }
}

#[test]
fn a_credential_that_is_not_renewed_ends_the_relay_and_the_next_one_begins_it_again() {
    let call = Call::new("notrenewed");
    let router = call.lab.internet().router();
    let cut = "nft 'table ip cut { chain forward { type filter hook forward priority 0; tcp dport 7080 drop; tcp sport 7080 drop; }; }'";
    router.sh(cut).unwrap();
    let took = wait_until("nobody is relayed", 3 * LIFETIME, || {
        Ok(call.allocations() == 0)
    })
    .unwrap();
    println!(
        "the relay ended {:.1} s after the last credential's way was cut",
        took.as_secs_f64()
    );
    let report = call.alice.host().ping(call.bob.ip().unwrap(), 5).unwrap();
    assert_eq!(report.received(), 0);
    router.sh("nft delete table ip cut").unwrap();
    let took = call.alice.first_echo(&call.bob, 120 * SECOND).unwrap();
    println!("relayed again after {:.1} s", took.as_secs_f64());
}

#[test]
fn a_member_that_is_revoked_in_the_middle_of_a_call_is_relayed_no_longer() {
    let call = Call::new("revokedcall");
    assert_eq!(call.allocations(), 2);
    let ping = call
        .bob
        .host()
        .spawn("ping", ["-n", "-i", "0.2", &call.alice.virtual_ip])
        .unwrap();
    sleep(SECOND);
    call.alice.ask(&["revoke", "bob"]).unwrap();
    let start = Instant::now();
    let took = wait_until("its address is gone", 2 * SECOND, || {
        Ok(call.allocations() == 1)
    })
    .unwrap();
    println!("ended after {} ms", took.as_millis());
    let before = call.metric("bytes_total{to=\"peers\"}");
    sleep(3 * SECOND);
    assert_eq!(
        call.metric("bytes_total{to=\"peers\"}"),
        before,
        "{:?}",
        start.elapsed()
    );
    assert!(call.allocations() <= 1, "it gets no other one");
    ping.kill().unwrap();
}
