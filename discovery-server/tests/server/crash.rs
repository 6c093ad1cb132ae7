//! What is left of what the server has acknowledged when it is killed in the middle of its work, or its files are damaged?

mod link;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use mesh_wire::{
    discovery::NetworkList,
    peer_info::{Directory, PeerInfo},
};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tokio::time::sleep;

use self::link::Link;
use crate::{
    harness::{DEADLINE, Net, Node, Server},
    starting::{FREE, assert_explains, failed_start},
};

/// Kills of one test run, some 70 ms each; `KILL_ROUNDS` asks for another number.
const ROUNDS: u32 = 1_000;
/// Clients that write at once.
const WRITERS: u16 = 4;
/// Nodes of each of them.
const NODES: u16 = 8;

/// What one thing may be after a kill: as it was acknowledged last, or as an answer that never came would have said.
#[derive(Debug)]
struct Uncertain<T>(Vec<T>);

impl<T: PartialEq> Uncertain<T> {
    /// An answer has come.
    fn acknowledged(&mut self, value: T) {
        self.0 = vec![value];
    }

    /// What it is now is what it was from now on.
    fn found(&mut self, value: T, what: &str)
    where
        T: std::fmt::Debug,
    {
        assert!(
            self.0.contains(&value),
            "{what} is {value:?}, but was {self:?}"
        );
        self.0 = vec![value];
    }
}

/// A client with nodes and a network of its own.
struct Writer {
    number: u16,
    nodes: Vec<Node>,
    /// The `seq` and address of each node, where it is registered.
    registered: Vec<Uncertain<Option<u64>>>,
    addresses: BTreeMap<usize, IpAddr>,
    network: Uncertain<bool>,
    link: Link,
    turn: u64,
    acknowledged: u64,
}

impl Writer {
    fn new(number: u16) -> Self {
        let nodes = (0..NODES).map(|node| Node::new(1 + number * NODES + node, "node"));
        Self {
            number,
            nodes: nodes.collect(),
            registered: (0..NODES).map(|_| Uncertain(vec![None])).collect(),
            addresses: BTreeMap::new(),
            network: Uncertain(vec![false]),
            link: Link::new(number, 0),
            turn: 0,
            acknowledged: 0,
        }
    }

    /// Writes one thing after the other, until an answer does not come.
    async fn write(mut self, net: Net, client: Client, (to, admin): (SocketAddr, String)) -> Self {
        loop {
            let ask = |method: Method, path: &str| {
                let request = client.request(method, format!("http://{to}{path}"));
                request.bearer_auth(&admin)
            };
            self.turn += 1;
            let node = (self.turn % u64::from(NODES)) as usize;
            let answered = match self.turn % 11 {
                0 => self.write_network(ask).await,
                1 | 5 | 9 => self.use_link(ask).await,
                3 | 7 => self.deregister(&net, node, ask).await,
                _ => self.register(&net, node, ask).await,
            };
            if !answered {
                return self;
            }
            self.acknowledged += 1;
        }
    }

    async fn register(
        &mut self,
        net: &Net,
        node: usize,
        ask: impl Fn(Method, &str) -> RequestBuilder,
    ) -> bool {
        self.registered[node].0.push(Some(self.turn));
        let register = self.nodes[node].register(net, self.turn);
        let request = ask(Method::POST, &net.path("/peers")).json(&register);
        let Ok(answer) = request.send().await else {
            return false;
        };
        assert!(answer.status().is_success(), "{}", answer.status());
        let Ok(peer) = answer.json::<PeerInfo>().await else {
            return false;
        };
        self.registered[node].acknowledged(Some(self.turn));
        self.addresses.insert(node, peer.virtual_ips[0]);
        true
    }

    async fn deregister(
        &mut self,
        net: &Net,
        node: usize,
        ask: impl Fn(Method, &str) -> RequestBuilder,
    ) -> bool {
        self.registered[node].0.push(None);
        self.addresses.remove(&node);
        let path = net.path(&format!("/peers/{}", self.nodes[node].id()));
        let Ok(answer) = ask(Method::DELETE, &path).send().await else {
            return false;
        };
        let expected = [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND];
        assert!(expected.contains(&answer.status()), "{}", answer.status());
        self.registered[node].acknowledged(None);
        true
    }

    /// A link goes on where the last answer left it; behind its end there is a new one.
    async fn use_link(&mut self, ask: impl Fn(Method, &str) -> RequestBuilder) -> bool {
        if self.link.is_over() {
            self.link = Link::new(self.number, self.turn);
        }
        self.link.go_on(ask).await
    }

    async fn write_network(&mut self, ask: impl Fn(Method, &str) -> RequestBuilder) -> bool {
        let net = Net::new(&self.network_name(), "10.1.0.0/24");
        let create = self.network.0 == [false];
        self.network.0.push(create);
        let request = match create {
            true => ask(Method::POST, "/api/v1/mesh/networks").json(&net.create),
            false => ask(Method::DELETE, &net.path("")),
        };
        let Ok(answer) = request.send().await else {
            return false;
        };
        assert!(answer.status().is_success(), "{}", answer.status());
        self.network.acknowledged(create);
        true
    }

    fn network_name(&self) -> String {
        format!("own-{}", self.number)
    }

