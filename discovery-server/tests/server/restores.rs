//! Does a restore that is killed leave one of the two databases, and all of it?

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, symlink},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use nix::{errno::Errno, libc::SIGKILL};
use tempfile::TempDir;

use crate::{
    disk::faults::{Calls, Disk, Fault},
    harness::{Net, Node, Server},
    snapshots::{backup, error_of, judge, restore},
    starting::assert_explains,
};

/// Members in the copy that is restored, and in the database that it replaces.
const NEW: usize = 3;
const OLD: usize = 40;

const KILLED: Fault = Fault {
    calls: Calls::All,
    error: 0,
    many: 1,
};

/// A database whose newest changes are in its log only, as a killed server leaves it, and a copy from before them.
struct Scene {
    net: Net,
    data: PathBuf,
    copy: PathBuf,
    _directories: [TempDir; 2],
}

impl Scene {
    async fn new() -> Self {
        let mut server = Server::start_on_file(&["--snapshot-interval", "never"]);
        let net = Net::on(&server, "home", "10.100.0.0/24").await;
        let copies = tempfile::tempdir().unwrap();
        let copy = copies.path().join("copy");
        for number in 0..OLD {
            if number == NEW {
                assert!(backup(&server.data, &copy).status.success());
            }
            let number = number.try_into().unwrap();
            Node::new(number, "node").join(&server, &net, 1).await;
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let log = server.data.join("discovery.sqlite-wal");
        assert!(fs::metadata(log).unwrap().len() > 0);
        Self {
            net,
            data: server.data.clone(),
            copy,
            _directories: [copies, server.directory.take().unwrap()],
        }
    }

    /// A directory of a server with that database.
    fn fresh(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        for entry in fs::read_dir(&self.data).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), data.join(entry.file_name())).unwrap();
        }
        directory
    }

    fn restore_killed_at(&self, disk: &Disk, data: &Path, behind: i32) -> ExitStatus {
        disk.fails(KILLED, behind);
        let mut command = disk.command("restore");
        command.arg("--data-dir").arg(data);
        command.arg("--from").arg(&self.copy);
        let status = command.output().unwrap().status;
        let killed = disk.works() > 0;
        assert_eq!(killed, status.signal() == Some(SIGKILL), "{status:?}");
        status
    }
}

/// How many members are in a file, by a program that reads its log too.
fn members(file: &Path) -> usize {
    let query = "PRAGMA quick_check; SELECT count(*) FROM peers";
    let output = Command::new("sqlite3")
        .arg(file)
        .arg(query)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (verdict, count) = text.trim().split_once('\n').unwrap();
    assert_eq!(verdict, "ok");
    count.parse().unwrap()
}

fn named(data: &Path, infix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| path.to_str().unwrap().contains(infix);
    paths.filter(is_one).collect()
}

