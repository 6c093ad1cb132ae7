//! What happens to a client that does not read, and to those beside it?

use mesh_wire::discovery::{MAX_SIGNAL, ServerMessage, hello};

use crate::harness::{Events, Net, Node, Server, updated};

/// Senders, each of which may send 64 signals at once.
const SENDERS: u16 = 8;

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
    let mut quick = Events::open_as(&server, &net, &watcher).await;
    if !quick.list.peers[0].online {
        quick
            .until(|message| updated(message).is_some_and(|peer| peer.name == "sleeper"))
            .await;
    }

    let payload = "x".repeat(MAX_SIGNAL);
    for number in 0..SENDERS {
        let sender = Node::new(10 + number, "sender");
        sender.join(&server, &net, 1).await;
        let mut events = Events::open_as(&server, &net, &sender).await;
        for _ in 0..60 {
            events.signal(&sleeper, &payload).await;
        }
        // An answer to this one means that all before it were handled.
        events.signal(&Node::new(99, "nobody"), "").await;
        let nobody = Node::new(99, "nobody").id();
        events
            .until(|message| *message == ServerMessage::Undeliverable { to: nobody })
            .await;
    }
    // The sleeper's mailbox ran over: it is offline, and the watcher, who saw everything, heard of it.
    quick
        .until(|message| {
            updated(message).is_some_and(|peer| peer.name == "sleeper" && !peer.online)
        })
        .await;
    assert!(
        !net.directory(&server)
            .await
            .peers
            .iter()
            .any(|p| p.name == "sleeper" && p.online)
    );
    // It comes back and gets a whole list again.
    let again = Events::open_as(&server, &net, &sleeper).await;
    assert_eq!(again.list.peers.len(), usize::from(SENDERS) + 2);
}
