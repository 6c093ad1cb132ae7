//! What do the discovery server and its members do when its disk is full or cannot be written, and when it does not answer?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use netlab::{Daemon, Discovery, Host, Lab, Nat, Process, binary};
use nix::sys::signal::Signal;
use serde_json::Value;

const BACK: Duration = Duration::from_secs(40);

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    netlab::wait_until(what, limit, || Ok(holds())).unwrap();
}

/// Starts a server after `mount`, a line of shell for its data directory `$1`, in a mount namespace of its own.
fn serve_on(host: &Host, data: &Path, mount: &str) -> Process {
    fs::create_dir_all(data).unwrap();
    let line = format!(r#"{mount} && exec "$2" serve --data-dir "$1" --snapshot-interval 1s"#);
    let mut command = host.command("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        &line,
        "sh",
    ]);
    command.arg(data).arg(binary("discovery-server").unwrap());
    host.spawn_command(command).unwrap()
}

/// Asks the server on its own host; the status and what was answered.
fn ask(server: &Host, method: &str, path: &str, args: &[&str]) -> (u16, Value) {
    let url = format!("http://127.0.0.1:7080{path}");
    let fixed = ["-sS", "-w", "\n%{http_code}", "-X", method, &url];
    let answer = server
        .run("curl", [&fixed[..], args].concat())
        .unwrap()
        .stdout;
    let (body, status) = answer.rsplit_once('\n').unwrap();
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.parse().unwrap(), body)
}

fn bearer(data: &Path) -> String {
    let token = fs::read_to_string(data.join("admin-token")).unwrap();
    format!("Authorization: Bearer {}", token.trim())
}

