//! What happens to a client that does not read, and to those beside it?

use std::time::{Duration, Instant};

use mesh_wire::discovery::{MAX_SIGNAL, ServerMessage, hello};

use crate::harness::{Events, Net, Node, Server, updated};

/// Senders, each of which may send 64 signals at once.
const SENDERS: u16 = 8;

/// What a letter of others may take beside them on a busy machine; alone it is a few milliseconds.
const PROMPT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_client_that_does_not_read_is_told_to_start_over_and_delays_nobody() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let (sleeper, watcher) = (Node::new(1, "sleeper"), Node::new(2, "watcher"));
    sleeper.join(&server, &net, 1).await;
    watcher.join(&server, &net, 1).await;
    // The kernel takes in as little as it may for a client that does not read.
    let mut slow = Events::open_with(&server, &net, Some(4_096)).await;
    let nonce = slow.nonce.clone();
    slow.send(&hello(&sleeper.key, &net.id, &nonce)).await;
    // The last that it reads: that it is online.
    slow.until(|message| {
        updated(message).is_some_and(|peer| peer.name == "sleeper" && peer.online)
    })
    .await;
    let mut quick = Events::open_as(&server, &net, &watcher).await;

    let payload = "x".repeat(MAX_SIGNAL);
    let nobody = Node::new(99, "nobody");
    let lost = ServerMessage::Undeliverable { to: sleeper.id() };
    let mut overran = false;
    let witness = Node::new(3, "witness");
    witness.join(&server, &net, 1).await;
    let mut witness_events = Events::open_as(&server, &net, &witness).await;
    let mut slowest = Duration::ZERO;
    for number in 0..SENDERS {
        let sender = Node::new(10 + number, "sender");
        sender.join(&server, &net, 1).await;
        let mut events = Events::open_as(&server, &net, &sender).await;
        for _ in 0..60 {
            events.signal(&sleeper, &payload).await;
        }
        // A letter of others beside these.
        let since = Instant::now();
        witness_events.signal(&watcher, &number.to_string()).await;
        quick
            .until(|message| matches!(message, ServerMessage::Signal { .. }))
            .await;
        slowest = slowest.max(since.elapsed());
        // The answer to this one comes behind those to all before it.
        events.signal(&nobody, "").await;
        let last = ServerMessage::Undeliverable { to: nobody.id() };
        overran |= events
            .until(|message| [&lost, &last].contains(&message))
            .await
            == lost;
        if overran {
            break;
        }
    }
    assert!(overran, "a mailbox without bounds");
    println!("letters of others took {slowest:?} at most");
    assert!(slowest < PROMPT, "{slowest:?}");
    // It wakes up, reads what was on the way, and is told what happened.
    let (problem, code) = slow.farewell().await;
    assert_eq!((problem.code.as_str(), code), ("resync-required", 1013));
    // The watcher, who saw everything, heard that it went offline.
    let offline = |message: &ServerMessage| {
        updated(message).is_some_and(|peer| peer.name == "sleeper" && !peer.online)
    };
    quick.until(offline).await;
    // It comes back and gets a whole list again.
    let again = Events::open_as(&server, &net, &sleeper).await;
    assert!(again.list.peers.len() > 2);
}
