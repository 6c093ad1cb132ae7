//! Is anything that was acknowledged lost, told twice or told out of order when a server dies while clients of all servers
//! write and listen? On PostgreSQL two servers share the database, on a file there is one.

mod follower;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mesh_wire::{
    NodeId,
    discovery::{NetworkList, ServerMessage},
    peer_info::Directory,
};
use tokio::{
    sync::RwLock,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{follower::Follower, writer::Writer};
use crate::{
    authority::Authority,
    harness::{BINARY, Events, Net, Node, Server, within},
};

/// Kills of one run, two seconds each.
const ROUNDS: usize = 8;
const WRITERS: u16 = 3;
const FOLLOWERS: u16 = 4;

/// News go round in milliseconds; the rest is for a busy machine. Less than the lease of a server that died: nothing may wait for
/// its end.
const SOON: Duration = Duration::from_secs(10);

/// Between two letters of a member that waits for an answer.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the servers are; those that were killed are nowhere.
#[derive(Clone)]
struct Places(Arc<Mutex<Vec<Option<SocketAddr>>>>);

impl Places {
    /// Where a client goes that prefers this server, and which one that is.
    fn near(&self, preferred: usize) -> Option<(usize, SocketAddr)> {
        let places = self.0.lock().unwrap();
        let in_turn = (preferred..preferred + places.len()).map(|number| number % places.len());
        in_turn
            .filter_map(|number| places[number].map(|at| (number, at)))
            .next()
    }

    fn set(&self, number: usize, at: Option<SocketAddr>) {
        self.0.lock().unwrap()[number] = at;
    }
}

/// What was acknowledged.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Model {
    /// With the `seq` of its record.
    members: BTreeMap<NodeId, u64>,
    revocations: BTreeSet<String>,
    networks: BTreeSet<String>,
}

/// What all clients know and need.
#[derive(Clone)]
struct World {
    authority: Authority,
    places: Places,
    admin: String,
    model: Arc<Mutex<Model>>,
    /// Taken to write by who wants nothing to be under way.
    pause: Arc<RwLock<()>>,
    over: CancellationToken,
}

impl World {
    fn model<T>(&self, change: impl FnOnce(&mut Model) -> T) -> T {
        change(&mut self.model.lock().unwrap())
    }
}

/// Another server on the same database with the same admin token, if it is one that servers can share.
pub(crate) fn start_beside(first: &Server) -> Option<Server> {
    let marker = fs::read(first.data.join("database")).ok()?;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("database"), marker).unwrap();
    fs::copy(first.data.join("admin-token"), data.join("admin-token")).unwrap();
    let mut command = Command::new(BINARY);
    Some(Server::launch(
        directory,
        first.database,
        command.arg("serve"),
    ))
}

