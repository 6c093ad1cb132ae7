//! What does a member get who asks a share for more than it offers? The same as for a share that does not exist.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use netlab::{Daemon, Host, Lab, Nat};

/// Machines of one LAN: the first one has the network and its server.
fn mesh<const N: usize>(lab: &Lab, names: [&str; N]) -> [Daemon; N] {
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let mut link: Option<String> = None;
    names.map(|name| {
        let host = home.host(name).unwrap();
        let daemon = match &link {
            None => Daemon::up(&host, &["--name", name]).unwrap(),
            Some(link) => Daemon::up(&host, &["--name", name, "--join", link]).unwrap(),
        };
        link.get_or_insert_with(|| daemon.join_link().unwrap());
        daemon
    })
}

fn echo(from: &Daemon, to: &Daemon) {
    from.first_echo(to, Duration::from_secs(5)).unwrap();
}

fn share(owner: &Daemon, name: &str, path: &Path, to: &str) {
    let path = path.to_str().unwrap();
    owner
        .ask(&["share", "add", name, path, "--to", to])
        .unwrap();
}

/// The whole answer of `owner` to `path`, as it was sent, without what differs from second to second.
fn answer(from: &Host, owner: &Daemon, path: &str) -> String {
    let url = format!("http://{}{path}", owner.virtual_ip);
    let args = ["-sS", "-i", "-m", "10", "--path-as-is", &url];
    let text = from.run("curl", args).unwrap().stdout;
    let lines = text.lines().filter(|line| {
        let line = line.to_lowercase();
        !line.starts_with("date:")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A directory with a secret beside a shared one, which has every way out that a file system knows.
fn trap(dir: &Path) -> PathBuf {
    let docs = dir.join("documents");
    fs::create_dir_all(docs.join("inner")).unwrap();
    fs::write(docs.join("hello.txt"), "hello").unwrap();
    fs::create_dir(dir.join("private")).unwrap();
    fs::write(dir.join("private/secret.txt"), "a secret").unwrap();
    symlink("../private/secret.txt", docs.join("file-link")).unwrap();
    symlink("../private", docs.join("directory-link")).unwrap();
    symlink(dir.join("private"), docs.join("absolute-link")).unwrap();
    symlink("/proc/self/environ", docs.join("proc-link")).unwrap();
    symlink("/", docs.join("inner/root")).unwrap();
    docs
}

#[test]
fn no_path_and_no_link_leads_out_of_a_share() {
    let lab = Lab::new("escape").unwrap();
    let [alice, bob] = mesh(&lab, ["alice", "bob"]);
    let dir = alice.host().dir();
    let docs = trap(&dir);
    alice.host().run("mkfifo", [docs.join("fifo")]).unwrap();
    let _socket = UnixListener::bind(docs.join("socket")).unwrap();
    share(&alice, "docs", &docs, "bob");
    echo(&bob, &alice);

    let hello = answer(bob.host(), &alice, "/docs/hello.txt");
    assert!(
        hello.starts_with("HTTP/1.1 200") && hello.ends_with("hello"),
        "{hello}"
    );
    let unknown = answer(bob.host(), &alice, "/docs/no-such-file");
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    assert_eq!(unknown, answer(bob.host(), &alice, "/no-such-share/x"));
    let start = Instant::now();
    for path in [
        "/docs/../private/secret.txt",
        "/docs/inner/../../private/secret.txt",
        "/docs/%2e%2e/private/secret.txt",
        "/docs/..%2fprivate%2fsecret.txt",
        "/docs/%2e%2e%2fprivate/secret.txt",
        "/docs/..%5cprivate%5csecret.txt",
        "/docs/..%00/private/secret.txt",
        "/docs//../private/secret.txt",
        "/../documents/hello.txt",
        "/../../../../etc/passwd",
        "/docs/file-link",
        "/docs/directory-link",
        "/docs/directory-link/",
        "/docs/directory-link/secret.txt",
        "/docs/absolute-link/secret.txt",
        "/docs/proc-link",
        "/docs/inner/root/etc/passwd",
        "/docs/fifo",
        "/docs/socket",
        "/docs/hello.txt/",
        "/docs/hello.txt/x",
    ] {
        assert_eq!(answer(bob.host(), &alice, path), unknown, "{path}");
    }
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "a fifo blocks nobody: {took:?}"
    );
    assert_eq!(answer(bob.host(), &alice, "/docs/hello.txt"), hello);
}

#[test]
fn who_has_no_right_sees_nothing_not_even_that_there_is_something() {
    let lab = Lab::new("norights").unwrap();
    let [alice, bob, carol] = mesh(&lab, ["alice", "bob", "carol"]);
    let docs = trap(&alice.host().dir());
    share(&alice, "docs", &docs, "bob");
    echo(&bob, &alice);
    echo(&carol, &alice);
    let [bobs, carols] = [&bob, &carol].map(|peer| answer(peer.host(), &alice, "/"));
    assert!(bobs.contains("docs"), "{bobs}");
    assert!(
        carols.starts_with("HTTP/1.1 200") && !carols.contains("docs"),
        "{carols}"
    );
    let unknown = answer(carol.host(), &alice, "/no-such-share/");
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    for path in ["/docs", "/docs/", "/docs/hello.txt", "/docs/no-such-file"] {
        assert_eq!(answer(carol.host(), &alice, path), unknown, "{path}");
    }
    alice.ask(&["share", "revoke", "docs", "bob"]).unwrap();
    alice.ask(&["share", "grant", "docs", "carol"]).unwrap();
    assert_eq!(answer(bob.host(), &alice, "/docs/hello.txt"), unknown);
    let now = answer(carol.host(), &alice, "/docs/hello.txt");
    assert!(now.ends_with("hello"), "{now}");
}

#[test]
fn users_of_the_sharing_machine_do_not_borrow_the_daemons_rights() {
    let lab = Lab::new("localuser").unwrap();
    let [alice, bob] = mesh(&lab, ["alice", "bob"]);
    let docs = trap(&alice.host().dir());
    share(&alice, "docs", &docs, "bob");
    echo(&bob, &alice);
    for path in ["/docs/", "/docs/hello.txt"] {
        let own = answer(alice.host(), &alice, path);
        assert!(own.starts_with("HTTP/1.1 404"), "{own}");
    }
    alice.ask(&["share", "grant", "docs", "all"]).unwrap();
    let own = answer(alice.host(), &alice, "/docs/hello.txt");
    assert!(own.ends_with("hello"), "{own}");
    let file = docs.join("hello.txt");
    let file = file.to_str().unwrap();
    let refused = alice.cli(&["share", "add", "f", file]).unwrap();
    assert!(refused.stderr.contains("not a directory"), "{refused:?}");
}

#[test]
fn the_state_directory_is_never_shared_whole_in_part_or_from_above() {
    let lab = Lab::new("ownstate").unwrap();
    let [alice] = mesh(&lab, ["alice"]);
    let dir = alice.host().dir();
    let state = alice.state_dir().to_owned();
    let link = dir.join("innocent");
    symlink(&state, &link).unwrap();
    let docs = trap(&dir);
    for path in [
        state.join("discovery"),
        state,
        dir,
        PathBuf::from("/"),
        link,
        docs.join("../state"),
    ] {
        let path = path.to_str().unwrap();
        let output = alice
            .cli(&["share", "add", "x", path, "--to", "all"])
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{path}: {output:?}");
        for part in ["cannot be shared", "keeps its keys", "fix: "] {
            assert!(output.stderr.contains(part), "{path}: {}", output.stderr);
        }
    }
    assert!(alice.ask(&["share", "list"]).unwrap().contains("nothing"));
    share(&alice, "docs", &docs, "all");
}

#[test]
fn machines_of_the_same_host_name_are_told_apart() {
    let lab = Lab::new("names").unwrap();
    let home = lab.internet().home("home", Nat::PortRestricted).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| home.host(name).unwrap());
    let first = Daemon::up(&a, &["--name", "laptop"]).unwrap();
    let link = first.join_link().unwrap();
    let mut others =
        [&b, &c].map(|host| Daemon::up(host, &["--name", "laptop", "--join", &link]).unwrap());
    let names = |others: &[Daemon]| -> Vec<String> {
        others.iter().map(|daemon| daemon.name.clone()).collect()
    };
    assert_eq!(first.name, "laptop");
    assert_eq!(names(&others), ["laptop-2", "laptop-3"]);
    let docs = trap(&a.dir());
    share(&first, "docs", &docs, "laptop-2");
    echo(&others[0], &first);
    assert!(answer(&b, &first, "/docs/").starts_with("HTTP/1.1 200"));
    assert!(answer(&c, &first, "/docs/").starts_with("HTTP/1.1 404"));
    // The names stay when their bearers come back in another order.
    for daemon in &others {
        daemon.kill().unwrap();
    }
    others = [&c, &b].map(|host| Daemon::up(host, &[]).unwrap());
    assert_eq!(names(&others), ["laptop-3", "laptop-2"]);
}
