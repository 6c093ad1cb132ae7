//! What does the server do when its disk is full, or fails, at any single moment of its work?

pub(crate) mod faults;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, ExitStatus, Stdio},
};

use mesh_wire::{
    discovery::NetworkList, peer_info::Directory, problem::Problem, trust::Certificate,
};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;

use self::faults::{Calls, Disk, Fault};
use crate::{
    authority::{Authority, binding},
    harness::{Events, Node, Server, problem},
};

const ENOSPC: i32 = Errno::ENOSPC as i32;
const EIO: i32 = Errno::EIO as i32;

/// A disk that gets full and stays so, and one that fails once.
const FAULTS: [Fault; 6] = [
    fault(Calls::Writes, ENOSPC, i32::MAX),
    fault(Calls::Writes, ENOSPC, 1),
    fault(Calls::Syncs, EIO, i32::MAX),
    fault(Calls::Syncs, EIO, 1),
    fault(Calls::Sizes, ENOSPC, i32::MAX),
    fault(Calls::Opens, ENOSPC, i32::MAX),
];

const fn fault(calls: Calls, error: i32, many: i32) -> Fault {
    Fault { calls, error, many }
}

/// What is asked of a server, each time in a network of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Create,
    /// By a link for one machine.
    Join,
    Renew,
    Leave,
    Revoke,
    Delete,
}

const WRITES: [Write; 6] = [
    Write::Create,
    Write::Join,
    Write::Renew,
    Write::Leave,
    Write::Revoke,
    Write::Delete,
];

/// One network, and who asks for something in it.
struct Case {
    write: Write,
    authority: Authority,
    node: Node,
    certificate: Certificate,
    /// Two others, with the same link.
    others: [(Node, Certificate); 2],
}

impl Case {
    fn new(write: Write, number: u32) -> Self {
        let authority = Authority::new(&format!("n{number}"));
        let link = authority.week([50; 32], Some(1));
        let enters = |node: &Node, address| {
            let certificate = link.certify(&authority.root(), &binding(node, address));
            certificate.unwrap()
        };
        let node = Node::new(1, "first");
        let other = |number: u8, name| {
            let node = Node::new(number.into(), name);
            let certificate = enters(&node, number);
            (node, certificate)
        };
        Self {
            certificate: enters(&node, 1),
            others: [other(2, "second"), other(3, "third")],
            write,
            authority,
            node,
        }
    }

    /// What must have happened before.
    fn before(&self) -> &'static [Write] {
        match self.write {
            Write::Create => &[],
            Write::Join | Write::Delete => &[Write::Create],
            Write::Renew | Write::Leave | Write::Revoke => &[Write::Create, Write::Join],
        }
    }

    fn request(&self, server: &Server, write: Write) -> RequestBuilder {
        let net = &self.authority.net;
        let admin = server.admin_token();
        let ask = |method, path: &str| server.request(method, path).bearer_auth(&admin);
        let register = |seq| {
            let register = self
                .authority
                .register(&self.node, seq, Some(&self.certificate));
            ask(Method::POST, &net.path("/peers")).json(&register)
        };
        match write {
            Write::Create => ask(Method::POST, "/api/v1/mesh/networks").json(&net.create),
            Write::Join => register(1),
            Write::Renew => register(2),
            Write::Leave => {
                let path = net.path(&format!("/peers/{}", self.node.id()));
                ask(Method::DELETE, &path)
            }
            Write::Revoke => {
                let revocation = self.authority.out(&self.node.id());
                ask(Method::POST, &net.path("/revocations")).json(&Authority::revoke(&revocation))
            }
            Write::Delete => ask(Method::DELETE, &net.path("")),
        }
    }

    /// Whether it was done, as the server shows it now.
    async fn is_done(&self, server: &Server) -> bool {
        let path = self.authority.net.path("/peers");
        let answer = server.get(&path, &server.admin_token()).await;
        if answer.status() == StatusCode::NOT_FOUND {
            return self.write == Write::Delete;
        }
        assert_eq!(answer.status(), StatusCode::OK);
        let list: Directory = answer.json().await.unwrap();
        let member = list.by_node(&self.node.id());
        let is_revoked = !list.revocations.is_empty();
        match self.write {
            Write::Create => true,
            Write::Join => member.is_some(),
            Write::Renew => member.is_some_and(|peer| peer.record.seq == 2),
            Write::Leave => member.is_none(),
            Write::Revoke => {
                assert_eq!(is_revoked, member.is_none(), "one without the other");
                is_revoked
            }
            Write::Delete => false,
        }
    }
}

