//! A running share server with one share `docs` for Bob, one share `private` for nobody, and clients for it.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ed25519_dalek::SigningKey;
use mesh_wire::{
    NodeId, WireGuardKey,
    peer_info::{Directory, PeerInfo, PeerRecord},
};
use sharing::{Grant, Grantee, Origin, ShareServer, ShareStore};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};
use tokio_util::sync::CancellationToken;

/// A member with a right to `docs`.
pub(crate) const BOB: &str = "127.0.0.2";
/// A member without any right.
pub(crate) const EVE: &str = "127.0.0.3";
/// Nobody's address.
pub(crate) const STRANGER: &str = "127.0.0.9";

pub(crate) struct Site {
    pub(crate) runtime: Runtime,
    pub(crate) store: ShareStore,
    pub(crate) directory: watch::Sender<Arc<Directory>>,
    /// Where members come in.
    pub(crate) mesh: SocketAddr,
    /// Where users of this machine come in.
    pub(crate) local: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: Option<tokio::task::JoinHandle<()>>,
    folder: TempDir,
}

/// What curl did.
pub(crate) struct Curled {
    pub(crate) code: i32,
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["docs", "private"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (directory, seen) =
            watch::channel(Arc::new(members(&[("bob", 1, BOB), ("eve", 2, EVE)])));
        let shutdown = CancellationToken::new();
        let (store, listeners) = runtime.block_on(async {
            let store = ShareStore::open(&folder.path().join("shares.db"))
                .await
                .unwrap();
            let bob = Grant {
                peer: Grantee::Peer(node(1)),
                rw: false,
            };
            store
                .add("docs", &folder.path().join("docs"), &[bob])
                .await
                .unwrap();
            store
                .add("private", &folder.path().join("private"), &[])
                .await
                .unwrap();
            let mesh = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (store, vec![(mesh, Origin::Mesh), (local, Origin::Local)])
        });
        let (mesh, local) = (
            listeners[0].0.local_addr().unwrap(),
            listeners[1].0.local_addr().unwrap(),
        );
        let server = ShareServer::new(store.clone(), seen);
        let served = Some(runtime.spawn(server.serve(listeners, shutdown.clone())));
        Self {
            runtime,
            store,
            directory,
            mesh,
            local,
            shutdown,
            served,
            folder,
        }
    }

    /// A path in the shared folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("docs").join(name)
    }

    /// A path beside the shared folders.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file into `docs`, old enough for a strong entity tag.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        age(&path);
        path
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.mesh)
    }

    /// Runs curl as Bob on `path` with more arguments.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> Curled {
        self.curl_as(BOB, path, arguments)
    }

    pub(crate) fn curl_as(&self, who: &str, path: &str, arguments: &[&str]) -> Curled {
        curl(&[&["--interface", who, &self.url(path)], arguments].concat())
    }

    /// Sends bytes as they are from an address, and reads all that comes back.
    pub(crate) fn raw(&self, who: &str, request: &str) -> String {
        let mut stream = connect(who, self.mesh);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is a way to close, too.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A raw request line with the headers that every request needs.
    pub(crate) fn ask(&self, who: &str, line: &str) -> String {
        self.raw(
            who,
            &format!(
                "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.mesh
            ),
        )
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Curled {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Runs curl; a machine without it fails the test.
pub(crate) fn curl(arguments: &[&str]) -> Curled {
    let folder = tempfile::tempdir().unwrap();
    let head = folder.path().join("head");
    let output = Command::new("curl")
        .args([
            "-sS",
            "--path-as-is",
            "--max-time",
            "60",
            "-D",
            head.to_str().unwrap(),
            "-w",
            "%{stderr}%{http_code}",
        ])
        .args(arguments)
        .output()
        .expect("these tests need curl");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = errors
        .get(errors.len().saturating_sub(3)..)
        .and_then(|code| code.parse().ok());
    Curled {
        code: output.status.code().unwrap(),
        status: status.unwrap_or(0),
        head: std::fs::read_to_string(head).unwrap_or_default(),
        body: output.stdout,
    }
}

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::of(&SigningKey::from_bytes(&[number; 32]))
}

/// A directory of members: name, number of the key, address.
pub(crate) fn members(list: &[(&str, u8, &str)]) -> Directory {
    let network = "lab".parse().unwrap();
    let peer = |&(name, number, address): &(&str, u8, &str)| {
        let key = SigningKey::from_bytes(&[number; 32]);
        let session = WireGuardKey::from_bytes([number; 32]);
        PeerInfo {
            name: name.to_owned(),
            virtual_ips: vec![address.parse().unwrap()],
            online: true,
            last_seen: 0,
            record: PeerRecord::sign(&key, &network, session, name, (1, 1)).unwrap(),
        }
    };
    Directory {
        revocations: Vec::new(),
        revision: 1,
        peers: list.iter().map(peer).collect(),
    }
}

/// A connection from a given address, which gives up reading after 30 s.
pub(crate) fn connect(who: &str, to: SocketAddr) -> TcpStream {
    let from: IpAddr = who.parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// Makes a file look an hour old.
pub(crate) fn age(path: &std::path::Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
}

/// Bytes that look random and are the same in every run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