/// As the administrator, who may create as many as there is room for.
fn create(server: &Host, data: &Path, name: &str) -> (u16, Value) {
    let token = "a".repeat(52);
    let body = format!(r#"{{"id":"{name}","cidr":"10.9.0.0/24","admission_token":"{token}"}}"#);
    let (kind, bearer) = ("content-type: application/json", bearer(data));
    let args = ["-H", kind, "-H", &bearer, "-d", &body];
    ask(server, "POST", "/api/v1/mesh/networks", &args)
}

fn networks(server: &Host, data: &Path) -> Vec<String> {
    let args = ["-H", &bearer(data)];
    let (status, list) = ask(server, "GET", "/api/v1/mesh/networks", &args);
    assert_eq!(status, 200);
    let list = list["networks"].as_array().unwrap();
    let name = |network: &Value| network["id"].as_str().unwrap().to_owned();
    list.iter().map(name).collect()
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_needs_no_restart() {
    let lab = Lab::new("full").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let pc = lab.internet().public_host("pc").unwrap();
    let data = server.dir().join("data");
    let process = serve_on(&server, &data, r#"mount -t tmpfs -o size=8m none "$1""#);
    process.wait_for_line("ready", BACK).unwrap();
    // As the server sees it.
    let root = PathBuf::from(format!("/proc/{}/root", process.pid()));
    let inside = root.join(data.strip_prefix("/").unwrap());
    let url = format!("http://{}:7080", server.address());
    let mut alice = Daemon::up(&pc, &["--server", &url, "--name", "alice"]).unwrap();
    let mut acknowledged = vec!["my-network".to_owned()];
    let mut keep_creating = |prefix: &str| {
        for number in 0..50 {
            let name = format!("{prefix}-{number}");
            match create(&server, &inside, &name) {
                (201, _) => acknowledged.push(name),
                refused => return Some(refused),
            }
        }
        None
    };
    assert_eq!(keep_creating("before"), None);
    let ballast = inside.join("ballast");
    let fill = format!("cat /dev/zero > {}", ballast.display());
    assert!(!server.try_sh(&fill).unwrap().status.success());

    let (status, problem) = keep_creating("full").expect("a full disk takes no 50 networks");
    assert_eq!((status, &problem["code"]), (507, &"disk-full".into()));
    assert_eq!(ask(&server, "GET", "/healthz", &[]).0, 200);
    alice.kill().unwrap();
    alice = Daemon::up(&pc, &[]).unwrap();
    wait_until("alice is told", BACK, || {
        alice.trouble().contains("disk is full")
    });
    assert_eq!(process.ended().unwrap(), None);

    fs::remove_file(ballast).unwrap();
    assert_eq!(keep_creating("after"), None);
    wait_until("alice is back", BACK, || alice.is_connected().unwrap());
    acknowledged.sort();
    assert_eq!(networks(&server, &inside), acknowledged);
}

fn snapshots(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("discovery.sqlite.snapshots")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn is_done(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "sqlite")
}

fn failed_snapshots(server: &Host) -> u64 {
    let metrics = server.sh("curl -sS -f http://127.0.0.1:7080/metrics");
    let metrics = metrics.unwrap().stdout;
    let value = |line: &str| {
        line.strip_prefix("discovery_snapshots_failed_total ")?
            .parse()
            .ok()
    };
    metrics.lines().find_map(value).unwrap()
}

#[test]
fn a_full_disk_costs_snapshots_and_nothing_else() {
    let lab = Lab::new("fullsnap").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let data = server.dir().join("data");
    let process = serve_on(&server, &data, r#"mount -t tmpfs -o size=48m none "$1""#);
    process.wait_for_line("ready", BACK).unwrap();
    let root = PathBuf::from(format!("/proc/{}/root", process.pid()));
    let inside = root.join(data.strip_prefix("/").unwrap());
    for number in 0..50 {
        assert_eq!(create(&server, &inside, &format!("net-{number}")).0, 201);
    }
    wait_until("a snapshot", BACK, || {
        snapshots(&inside).len() >= 3 && failed_snapshots(&server) == 0
    });
    // All but a few pages.
    let ballast = inside.join("ballast");
    let fill = format!("cat /dev/zero > {}", ballast.display());
    assert!(!server.try_sh(&fill).unwrap().status.success());
    let ballast_file = fs::File::options().write(true).open(&ballast).unwrap();
    let length = ballast_file.metadata().unwrap().len();
    ballast_file.set_len(length - 8 * 1024).unwrap();
    drop(ballast_file);
    let failed = failed_snapshots(&server);
    wait_until("they fail", BACK, || {
        failed_snapshots(&server) >= failed + 3
    });
    let kept = snapshots(&inside);
    assert!(process.log().contains("took no snapshot of the database"));
    assert_eq!(ask(&server, "GET", "/healthz", &[]).0, 200);
    assert_eq!(networks(&server, &inside).len(), 50);
    // The one under way is gone again in a moment.
    for path in kept.iter().filter(|path| is_done(path)) {
        // SQLite does not find its way through another's mount namespace.
        let copy = server.dir().join("copy.sqlite");
        fs::copy(path, &copy).unwrap();
        let check = [copy.to_str().unwrap(), "PRAGMA integrity_check"];
        assert_eq!(server.run("sqlite3", check).unwrap().stdout.trim(), "ok");
    }
    // Nothing of those that failed takes up room.
    wait_until("nothing is half written", BACK, || {
        snapshots(&inside).iter().all(|path| is_done(path))
    });
    fs::remove_file(ballast).unwrap();
    wait_until("the next one", BACK, || {
        snapshots(&inside).last() != kept.last()
    });
    assert_eq!(process.ended().unwrap(), None);
}

/// On a disk that a snapshot would fill.
#[test]
fn a_snapshot_that_has_no_room_is_not_begun_and_holds_up_no_write() {
    let lab = Lab::new("noroom").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    discovery.process.signal(Signal::SIGTERM).unwrap();
    discovery.process.wait(BACK).unwrap();
    let large = discovery.data_dir().join("discovery.sqlite");
    let grow = "CREATE TABLE ballast (it); INSERT INTO ballast VALUES (zeroblob(24 * 1024 * 1024))";
    server
        .run("sqlite3", [large.to_str().unwrap(), grow])
        .unwrap();

    let data = server.dir().join("data");
    let mount = format!(
        r#"mount -t tmpfs -o size=40m none "$1" && cp "{}" "$1""#,
        large.display()
    );
    let process = serve_on(&server, &data, &mount);
    process.wait_for_line("ready", BACK).unwrap();
    let root = PathBuf::from(format!("/proc/{}/root", process.pid()));
    let inside = root.join(data.strip_prefix("/").unwrap());
    let begun = Instant::now();
    let mut number = 0;
    while failed_snapshots(&server) < 5 {
        assert!(begun.elapsed() < BACK, "{}", process.log());
        let (status, problem) = create(&server, &inside, &format!("net-{number}"));
        assert_eq!(status, 201, "{problem}");
        assert!(snapshots(&inside).is_empty(), "one was begun");
        number += 1;
    }
    let log = process.log();
    assert!(log.contains("there is no room for it"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    println!("{number} networks made while none was taken");
    let pid = process.pid().to_string();
    let larger = ["-o", "remount,size=96m", data.to_str().unwrap()];
    let enter = ["--mount", "--target", &pid, "mount"];
    server
        .run("nsenter", [&enter[..], &larger].concat())
        .unwrap();
    wait_until("there is room", BACK, || {
        snapshots(&inside).iter().any(|path| is_done(path))
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named_at_the_start() {
    let lab = Lab::new("readonly").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    discovery.process.signal(Signal::SIGTERM).unwrap();
    discovery.process.wait(BACK).unwrap();
    let mount = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1""#;
    for data in [discovery.data_dir(), server.dir().join("empty")] {
        let process = serve_on(&server, &data, mount);
        let ended = process.wait(BACK).unwrap();
        assert_eq!(ended.code(), Some(1));
        let log = process.log();
        let path = data.display().to_string();
        for part in ["error: ", "why: ", "fix: ", "Read-only", &path] {
            assert!(log.contains(part), "no {part:?} in {log}");
        }
    }
}

/// As root, in what is another user's.
#[test]
fn what_root_restores_and_copies_is_of_the_servers_user() {
    const USER: u32 = 65_534;
    let lab = Lab::new("rootfiles").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let discovery = Discovery::start(&server).unwrap();
    assert_eq!(create(&server, &discovery.data_dir(), "kept").0, 201);
    let run = |command: &str, data: &Path, option: &str, file: &Path| {
        let arguments = [Path::new(command), "--data-dir".as_ref(), data];
        let mut program = server.command(binary("discovery-server").unwrap());
        program.args(arguments).arg(option).arg(file);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let directory = |name: &str| {
        let path = server.dir().join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(USER), Some(USER)).unwrap();
        path
    };
    // Beside a database of that user, with none, and as a copy of one that is root's.
    let (old, empty) = (directory("old"), directory("empty"));
    let copies = directory("copies");
    let copy = copies.join("copy");
    run("backup", &discovery.data_dir(), "--to", &copy);
    let database = old.join("discovery.sqlite");
    fs::copy(&copy, &database).unwrap();
    chown(&database, Some(USER), Some(USER)).unwrap();
    run("restore", &old, "--from", &copy);
    run("restore", &empty, "--from", &copy);
    for (directory, many) in [(&old, 3), (&empty, 2), (&copies, 1)] {
        let entries = fs::read_dir(directory).unwrap();
        let found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(found.len(), many, "{found:?}");
        for path in found {
            let about = fs::metadata(&path).unwrap();
            assert_eq!((about.uid(), about.gid()), (USER, USER), "{path:?}");
        }
    }
    // What root copies to where root is stays root's.
    let own = server.dir().join("own");
    run("backup", &discovery.data_dir(), "--to", &own);
    assert_eq!(fs::metadata(&own).unwrap().uid(), 0);
}

/// Two members on public hosts who show themselves each second.
fn members(lab: &Lab, server: &Host) -> (Discovery, Daemon, Daemon) {
    let discovery = Discovery::start(server).unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let [a, b] = ["a", "b"].map(|name| home.host(name).unwrap());
    let up = |host: &Host, args: [&str; 4]| {
        let file = host.dir().join("mesh.yaml");
        let text = "mesh:\n  discovery:\n    heartbeat_interval: 1s\n";
        fs::write(&file, text).unwrap();
        let config = ["--config", file.to_str().unwrap()];
        Daemon::up(host, &[&args[..], &config].concat()).unwrap()
    };
    let alice = up(&a, ["--server", &discovery.url(), "--name", "alice"]);
    let link = alice.join_link().unwrap();
    let bob = up(&b, ["--join", &link, "--name", "bob"]);
    alice.first_echo(&bob, Duration::from_secs(5)).unwrap();
    (discovery, alice, bob)
}

#[test]
fn a_server_that_stands_still_is_noticed_and_holds_up_nobody() {
    let lab = Lab::new("still").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let (discovery, alice, bob) = members(&lab, &server);
    discovery.process.signal(Signal::SIGSTOP).unwrap();
    // Its kernel goes on taking connections, and nobody answers on them.
    for daemon in [&alice, &bob] {
        for words in ["gone silent", "no answer within"] {
            wait_until(words, BACK, || daemon.process.log().contains(words));
        }
    }
    let report = alice.host().ping(bob.ip().unwrap(), 10).unwrap();
    assert_eq!(report.received(), 10);
    discovery.process.signal(Signal::SIGCONT).unwrap();
    for daemon in [&alice, &bob] {
        wait_until("it is back", BACK, || daemon.is_connected().unwrap());
    }
}

#[test]
fn half_open_connections_are_given_up_on_both_sides() {
    let lab = Lab::new("halfopen").unwrap();
    let server = lab.internet().public_host("server").unwrap();
    let (_discovery, alice, bob) = members(&lab, &server);
    // Neither side hears that the other is gone.
    server.set_link(false).unwrap();
    for daemon in [&alice, &bob] {
        wait_until("it notices", BACK, || !daemon.is_connected().unwrap());
    }
    let report = alice.host().ping(bob.ip().unwrap(), 10).unwrap();
    assert_eq!(report.received(), 10);
    server.set_link(true).unwrap();
    // The server still holds the old ones: those that take their places are the members'.
    for daemon in [&alice, &bob] {
        wait_until("it is back", BACK, || daemon.is_connected().unwrap());
        assert!(!daemon.process.log().contains("newer connection"));
    }
    wait_until("both are online", BACK, || {
        [(&alice, "bob"), (&bob, "alice")]
            .iter()
            .all(|(daemon, name)| daemon.peer(name).unwrap()["online"] != false)
    });
}