/// A server on a disk that fails when it shall, and what it has acknowledged.
struct Scene {
    disk: Disk,
    _directory: TempDir,
    server: Option<Server>,
    /// Networks, with their numbers of members.
    networks: BTreeMap<String, u64>,
    cases: u32,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path());
        let server = launch(&disk, tempfile::tempdir().unwrap());
        Self {
            disk,
            _directory: directory,
            server: Some(server),
            networks: BTreeMap::new(),
            cases: 0,
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn restart(&mut self) {
        let mut server = self.server.take().unwrap();
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let directory = server.directory.take().unwrap();
        self.server = Some(launch(&self.disk, directory));
    }

    /// Lets the disk fail so at that call of a write; `false` if the write makes no such call.
    async fn try_at(&mut self, write: Write, fault: Fault, behind: i32) -> bool {
        self.cases += 1;
        let case = Case::new(write, self.cases);
        for write in case.before() {
            let answer = case.request(self.server(), *write).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED);
        }
        let id = case.authority.net.id.to_string();
        let members = case.before().len().checked_sub(1);
        self.networks.extend(members.map(|it| (id, it as u64)));
        let what = format!("{write:?}, {fault:?} behind {behind}");
        self.disk.fails(fault, behind);
        let answer = case.request(self.server(), write).send().await.unwrap();
        let is_acknowledged = answer.status().is_success();
        if !is_acknowledged {
            self.assert_refused(&problem(answer).await, fault, &what)
                .await;
        }
        let failed = self.disk.works();
        if is_acknowledged {
            self.restart();
            assert!(case.is_done(self.server()).await, "{what}: acknowledged");
        } else {
            assert!(failed > 0, "{what}: refused without a reason");
            // The disk works again: so does the server, and what was asked for before is asked for again.
            let answer = case.request(self.server(), write).send().await.unwrap();
            let may_be = [200, 201, 204, 404];
            assert!(
                may_be.contains(&answer.status().as_u16()),
                "{what}: {answer:?}"
            );
            assert!(case.is_done(self.server()).await, "{what}");
            self.restart();
            assert!(case.is_done(self.server()).await, "{what}: restarted");
        }
        self.note(&case).await;
        failed > 0
    }

    async fn assert_refused(&self, problem: &Problem, fault: Fault, what: &str) {
        let expected = match fault.calls {
            // What else than a write finds no room is not told apart from a disk that fails.
            Calls::Writes => [(507, "disk-full")].as_slice(),
            Calls::Syncs | Calls::Sizes | Calls::Opens | Calls::All | Calls::Links => {
                &[(507, "disk-full"), (500, "database")]
            }
        };
        let found = (problem.status, problem.code.as_str());
        assert!(expected.contains(&found), "{what}: {problem:?}");
        // What is there can be read all the time.
        assert_eq!(self.listed().await, self.networks, "{what}");
    }

    async fn listed(&self) -> BTreeMap<String, u64> {
        let server = self.server();
        let answer = server
            .get("/api/v1/mesh/networks", &server.admin_token())
            .await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", server.log());
        let list: NetworkList = answer.json().await.unwrap();
        let counted = list
            .networks
            .iter()
            .map(|it| (it.id.to_string(), it.peer_count));
        counted.collect()
    }

    /// Compares all that was ever acknowledged.
    async fn note(&mut self, case: &Case) {
        let id = case.authority.net.id.to_string();
        let members = match case.write {
            Write::Create | Write::Leave => Some(0),
            Write::Join | Write::Renew | Write::Revoke => Some(1),
            Write::Delete => None,
        };
        let [second, third] = &case.others;
        if case.write == Write::Revoke {
            // The link's maker has taken one place back, for one other.
            let entered = self.enter(case, second).await;
            assert_eq!(entered.status(), StatusCode::CREATED);
            let refused = problem(self.enter(case, third).await).await.code;
            assert_eq!(refused, "invite-used-up");
        } else if case.write != Write::Create && members.is_some() {
            let refused = problem(self.enter(case, second).await).await.code;
            assert_eq!(refused, "invite-used-up");
        }
        self.networks.remove(&id);
        self.networks.extend(members.map(|members| (id, members)));
        assert_eq!(self.listed().await, self.networks);
    }
}

