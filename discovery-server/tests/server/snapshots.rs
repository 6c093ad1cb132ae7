//! Is there a way back from a damaged database?

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use reqwest::Method;
use tokio::time::sleep;

use crate::{
    crash::damage,
    harness::{BINARY, DEADLINE, Net, Node, Server},
    starting::{FREE, assert_explains, failed_start},
};

fn run(arguments: &[&OsStr]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

pub(crate) fn backup(data: &Path, to: &Path) -> Output {
    let [command, place, target] = ["backup", "--data-dir", "--to"].map(OsStr::new);
    run(&[command, place, data.as_os_str(), target, to.as_os_str()])
}

pub(crate) fn restore(data: &Path, from: &Path) -> Output {
    let [command, place, source] = ["restore", "--data-dir", "--from"].map(OsStr::new);
    run(&[command, place, data.as_os_str(), source, from.as_os_str()])
}

pub(crate) fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a program that is none of ours reads in a file.
pub(crate) fn sqlite(file: &Path, query: &str) -> String {
    let output = Command::new("sqlite3")
        .arg("-readonly")
        .arg(file)
        .arg(query)
        .output()
        .unwrap();
    assert!(output.status.success(), "{file:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Checks that a copy is whole and private; how many members are in it.
pub(crate) fn judge(file: &Path) -> u16 {
    assert_eq!(sqlite(file, "PRAGMA integrity_check"), "ok", "{file:?}");
    assert_eq!(sqlite(file, "PRAGMA foreign_key_check"), "", "{file:?}");
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{file:?}");
    sqlite(file, "SELECT count(*) FROM peers").parse().unwrap()
}

/// In order of age.
pub(crate) fn snapshots(data: &Path) -> Vec<PathBuf> {
    let directory = data.join("discovery.sqlite.snapshots");
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Waits for a snapshot that began after this call.
async fn next_snapshot(server: &Server) -> PathBuf {
    let start = Instant::now();
    let (before, mut seen) = (snapshots(&server.data), 0);
    // The first may have been under way.
    while seen < 2 {
        assert!(start.elapsed() < DEADLINE, "{}", server.log());
        sleep(Duration::from_millis(50)).await;
        let now = snapshots(&server.data);
        let is_done = |path: &&PathBuf| path.extension() == Some(OsStr::new("sqlite"));
        seen = now
            .iter()
            .filter(|path| !before.contains(path))
            .filter(is_done)
            .count();
    }
    snapshots(&server.data).pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_backups_that_are_taken_while_members_join_are_whole() {
    let mut server = Server::start_on_file(&["--snapshot-interval", "1s"]);
    let net = Net::on(&server, "home", "10.100.0.0/16").await;
    // Of whom the server takes any number from one address.
    let admin = server.admin_token();
    let copies = tempfile::tempdir().unwrap();
    let (start, mut number, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(11) {
        let before = Instant::now();
        let register = Node::new(number, "node").register(&net, 1);
        let request = server.request(Method::POST, &net.path("/peers"));
        let request = request.bearer_auth(&admin).json(&register);
        assert_eq!(request.send().await.unwrap().status(), 201);
        slowest = slowest.max(before.elapsed());
        number += 1;
        if number % 50 == 0 {
            let copy = copies.path().join(format!("copy-{number}"));
            let output = backup(&server.data, &copy);
            assert!(output.status.success(), "{}", error_of(&output));
            // All that was acknowledged before.
            assert_eq!(judge(&copy), number);
        }
        sleep(Duration::from_millis(10)).await;
    }
    println!("{number} members joined, at most {slowest:?} each");
    assert!(number >= 100, "hardly anything was written");
    let taken = server.metric("discovery_snapshot_timestamp_seconds").await;
    assert!(taken > 1_700_000_000);
    assert_eq!(server.metric("discovery_snapshots_failed_total").await, 0);
    server.stop();
    let kept = snapshots(&server.data);
    assert_eq!(kept.len(), 7, "{kept:?}");
    let members: Vec<u16> = kept.iter().map(|path| judge(path)).collect();
    assert!(
        members.is_sorted() && members[0] < members[6],
        "{members:?}"
    );
    let directory = kept[0].parent().unwrap();
    let mode = fs::metadata(directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// The message is followed to the letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_names_the_newest_whole_snapshot_and_how_to_go_back() {
    let server = Server::start_on_file(&["--snapshot-interval", "1s"]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    let nodes: Vec<Node> = (0..60).map(|number| Node::new(number, "node")).collect();
    for node in &nodes[..40] {
        node.join(&server, &net, 1).await;
    }
    let good = next_snapshot(&server).await;
    let server = server.stop_and_restart();
    let before = net.directory(&server).await;
    for node in &nodes[40..] {
        node.join(&server, &net, 1).await;
    }
    let server = server.stop_and_restart();
    let server = server.kill_and_restart_after(|data| {
        let database = data.join("discovery.sqlite");
        damage(&database, false);
        for newer in snapshots(data).iter().filter(|path| **path > good) {
            fs::remove_file(newer).unwrap();
        }
        // One that is newer, and no better.
        let bad = good.with_file_name("snapshot-99999999999.sqlite");
        fs::copy(&good, &bad).unwrap();
        damage(&bad, false);
        let url = format!("sqlite://{}", database.display());
        let start = || failed_start(&[&FREE[..], &["--database", &url]].concat());
        let (code, error) = start();
        assert_eq!(code, 1);
        assert_explains(&error, &["check the file", good.to_str().unwrap()]);
        // It restores nothing by itself.
        let fix = |error: &str| error.split_once("fix: ").unwrap().1.to_owned();
        assert_eq!(fix(&start().1), fix(&error));
        let (_, command) = error.split_once("discovery-server restore").unwrap();
        let (command, _) = command.split_once("; ").unwrap();
        let done = Command::new("sh")
            .args(["-ec", &format!("'{BINARY}' restore {command}")])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", error_of(&done));
        let names = fs::read_dir(data).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().any(|name| name.contains(".replaced-")));
        assert_eq!(judge(&database), 40);
    });
    assert_eq!(net.directory(&server).await.peers, before.peers);
    for node in &nodes {
        node.join(&server, &net, 1).await;
    }
    assert_eq!(net.directory(&server).await.peers.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_cannot_be_done_changes_nothing() {
    let mut server = Server::start_on_file(&[]);
    let net = Net::on(&server, "home", "10.100.0.0/24").await;
    Node::new(1, "alice").join(&server, &net, 1).await;
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    assert!(backup(&server.data, &copy).status.success());
    let again = backup(&server.data, &copy);
    assert_explains(&error_of(&again), &["exists"]);
    let in_use = restore(&server.data, &copy);
    assert_explains(&error_of(&in_use), &["another discovery-server"]);
    server.stop();
    let database = server.data.join("discovery.sqlite");
    let as_it_was = fs::read(&database).unwrap();
    damage(&copy, false);
    for from in [
        copy.as_path(),
        Path::new("/nowhere"),
        &server.data.join("log"),
    ] {
        let refused = restore(&server.data, from);
        assert_eq!(refused.status.code(), Some(1));
        assert_explains(&error_of(&refused), &["discovery.sqlite"]);
        assert_eq!(fs::read(&database).unwrap(), as_it_was);
    }
    let names = fs::read_dir(&server.data).unwrap();
    for name in names.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(
            !name.contains("unfinished") && !name.contains("replaced"),
            "{name}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    let none = backup(empty.path(), &copies.path().join("none"));
    assert_explains(&error_of(&none), &["no database", "--data-dir"]);
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 1);
}

#[test]
fn other_databases_and_intervals_are_refused_with_what_serves_instead() {
    let url = "postgres://user:hunter2@127.0.0.1:1/mesh";
    for (command, file, instead) in [
        ("backup", "--to", "pg_dump"),
        ("restore", "--from", "pg_restore"),
    ] {
        let words = [command, "--database", url, file, "/nowhere"];
        let refused = run(&words.map(OsStr::new));
        assert_eq!(refused.status.code(), Some(2));
        assert_explains(&error_of(&refused), &["PostgreSQL", instead]);
        assert!(!error_of(&refused).contains("hunter2"));
    }
    for interval in ["0s", "1", "-1h", "1d", "", "99999999999h"] {
        let (code, error) = failed_start(&[&format!("--snapshot-interval={interval}")]);
        assert_eq!(
            (code, error.contains("24h, or never")),
            (2, true),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_started_again_and_again_takes_one_a_day() {
    let mut server = Server::start_on_file(&[]);
    let start = Instant::now();
    while snapshots(&server.data).is_empty() {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..3 {
        server = server.stop_and_restart();
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(snapshots(&server.data).len(), 1);
    // What a killed server has left, and a day that has passed.
    let directory = server.data.join("discovery.sqlite.snapshots");
    let old = snapshots(&server.data).pop().unwrap();
    let server = server.kill_and_restart_after(|_| {
        fs::write(directory.join(".unfinished-abc"), "half").unwrap();
        fs::rename(&old, directory.join("snapshot-1700000000.sqlite")).unwrap();
    });
    let start = Instant::now();
    while snapshots(&server.data).len() != 2 || directory.join(".unfinished-abc").exists() {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await;
    }
    let server = Server::start_on_file(&["--snapshot-interval", "never"]);
    sleep(Duration::from_secs(1)).await;
    assert!(snapshots(&server.data).is_empty());
}
