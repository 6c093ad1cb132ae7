//! A running server, and the clients that the tests ask it with.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Once,
    time::Duration,
};

use ed25519_dalek::SigningKey;
use futures::{SinkExt as _, StreamExt as _};
use mesh_wire::{
    NetworkId, NodeId, WireGuardKey,
    discovery::{ClientMessage, CreateNetwork, RegisterPeer, ServerMessage, TurnAccess, hello},
    peer_info::{Directory, PeerInfo, PeerRecord},
    problem::{MEDIA_TYPE, Problem},
    psk::NetworkPsk,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, protocol::CloseFrame},
};

/// Longer than anything here may take on a busy machine; a test that waits for it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_discovery-server");

/// Those that name the database of a data directory.
pub(crate) type DatabaseArguments = fn(&Path) -> Vec<String>;

/// A server process with its own data directory, killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) stun: SocketAddr,
    pub(crate) data: PathBuf,
    pub(crate) database: DatabaseArguments,
    pub(crate) directory: Option<TempDir>,
}

impl Server {
    /// A new server with an empty data directory.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), database, &[])
    }

    /// As [`Self::start_with`], with its database in that directory, whatever the suite runs on.
    pub(crate) fn start_on_file(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| Vec::new(), arguments)
    }

    /// As [`Self::start`], with more arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), database, arguments)
    }

    /// Kills the server without warning and starts it again with the same data.
    pub(crate) fn kill_and_restart(self) -> Self {
        self.kill_and_restart_after(|_| {})
    }

    /// As [`Self::kill_and_restart`]; in between something happens to the data directory.
    pub(crate) fn kill_and_restart_after(mut self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        meanwhile(&self.data);
        Self::start_in(self.directory.take().unwrap(), self.database, &[])
    }

    /// Asks the server to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// As [`Self::stop`], and starts it again with the same data.
    pub(crate) fn stop_and_restart(mut self) -> Self {
        self.stop();
        Self::start_in(self.directory.take().unwrap(), self.database, &[])
    }

    pub(crate) fn start_in(directory: TempDir, database: DatabaseArguments, more: &[&str]) -> Self {
        Self::launch(
            directory,
            database,
            Command::new(BINARY).arg("serve").args(more),
        )
    }

    /// Starts what `command` has begun to say in the `data` of that directory.
    pub(crate) fn launch(
        directory: TempDir,
        database: DatabaseArguments,
        command: &mut Command,
    ) -> Self {
        let data = directory.path().join("data");
        fs::create_dir_all(&data).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(data.join("log"))
            .unwrap();
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(&data)
            .args(database(&data))
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let ready = out
            .lines()
            .map(Result::unwrap)
            .find(|line| line.starts_with("ready "))
            .unwrap_or_else(|| {
                panic!(
                    "no ready line; log: {}",
                    fs::read_to_string(data.join("log")).unwrap()
                )
            });
        let address = |key: &str| {
            let word = ready.split(' ').find_map(|word| word.strip_prefix(key));
            word.unwrap().parse().unwrap()
        };
        Self {
            http: address("http="),
            stun: address("stun="),
            child,
            data,
            database,
            directory: Some(directory),
        }
    }

    pub(crate) fn admin_token(&self) -> String {
        let text = fs::read_to_string(self.data.join("admin-token")).unwrap();
        text.trim().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data.join("log")).unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider()
                .install_default()
                .unwrap();
        });
        Client::builder()
            .timeout(DEADLINE)
            .no_proxy()
            .build()
            .unwrap()
            .request(method, format!("http://{}{path}", self.http))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.request(Method::GET, path)
            .bearer_auth(token)
            .send()
            .await
            .unwrap()
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics", "").await.text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }
}