/// The servers, and whom they serve.
struct Scene {
    servers: Vec<Option<Server>>,
    world: World,
    followers: Vec<Follower>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Scene {
    async fn new() -> Self {
        let first = Server::start();
        let second = start_beside(&first);
        let admin = first.admin_token();
        let authority = Authority::new("home");
        let answer = authority.net.create_on(&first).await;
        assert!(answer.status().is_success());
        let servers: Vec<Server> = [first].into_iter().chain(second).collect();
        let places = servers.iter().map(|server| Some(server.http)).collect();
        let world = World {
            authority,
            places: Places(Arc::new(Mutex::new(places))),
            admin,
            model: Arc::default(),
            pause: Arc::default(),
            over: CancellationToken::new(),
        };
        world.model(|model| model.networks.insert("home".to_owned()));
        let mut scene = Self {
            servers: servers.into_iter().map(Some).collect(),
            world,
            followers: Vec::new(),
            tasks: Vec::new(),
        };
        scene.begin().await;
        scene
    }

    /// Begins what goes on for the whole test.
    async fn begin(&mut self) {
        let world = &self.world;
        let nodes: Vec<Node> = (0..FOLLOWERS)
            .map(|number| Node::new(500 + number, &format!("f{number}")))
            .collect();
        for (number, node) in nodes.iter().enumerate() {
            let mut writer = Writer::new(world.clone(), WRITERS);
            writer.join(node, 240 + u8::try_from(number).unwrap()).await;
        }
        let ids: Vec<NodeId> = nodes.iter().map(Node::id).collect();
        for (number, node) in nodes.into_iter().enumerate() {
            // Half of them roam, and each writes to one of the other half.
            let half = ids.len() / 2;
            let (to, roams) = (ids[(number + half) % ids.len()], number >= half);
            let (follower, task) = Follower::begin(world.clone(), (number, roams), node, to);
            self.followers.push(follower);
            self.tasks.push(task);
        }
        for number in 0..WRITERS {
            self.tasks
                .push(tokio::spawn(Writer::new(world.clone(), number).write()));
        }
    }

    /// Kills one of the servers in the middle of everything, and lets it come back.
    async fn kill(&mut self, number: usize) {
        let places = self.world.places.clone();
        let mut server = self.servers[number].take().unwrap();
        server.child.kill().unwrap();
        places.set(number, None);
        server.child.wait().unwrap();
        sleep(Duration::from_millis(300)).await;
        let server = tokio::task::spawn_blocking(|| server.kill_and_restart());
        let server = server.await.unwrap();
        places.set(number, Some(server.http));
        self.servers[number] = Some(server);
    }

    /// What is different in anybody's view from what was acknowledged.
    async fn difference(&self) -> Option<String> {
        let model = self.world.model(|model| model.clone());
        let online: BTreeSet<NodeId> = self.followers.iter().map(Follower::id).collect();
        let expected = Seen {
            members: model.members.clone(),
            revocations: model.revocations.clone(),
            online,
        };
        for (number, server) in self.servers.iter().flatten().enumerate() {
            let list = self.world.authority.net.directory(server).await;
            let found = Seen::of(&list);
            if found != expected {
                return Some(format!("server {number}: {}", expected.against(&found)));
            }
            let networks = server.get("/api/v1/mesh/networks", &self.world.admin).await;
            let networks: NetworkList = networks.json().await.unwrap();
            let names = networks.networks.iter().map(|it| it.id.to_string());
            assert_eq!(names.collect::<BTreeSet<_>>(), model.networks);
        }
        self.followers.iter().enumerate().find_map(|(number, it)| {
            let found = it.view(|view| Seen::of(&view.list));
            (found != expected).then(|| format!("follower {number}: {}", expected.against(&found)))
        })
    }

    /// Waits until everybody knows what was acknowledged, and letters go round among all.
    async fn judge(&self) {
        let _pause = self.world.pause.write().await;
        let until = Instant::now() + SOON;
        let before: Vec<usize> = self.followers.iter().map(Follower::letters).collect();
        loop {
            let difference = self.difference().await;
            let silent = self
                .followers
                .iter()
                .zip(&before)
                .position(|(follower, before)| follower.letters() < before + 3);
            if difference.is_none() && silent.is_none() {
                return;
            }
            assert!(
                Instant::now() < until,
                "{difference:?}, no letters for {silent:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What somebody sees of the network.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    members: BTreeMap<NodeId, u64>,
    revocations: BTreeSet<String>,
    online: BTreeSet<NodeId>,
}

impl Seen {
    fn of(list: &Directory) -> Self {
        let online = list.peers.iter().filter(|peer| peer.online);
        Self {
            members: list
                .peers
                .iter()
                .map(|peer| (peer.record.node_id, peer.record.seq))
                .collect(),
            revocations: list.revocations.iter().cloned().collect(),
            online: online.map(|peer| peer.record.node_id).collect(),
        }
    }

    fn against(&self, found: &Self) -> String {
        let differ = |a: &Self, b: &Self| -> Vec<(NodeId, u64)> {
            let all = a.members.iter().map(|(node, seq)| (*node, *seq));
            all.filter(|(node, seq)| b.members.get(node) != Some(seq))
                .collect()
        };
        format!(
            "expected {:?}, found {:?}; online {:?}; {} revocations of {}",
            differ(self, found),
            differ(found, self),
            self.online.symmetric_difference(&found.online),
            found.revocations.len(),
            self.revocations.len(),
        )
    }
}

/// A member that never left one server comes back to it from another: nobody tells a dead connection from one that stands.
#[tokio::test(flavor = "multi_thread")]
async fn letters_go_to_where_a_member_came_last_also_where_it_never_left() {
    let first = Server::start();
    let (second, third) = (start_beside(&first), start_beside(&first));
    let at_second = second.as_ref().unwrap_or(&first);
    let at_third = third.as_ref().unwrap_or(&first);
    let net = Net::on(&first, "home", "10.100.0.0/24").await;
    let [writer, roamer] = [(1, "writer"), (2, "roamer")].map(|(n, name)| Node::new(n, name));
    for node in [&writer, &roamer] {
        node.join(&first, &net, 1).await;
    }
    let mut writing = Events::open_as(at_third, &net, &writer).await;
    let _left_behind = Events::open_as(&first, &net, &roamer).await;
    let _elsewhere = Events::open_as(at_second, &net, &roamer).await;
    let mut back = Events::open_as(&first, &net, &roamer).await;
    // A letter that comes shows that the other server has heard it; one may go to the old place until then.
    let has_come = async {
        let is_signal = |message: &ServerMessage| matches!(message, ServerMessage::Signal { .. });
        while timeout(PAUSE, back.until(is_signal)).await.is_err() {
            writing.signal(&roamer, "are you there").await;
        }
    };
    within(has_come).await;
    let is_letter = |message: &ServerMessage| matches!(message, ServerMessage::Signal { payload, .. } if payload.starts_with("letter"));
    for number in 0..3 {
        let letter = format!("letter {number}");
        writing.signal(&roamer, &letter).await;
        let heard = back.until(is_letter).await;
        let ServerMessage::Signal { payload, .. } = heard else {
            unreachable!("it is a letter");
        };
        assert_eq!(payload, letter);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_events_under_way_when_a_server_dies_are_neither_lost_nor_doubled() {
    let mut scene = Scene::new().await;
    for round in 0..ROUNDS {
        // Numbers that look like chance: another moment of the work in each round.
        let pause = 200 + (round as u64).wrapping_mul(2_654_435_761) % 300;
        sleep(Duration::from_millis(pause)).await;
        // Each one twice in turn: sometimes the dead one is the older of the two, sometimes the younger.
        let number = (round / 2 + 1) % scene.servers.len();
        scene.kill(number).await;
        sleep(Duration::from_millis(pause)).await;
        scene.judge().await;
    }
    scene.world.over.cancel();
    let mut done = 0;
    for task in scene.tasks {
        done += timeout(SOON, task).await.unwrap().unwrap();
    }
    println!("{ROUNDS} kills, {done} requests and letters");
    assert!(done > 500, "hardly anything was under way: {done}");
}