    /// Compares what the server has with what it has acknowledged.
    fn judge(&mut self, members: &Directory, networks: &NetworkList) {
        for (number, node) in self.nodes.iter().enumerate() {
            let found = members.by_node(&node.id());
            let seq = found.map(|peer| peer.record.seq);
            let is_sure = self.registered[number].0.len() == 1;
            self.registered[number].found(seq, "a record");
            let address = found.map(|peer| peer.virtual_ips[0]);
            if is_sure && address.is_some() {
                assert_eq!(address, self.addresses.get(&number).copied());
            }
            self.addresses.extend(address.map(|it| (number, it)));
        }
        let name = self.network_name();
        let is_there = networks.networks.iter().any(|it| it.id.as_str() == name);
        self.network.found(is_there, "a network");
    }
}

/// Kills the server this many times while all write; returns how many writes were acknowledged.
async fn killed_in_mid_write(rounds: u32) -> u64 {
    let mut server = Server::start();
    let admin = server.admin_token();
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    for round in 0..rounds {
        let client = Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .unwrap();
        let tasks: Vec<_> = writers
            .drain(..)
            .map(|writer| {
                let to = (server.http, admin.clone());
                tokio::spawn(writer.write(net.clone(), client.clone(), to))
            })
            .collect();
        // Numbers that look like chance: each moment of a write comes up in some round.
        let pause = u64::from(round.wrapping_mul(2_654_435_761) >> 16) % 30_000;
        sleep(Duration::from_micros(2_000 + pause)).await;
        server = server.kill_and_restart();
        for task in tasks {
            writers.push(task.await.unwrap());
        }
        let members = net.directory(&server).await;
        let networks = server.get("/api/v1/mesh/networks", &admin).await;
        let networks = networks.json().await.unwrap();
        for writer in &mut writers {
            writer.judge(&members, &networks);
            writer.link.judge(&server, &admin).await;
        }
    }
    writers.iter().map(|writer| writer.acknowledged).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_however_often_the_server_is_killed() {
    let wanted = std::env::var("KILL_ROUNDS").ok();
    let rounds = wanted.map_or(ROUNDS, |text| text.parse().unwrap());
    let start = Instant::now();
    let acknowledged = killed_in_mid_write(rounds).await;
    println!(
        "{rounds} kills, {acknowledged} writes acknowledged, {:?}",
        start.elapsed()
    );
    assert!(
        acknowledged > u64::from(rounds),
        "hardly anything was written"
    );
}

/// A server with some members that was killed, and its data directory.
async fn killed(members: u16) -> (Server, Net, Directory) {
    let server = Server::start_on_file(&[]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    for number in 0..members {
        Node::new(number, "node").join(&server, &net, 1).await;
    }
    let before = net.directory(&server).await;
    (server, net, before)
}

/// A write that was under way when the power failed, and one of which the disk has lost the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_of_the_write_ahead_log_costs_no_more_than_what_was_torn() {
    let (server, net, before) = killed(5).await;
    let server = server.kill_and_restart_after(|data| {
        let wal = data.join("discovery.sqlite-wal");
        let mut bytes = fs::read(&wal).unwrap();
        assert!(bytes.len() > 10_000, "the members are in it");
        bytes.extend([0xA5; 5_000]);
        fs::write(&wal, bytes).unwrap();
    });
    assert_eq!(net.directory(&server).await.peers, before.peers);
    let server = server.kill_and_restart();
    for number in 5..8 {
        Node::new(number, "node").join(&server, &net, 1).await;
    }
    let server = server.kill_and_restart_after(|data| {
        let wal = File::options()
            .write(true)
            .open(data.join("discovery.sqlite-wal"))
            .unwrap();
        wal.set_len(wal.metadata().unwrap().len() - 100).unwrap();
    });
    let after = net.directory(&server).await.peers;
    assert!((5..=7).contains(&after.len()), "{} members", after.len());
    for peer in &before.peers {
        assert!(after.contains(peer));
    }
    Node::new(9, "node").join(&server, &net, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_write_ahead_log_loses_what_was_in_it_and_no_more() {
    let (server, net, _) = killed(5).await;
    // A stop that is none of a killed server writes everything into the file itself.
    let server = server.stop_and_restart();
    for number in 5..8 {
        Node::new(number, "node").join(&server, &net, 1).await;
    }
    let server = server.kill_and_restart_after(|data| {
        fs::remove_file(data.join("discovery.sqlite-wal")).unwrap();
    });
    assert_eq!(net.directory(&server).await.peers.len(), 5);
    Node::new(9, "node").join(&server, &net, 1).await;
}

/// Overwrites the middle of the file, or cuts it off.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_refused_by_name() {
    for cut in [false, true] {
        let (server, ..) = killed(50).await;
        let mut server = server.stop_and_restart();
        server.stop();
        let file = server.data.join("discovery.sqlite");
        damage(&file, cut);
        let url = format!("sqlite://{}", file.display());
        let (code, error) = failed_start(&[&FREE[..], &["--database", &url]].concat());
        assert_eq!(code, 1);
        assert_explains(&error, &["discovery.sqlite"]);
        let whys = ["malformed", "check the file"];
        assert!(whys.iter().any(|why| error.contains(why)), "{error}");
    }
}

pub(crate) fn damage(file: &Path, cut: bool) {
    let mut bytes = fs::read(file).unwrap();
    assert!(bytes.len() > 5 * 4096, "{} bytes", bytes.len());
    if cut {
        bytes.truncate(bytes.len() - 2 * 4096);
    } else {
        bytes[4096..].fill(0xA5);
    }
    fs::write(file, bytes).unwrap();
}