/// The one that is kept beside, without what belongs to it.
fn kept(data: &Path) -> Vec<PathBuf> {
    let mut found = named(data, ".replaced-");
    found.retain(|path| !path.to_str().unwrap().ends_with("-wal"));
    found.retain(|path| !path.to_str().unwrap().ends_with("-shm"));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_at_any_call_leaves_the_old_database_or_the_new_one_whole() {
    let scene = Scene::new().await;
    let faults = tempfile::tempdir().unwrap();
    let disk = Disk::new(faults.path());
    let (mut behind, mut half_done, mut has_new) = (0, 0, false);
    loop {
        let directory = scene.fresh();
        let data = directory.path().join("data");
        let status = scene.restore_killed_at(&disk, &data, behind);
        let what = format!("behind {behind}");
        // Nobody takes the one for the other.
        let copy = directory.path().join("copy");
        let copied = backup(&data, &copy);
        if !named(&data, ".restoring-").is_empty() {
            half_done += 1;
            assert_explains(&error_of(&copied), &["interrupted", "start the server"]);
        } else {
            assert!(copied.status.success(), "{what}: {}", error_of(&copied));
        }
        let mut server =
            Server::start_in(directory, |_| Vec::new(), &["--snapshot-interval=never"]);
        let there = scene.net.directory(&server).await.peers.len();
        server.stop();
        assert!([OLD, NEW].contains(&there), "{what}: {there}");
        // Once it is decided it stays so.
        assert!(!has_new || there == NEW, "{what}");
        has_new = there == NEW;
        assert_eq!(usize::from(judge(&data.join("discovery.sqlite"))), there);
        if copied.status.success() {
            assert_eq!(usize::from(judge(&copy)), there, "{what}");
        }
        let old: Vec<usize> = kept(&data).iter().map(|path| members(path)).collect();
        assert_eq!(old, if has_new { vec![OLD] } else { vec![] }, "{what}");
        // And again, to the end.
        let again = restore(&data, &scene.copy);
        assert!(again.status.success(), "{what}: {}", error_of(&again));
        assert_eq!(usize::from(judge(&data.join("discovery.sqlite"))), NEW);
        assert!(named(&data, ".unfinished-").is_empty(), "{what}");
        assert!(named(&data, ".restoring-").is_empty(), "{what}");
        if status.success() {
            break;
        }
        behind += 1;
    }
    println!("killed at {behind} calls, {half_done} of them in the middle");
    assert!(has_new && half_done >= 4, "{half_done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_restored_where_a_file_has_one_name_only() {
    let scene = Scene::new().await;
    let faults = tempfile::tempdir().unwrap();
    let disk = Disk::new(faults.path());
    let directory = scene.fresh();
    let data = directory.path().join("data");
    let no_links = Fault {
        calls: Calls::Links,
        error: Errno::EPERM as i32,
        many: i32::MAX,
    };
    disk.fails(no_links, 0);
    let mut command = disk.command("restore");
    command.arg("--data-dir").arg(&data);
    let output = command.arg("--from").arg(&scene.copy).output().unwrap();
    assert_eq!(disk.works(), 1);
    assert!(output.status.success(), "{}", error_of(&output));
    assert_eq!(usize::from(judge(&data.join("discovery.sqlite"))), NEW);
    let kept = kept(&data);
    assert_eq!(members(&kept[0]), OLD);
    assert!(String::from_utf8_lossy(&output.stdout).contains(kept[0].to_str().unwrap()));
    // Killed between the two names.
    let database = data.join("discovery.sqlite");
    fs::rename(&database, data.join("discovery.sqlite.restoring-7")).unwrap();
    fs::rename(&kept[0], data.join("discovery.sqlite.replaced-7")).unwrap();
    let mut server = Server::start_in(directory, |_| Vec::new(), &["--snapshot-interval=never"]);
    assert_eq!(scene.net.directory(&server).await.peers.len(), NEW);
    server.stop();
}

#[test]
fn a_lock_that_leads_elsewhere_keeps_root_from_what_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(&victim, "precious").unwrap();
    // Root gives what it makes to the directory's owner.
    let another = nix::unistd::geteuid().is_root().then_some(65_534);
    std::os::unix::fs::chown(&data, another, another).unwrap();
    let about = fs::metadata(&victim).unwrap();
    symlink(&victim, data.join("discovery.sqlite.lock")).unwrap();
    let refused = restore(&data, &victim);
    assert_eq!(refused.status.code(), Some(1));
    assert_explains(&error_of(&refused), &["not a regular file", "as it was"]);
    let after = fs::metadata(&victim).unwrap();
    assert_eq!((after.uid(), after.gid()), (about.uid(), about.gid()));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    // What is no database is refused for that reason.
    fs::remove_file(data.join("discovery.sqlite.lock")).unwrap();
    let refused = error_of(&restore(&data, &victim));
    assert_explains(&refused, &["whole database"]);
    assert!(!refused.contains("stop the server"), "{refused}");
    let lock = fs::metadata(data.join("discovery.sqlite.lock")).unwrap();
    let owner = fs::metadata(&data).unwrap();
    assert_eq!((lock.uid(), lock.gid()), (owner.uid(), owner.gid()));
}

/// A snapshot looks for room before it is begun; what an administrator asks for is tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_finds_no_room_at_any_call_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let faults = tempfile::tempdir().unwrap();
    let disk = Disk::new(faults.path());
    let mut failed = 0;
    for behind in 0.. {
        let copies = tempfile::tempdir().unwrap();
        let copy = copies.path().join("copy");
        let full = Fault {
            calls: Calls::Writes,
            error: Errno::ENOSPC as i32,
            many: i32::MAX,
        };
        disk.fails(full, behind);
        let mut command = disk.command("backup");
        command.arg("--data-dir").arg(&scene.data);
        let output = command.arg("--to").arg(&copy).output().unwrap();
        if disk.works() == 0 {
            assert!(output.status.success(), "{}", error_of(&output));
            assert_eq!(usize::from(judge(&copy)), OLD);
            break;
        }
        failed += 1;
        assert_eq!(output.status.code(), Some(1), "{}", error_of(&output));
        let left = fs::read_dir(copies.path()).unwrap().count();
        assert_eq!(left, 0, "behind {behind}");
    }
    assert!(failed >= 5, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_is_finished_by_the_next_one_and_nothing_is_lost() {
    let scene = Scene::new().await;
    let faults = tempfile::tempdir().unwrap();
    let disk = Disk::new(faults.path());
    let mut tried = 0;
    for behind in 0.. {
        let directory = scene.fresh();
        let data = directory.path().join("data");
        if scene.restore_killed_at(&disk, &data, behind).success() {
            break;
        }
        if named(&data, ".restoring-").is_empty() {
            continue;
        }
        tried += 1;
        let again = restore(&data, &scene.copy);
        assert!(again.status.success(), "{}", error_of(&again));
        let mut kept: Vec<usize> = kept(&data).iter().map(|path| members(path)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [NEW, OLD]);
        assert_eq!(members(&data.join("discovery.sqlite")), NEW);
    }
    assert!(tried >= 4, "{tried}");
}