/// The whole suite runs on PostgreSQL too, where `MESHD_TEST_POSTGRES` names a server's URL up to the database: then
/// each data directory has a database of its own there.
pub(crate) fn database(data: &Path) -> Vec<String> {
    let Ok(server) = std::env::var("MESHD_TEST_POSTGRES") else {
        return Vec::new();
    };
    let marker = data.join("database");
    let name = fs::read_to_string(&marker).unwrap_or_else(|_| {
        let path = data.parent().unwrap().file_name().unwrap().to_str();
        let name: String = path
            .unwrap()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let name = format!("mesh_{name}").to_lowercase();
        let create = format!("CREATE DATABASE {name}");
        let url = format!("{server}/postgres");
        let made = Command::new("psql").args([&url, "-qc", &create]).status();
        assert!(made.unwrap().success(), "psql did not {create}");
        fs::write(&marker, &name).unwrap();
        name
    });
    vec!["--database".to_owned(), format!("{server}/{name}")]
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network that was created on a server.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) id: NetworkId,
    pub(crate) token: String,
    pub(crate) create: CreateNetwork,
}

impl Net {
    /// A network that no server knows yet.
    pub(crate) fn new(name: &str, cidr: &str) -> Self {
        let mut secret = [7; 32];
        secret[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
        let token = NetworkPsk::from_bytes(secret).admission_token();
        let id: NetworkId = name.parse().unwrap();
        let create = CreateNetwork {
            id: id.clone(),
            cidr: cidr.parse().unwrap(),
            network_key: None,
            admission_token: token.clone(),
        };
        Self { id, token, create }
    }

    /// A network that `server` has just created.
    pub(crate) async fn on(server: &Server, name: &str, cidr: &str) -> Self {
        let net = Self::new(name, cidr);
        let answer = net.create_on(server).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        net
    }

    pub(crate) async fn create_on(&self, server: &Server) -> Response {
        let request = server.request(Method::POST, "/api/v1/mesh/networks");
        request.json(&self.create).send().await.unwrap()
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/mesh/networks/{}{rest}", self.id)
    }

    pub(crate) async fn directory(&self, server: &Server) -> Directory {
        let answer = server.get(&self.path("/peers"), &self.token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    pub(crate) async fn post(&self, server: &Server, register: &RegisterPeer) -> Response {
        let request = server.request(Method::POST, &self.path("/peers"));
        request
            .bearer_auth(&self.token)
            .json(register)
            .send()
            .await
            .unwrap()
    }
}

/// A node that signs its own records.
pub(crate) struct Node {
    pub(crate) key: SigningKey,
    pub(crate) hostname: String,
}

impl Node {
    pub(crate) fn new(number: u16, hostname: &str) -> Self {
        let mut secret = [1; 32];
        secret[..2].copy_from_slice(&number.to_be_bytes());
        Self {
            key: SigningKey::from_bytes(&secret),
            hostname: hostname.to_owned(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId::of(&self.key)
    }

    pub(crate) fn record(&self, net: &Net, seq: u64) -> PeerRecord {
        let wireguard = WireGuardKey::from_bytes(*self.id().as_bytes());
        PeerRecord::sign(
            &self.key,
            &net.id,
            wireguard,
            &self.hostname,
            (seq, 100 + seq),
        )
        .unwrap()
    }

    pub(crate) fn register(&self, net: &Net, seq: u64) -> RegisterPeer {
        RegisterPeer {
            record: self.record(net, seq),
            requested_ip: None,
        }
    }

    /// Registers with this `seq` and expects it to work.
    pub(crate) async fn join(&self, server: &Server, net: &Net, seq: u64) -> PeerInfo {
        let answer = net.post(server, &self.register(net, seq)).await;
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        answer.json().await.unwrap()
    }
}

/// What a request was refused with; checks the form of the answer.
pub(crate) async fn problem(answer: Response) -> Problem {
    let status = answer.status();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(kind, MEDIA_TYPE, "{status}");
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, status.as_u16());
    assert!(!problem.fix.is_empty(), "what helps? {problem}");
    problem
}

/// A connection to a network's events.
pub(crate) struct Events {
    pub(crate) stream: WebSocketStream<tokio::net::TcpStream>,
    pub(crate) nonce: String,
    pub(crate) complete: bool,
    pub(crate) list: Directory,
    /// What it was handed for TURN last; not among the messages that [`Self::next`] gives.
    pub(crate) turn: Option<TurnAccess>,
}

impl Events {
    /// Connects and takes challenge and snapshot.
    pub(crate) async fn open(server: &Server, net: &Net) -> Self {
        Self::open_with(server, net, None).await
    }

    /// As [`Self::open`], with a limit for what the kernel takes in before it is read.
    pub(crate) async fn open_with(server: &Server, net: &Net, buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(size) = buffer {
            socket.set_recv_buffer_size(size).unwrap();
        }
        let stream = within(socket.connect(server.http)).await.unwrap();
        let url = format!("ws://{}{}", server.http, net.path("/events"));
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", net.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (stream, _) = within(client_async(request, stream)).await.unwrap();
        let mut events = Self {
            stream,
            nonce: String::new(),
            complete: true,
            list: Directory::default(),
            turn: None,
        };
        let ServerMessage::Challenge { nonce } = events.next().await else {
            panic!("the first message is no challenge");
        };
        let ServerMessage::Snapshot {
            revision,
            complete,
            peers,
            revocations,
        } = events.next().await
        else {
            panic!("the second message is no snapshot");
        };
        events.nonce = nonce;
        events.complete = complete;
        events.list = Directory {
            revision,
            peers,
            revocations,
        };
        events
    }

    /// Connects and says hello, until the server has told that the member is online.
    pub(crate) async fn open_as(server: &Server, net: &Net, node: &Node) -> Self {
        let mut events = Self::open(server, net).await;
        let nonce = events.nonce.clone();
        events.send(&hello(&node.key, &net.id, &nonce)).await;
        let online = |peer: &PeerInfo| peer.online && peer.record.node_id == node.id();
        if !events.list.peers.iter().any(online) {
            events
                .until(|message| updated(message).is_some_and(online))
                .await;
        }
        events
    }

    pub(crate) async fn send(&mut self, message: &ClientMessage) {
        self.send_text(serde_json::to_string(message).unwrap())
            .await;
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        within(self.stream.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn signal(&mut self, to: &Node, payload: &str) {
        let message = ClientMessage::Signal {
            to: to.id(),
            payload: payload.to_owned(),
        };
        self.send(&message).await;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> ServerMessage {
        match self.next_or_close().await {
            Ok(message) => message,
            Err(close) => panic!("closed: {close:?}"),
        }
    }

    /// The next message that is wanted; the others are dropped.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ServerMessage) -> bool) -> ServerMessage {
        loop {
            let message = self.next().await;
            if wanted(&message) {
                return message;
            }
        }
    }

    /// The next message, or how the connection was closed (`None`: without a close frame).
    pub(crate) async fn next_or_close(&mut self) -> Result<ServerMessage, Option<CloseFrame>> {
        loop {
            match within(self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let message = serde_json::from_str(&text).unwrap();
                    let ServerMessage::Turn(access) = message else {
                        return Ok(message);
                    };
                    self.turn = Some(access);
                }
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                None | Some(Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_))) => {
                    return Err(None);
                }
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// The problem that the server tells before it closes, and the code that it closes with.
    pub(crate) async fn farewell(&mut self) -> (Problem, u16) {
        let mut told = None;
        loop {
            match self.next_or_close().await {
                Ok(ServerMessage::Error { problem }) => told = Some(problem),
                Ok(_) => {}
                Err(close) => return (told.unwrap(), close.unwrap().code.into()),
            }
        }
    }
}

/// The member that a message says is changed.
pub(crate) fn updated(message: &ServerMessage) -> Option<&PeerInfo> {
    match message {
        ServerMessage::PeerUpdated { peer, .. } => Some(peer),
        ServerMessage::Challenge { .. }
        | ServerMessage::Snapshot { .. }
        | ServerMessage::PeerJoined { .. }
        | ServerMessage::PeerLeft { .. }
        | ServerMessage::Revoked { .. }
        | ServerMessage::Signal { .. }
        | ServerMessage::Undeliverable { .. }
        | ServerMessage::Turn(_)
        | ServerMessage::Error { .. } => None,
    }
}

/// What the future gives, or a failed test.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it took too long")
}