impl Scene {
    /// Whether somebody else comes by the link.
    async fn enter(&self, case: &Case, (node, certificate): &(Node, Certificate)) -> Response {
        let register = case.authority.register(node, 1, Some(certificate));
        let server = self.server();
        let request = server.request(Method::POST, &case.authority.net.path("/peers"));
        let request = request.bearer_auth(server.admin_token()).json(&register);
        request.send().await.unwrap()
    }
}

fn launch(disk: &Disk, directory: TempDir) -> Server {
    Server::launch(directory, |_| Vec::new(), &mut disk.command("serve"))
}

#[tokio::test]
async fn a_disk_that_is_full_at_any_single_call_costs_nothing_that_was_acknowledged() {
    let mut scene = Scene::new();
    for write in WRITES {
        let mut calls = 0;
        for fault in FAULTS {
            let mut behind = 0;
            while scene.try_at(write, fault, behind).await {
                behind += 1;
            }
            calls += behind;
        }
        println!("{write:?}: {calls} failures");
        assert!(calls >= 6, "{write:?} hardly touches the disk: {calls}");
    }
}

/// Another program writes to the file and does not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_keeps_busy_is_called_so_and_can_be_read() {
    let server = Server::start_on_file(&["--snapshot-interval", "never"]);
    let admin = server.admin_token();
    let mut other = Command::new("sqlite3")
        .arg(server.data.join("discovery.sqlite"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = other.stdin.take().unwrap();
    input
        .write_all(b"BEGIN IMMEDIATE; SELECT 'mine';\n")
        .unwrap();
    let mut said = String::new();
    let mut output = BufReader::new(other.stdout.take().unwrap());
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "mine\n");
    let create = |number: u32| {
        let authority = Authority::new(&format!("busy{number}"));
        let request = server.request(Method::POST, "/api/v1/mesh/networks");
        request.bearer_auth(&admin).json(&authority.net.create)
    };
    // One waits for the file, and the others for that one.
    let waiting = [1, 2, 3].map(|number| create(number).send());
    let answers = futures::future::join_all(waiting).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "5");
        assert_eq!(problem(answer).await.code, "database-busy");
    }
    for path in ["/api/v1/mesh/networks", "/healthz"] {
        assert_eq!(server.get(path, &admin).await.status(), StatusCode::OK);
    }
    drop(input);
    assert!(other.wait().unwrap().success());
    let answer = create(4).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
}

/// Ends the server while its disk fails; how it ended, and whether anything has failed.
async fn end_at(fault: Fault, behind: i32) -> (ExitStatus, bool) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let mut server = launch(&disk, tempfile::tempdir().unwrap());
    let case = Case::new(Write::Renew, 1);
    for write in [Write::Create, Write::Join] {
        let answer = case.request(&server, write).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    let events = Events::open_as(&server, &case.authority.net, &case.node).await;
    disk.fails(fault, behind);
    let pid = Pid::from_raw(server.child.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    drop(events);
    let status = server.child.wait().unwrap();
    let failed = disk.works() > 0;
    let directory = server.directory.take().unwrap();
    let server = launch(&disk, directory);
    let list = case.authority.net.directory(&server).await;
    assert_eq!(list.peers.len(), 1, "{fault:?} behind {behind}");
    let answer = case.request(&server, Write::Renew).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    (status, failed)
}

/// What is written at the end: when members were last seen, and all of the log into the file itself.
#[tokio::test]
async fn a_server_that_ends_on_a_full_disk_loses_no_member() {
    for fault in FAULTS {
        let mut behind = 0;
        loop {
            let (status, failed) = end_at(fault, behind).await;
            if !failed {
                assert!(status.success(), "{status:?}");
                break;
            }
            // What was not written is in the log, or was said.
            assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
            behind += 1;
        }
    }
}
