//! Do two daemons without a direct path reach each other through a TURN server, at once, and leave it when they can?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netlab::{Nat, Pair, wait_until};

#[test]
fn two_symmetric_nats_are_linked_by_the_servers_turn() {
    let pair = Pair::new("turn2sym", [Nat::Symmetric; 2]).unwrap();
    let took = pair
        .alice
        .first_echo(&pair.bob, Duration::from_secs(5))
        .unwrap();
    println!("first echo after {} ms", took.as_millis());
    let report = pair.bob.host().ping(pair.alice.ip().unwrap(), 5).unwrap();
    assert_eq!(report.received(), 5);
    wait_until("both say turn", Duration::from_secs(5), || {
        Ok(pair.alice.peer("bob")?["path"] == "turn" && pair.bob.peer("alice")?["path"] == "turn")
    })
    .unwrap();
}
