//! Does a member that only shows that it is there cost the database anything?

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use futures::{SinkExt as _, StreamExt as _, future::join_all};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{DEADLINE, Events, Net, Node, Server, within};

const MEMBERS: u16 = 50;
const WINDOW: Duration = Duration::from_secs(6);

/// Servers that share a PostgreSQL database renew their leases and read news each few seconds, and may do so once more in
/// one window than in another.
const HOUSEKEEPING: usize = 20;

impl Events {
    /// What a daemon sends to show that it is there; returns when the server has seen it.
    async fn heartbeat(&mut self) {
        within(self.stream.send(Message::Ping(Vec::new().into())))
            .await
            .unwrap();
        loop {
            match within(self.stream.next()).await.unwrap().unwrap() {
                Message::Pong(_) => return,
                Message::Close(frame) => panic!("{frame:?}"),
                Message::Text(_) | Message::Ping(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
    }
}

/// Statements so far: the database's driver logs each.
fn statements(server: &Server) -> usize {
    server.log().matches(" sqlx::query: ").count()
}

/// What SQLite has written last, where that is the database.
fn written(data: &Path) -> Option<(u64, SystemTime)> {
    let log = fs::metadata(data.join("discovery.sqlite-wal")).ok()?;
    Some((log.len(), log.modified().unwrap()))
}

/// Waits until what the connections brought about is done, the first snapshot included.
async fn settled(server: &Server) {
    let start = Instant::now();
    let mut before = 0;
    while statements(server) > before + HOUSEKEEPING {
        assert!(start.elapsed() < DEADLINE);
        before = statements(server);
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_touch_no_database() {
    let server = Server::start();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        let node = Node::new(number, "node");
        node.join(&server, &net, 1).await;
        members.push(Events::open_as(&server, &net, &node).await);
    }
    settled(&server).await;
    let start = statements(&server);
    sleep(WINDOW).await;
    let idle = statements(&server) - start;

    let (start, file) = (statements(&server), written(&server.data));
    let until = Instant::now() + WINDOW;
    let beats = members.iter_mut().map(async |member| {
        let mut beats = 0;
        while Instant::now() < until {
            member.heartbeat().await;
            beats += 1;
        }
        beats
    });
    let beats: usize = join_all(beats).await.into_iter().sum();
    let busy = statements(&server) - start;
    println!("{beats} heartbeats: {busy} statements, {idle} without any");
    assert!(beats > 1_000, "{beats} heartbeats are no proof");
    if file.is_some() {
        assert_eq!(busy, 0);
        assert_eq!(written(&server.data), file);
    } else {
        assert!(busy <= idle + HOUSEKEEPING, "{busy}, and idle {idle}");
    }

    // The same measures move when there is something to keep.
    let start = statements(&server);
    for number in 0..40 {
        let node = Node::new(MEMBERS + number, "late");
        node.join(&server, &net, 1).await;
    }
    let joins = statements(&server) - start;
    assert!(joins >= 40 * 3, "{joins} statements");
    assert!(file.is_none() || written(&server.data) != file);
}
