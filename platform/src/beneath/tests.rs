use super::*;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::{fs::symlink, net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const SECRET: &[u8] = b"outside";
const INSIDE: &[u8] = b"inside";

/// A directory `outside` with a secret, and beside it the root `share`.
struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = Self { directory };
        fs::create_dir_all(tree.share("sub/deep")).expect("mkdir");
        fs::create_dir(tree.outside("")).expect("mkdir");
        fs::write(tree.outside("secret"), SECRET).expect("write");
        fs::write(tree.share("file"), INSIDE).expect("write");
        fs::write(tree.share("sub/file"), INSIDE).expect("write");
        tree
    }

    fn share(&self, path: &str) -> PathBuf {
        self.directory.path().join("share").join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.directory.path().join("outside").join(path)
    }

    fn root(&self) -> OpenRoot {
        OpenRoot::open(&self.share("")).expect("open the root")
    }

    fn walk(&self) -> walk::Root {
        walk::Root::open(&self.share("")).expect("open the root")
    }
}

fn read(root: &OpenRoot, path: &str) -> Result<Vec<u8>, BeneathError> {
    let mut bytes = Vec::new();
    let mut file = root.open_file(Path::new(path))?;
    file.read_to_end(&mut bytes).expect("read");
    Ok(bytes)
}

#[test]
fn files_and_directories_inside_are_opened() {
    let tree = Tree::new();
    let root = tree.root();
    for path in [
        "file",
        "./file",
        "sub/../file",
        "sub/deep/../../file",
        "sub//file",
    ] {
        assert_eq!(read(&root, path).expect(path), INSIDE);
        let metadata = root.metadata(Path::new(path)).expect(path);
        assert_eq!((metadata.is_file(), metadata.len()), (true, 6));
    }
    for path in ["", ".", "sub", "sub/deep/..", "sub/"] {
        root.open_dir(Path::new(path)).expect(path);
        assert!(root.metadata(Path::new(path)).expect(path).is_dir());
    }
    let sub = root.open_dir(Path::new("sub")).expect("open");
    assert_eq!(read(&sub, "file").expect("read"), INSIDE);
    let error = read(&sub, "../file").expect_err("above the new root");
    assert!(matches!(error, BeneathError::Escapes { .. }), "{error}");
}

#[test]
fn links_that_stay_inside_are_followed() {
    let tree = Tree::new();
    symlink("file", tree.share("to-file")).expect("link");
    symlink("../file", tree.share("sub/up")).expect("link");
    symlink("sub/deep", tree.share("to-deep")).expect("link");
    let root = tree.root();
    for path in ["to-file", "sub/up", "to-deep/../up"] {
        assert_eq!(read(&root, path).expect(path), INSIDE);
    }
}

#[test]
fn every_way_out_is_an_escape() {
    let tree = Tree::new();
    symlink(tree.outside("secret"), tree.share("absolute")).expect("link");
    symlink("../outside/secret", tree.share("relative")).expect("link");
    symlink("..", tree.share("parent")).expect("link");
    symlink(tree.share("file"), tree.share("absolute-inside")).expect("link");
    symlink("relative", tree.share("chain")).expect("link");
    symlink("/proc/self/root", tree.share("magic")).expect("link");
    let absolute = tree.outside("secret");
    let root = tree.root();
    for path in [
        "../outside/secret",
        "..",
        "sub/../../outside/secret",
        "../share/file",
        absolute.to_str().expect("text"),
        "/",
        "absolute",
        "relative",
        "parent",
        "parent/outside/secret",
        "absolute-inside",
        "chain",
        "magic/etc/passwd",
    ] {
        let relative = Path::new(path);
        for error in [
            root.open_file(relative).map(drop).expect_err(path),
            root.open_dir(relative).map(drop).expect_err(path),
            root.metadata(relative).map(drop).expect_err(path),
        ] {
            assert!(
                matches!(error, BeneathError::Escapes { .. }),
                "{path}: {error}"
            );
        }
    }
}

#[test]
fn what_is_no_file_or_directory_is_refused_without_waiting() {
    let tree = Tree::new();
    let pipe = tree.share("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("mkfifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.share("null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RWXU,
        rustix::fs::makedev(1, 3),
    )
    .expect("mknod");
    let _listener = UnixListener::bind(tree.share("socket")).expect("bind");
    symlink("pipe", tree.share("to-pipe")).expect("link");
    let root = tree.root();
    for path in ["pipe", "null", "socket", "to-pipe"] {
        let relative = Path::new(path);
        for error in [
            root.open_file(relative).map(drop).expect_err(path),
            root.open_dir(relative).map(drop).expect_err(path),
            root.metadata(relative).map(drop).expect_err(path),
        ] {
            assert!(
                matches!(error, BeneathError::WrongKind { .. }),
                "{path}: {error}"
            );
        }
    }
    let error = root.open_file(Path::new("sub")).expect_err("a directory");
    assert!(matches!(error, BeneathError::WrongKind { .. }), "{error}");
    let error = root
        .open_dir(Path::new("file"))
        .map(drop)
        .expect_err("a file");
    assert!(matches!(error, BeneathError::WrongKind { .. }), "{error}");
}

#[test]
fn what_does_not_exist_is_not_found() {
    let tree = Tree::new();
    symlink("nowhere", tree.share("dangling")).expect("link");
    let root = tree.root();
    for path in ["none", "none/file", "file/below", "dangling"] {
        let error = root.open_file(Path::new(path)).expect_err(path);
        assert!(
            matches!(error, BeneathError::NotFound { .. }),
            "{path}: {error}"
        );
    }
    for path in ["a\0b", &"x".repeat(5_000), "loop"] {
        symlink("loop", tree.share("loop")).ok();
        root.open_file(Path::new(path)).expect_err(path);
    }
}

#[test]
fn a_listing_shows_only_what_can_be_opened() {
    let tree = Tree::new();
    symlink("../outside/secret", tree.share("escape")).expect("link");
    symlink("nowhere", tree.share("dangling")).expect("link");
    symlink("file", tree.share("to-file")).expect("link");
    let _listener = UnixListener::bind(tree.share("socket")).expect("bind");
    let root = tree.root();
    let list = |path: &str| -> BTreeMap<String, bool> {
        let entries = root.read_dir(Path::new(path)).expect("list");
        entries
            .map(|entry| entry.expect("entry"))
            .map(|entry| {
                (
                    entry.name.into_string().expect("text"),
                    entry.metadata.is_dir(),
                )
            })
            .collect()
    };
    let expected = [("file", false), ("sub", true), ("to-file", false)];
    assert_eq!(
        list(""),
        expected.map(|(name, dir)| (name.to_owned(), dir)).into()
    );
    let expected = [("deep", true), ("file", false)];
    assert_eq!(
        list("sub"),
        expected.map(|(name, dir)| (name.to_owned(), dir)).into()
    );
    let error = root.read_dir(Path::new("..")).map(drop).expect_err("above");
    assert!(matches!(error, BeneathError::Escapes { .. }), "{error}");
}

#[test]
fn the_root_is_the_directory_and_not_its_path() {
    let tree = Tree::new();
    let root = tree.root();
    fs::rename(tree.share(""), tree.directory.path().join("moved")).expect("rename");
    symlink("outside", tree.directory.path().join("share")).expect("link");
    assert_eq!(read(&root, "file").expect("read"), INSIDE);
    read(&root, "secret").expect_err("not in the directory that was opened");
}

/// Swaps `sub` for a link to the directory outside and back while `open` is tried again and again.
fn race(open: impl Fn(&Tree, &Path) -> Option<File>) -> (usize, usize) {
    let tree = Tree::new();
    fs::write(tree.outside("file"), SECRET).expect("write");
    symlink("../outside", tree.share("evil")).expect("link");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let (sub, evil) = (tree.share("sub"), tree.share("evil"));
                let here = rustix::fs::CWD;
                rustix::fs::renameat_with(here, sub, here, evil, exchange).expect("exchange");
            }
        });
        let (mut opened, mut refused) = (0, 0);
        // On a busy machine the other thread may stand still for many rounds with the link in place,
        // which would prove nothing: go on until both states were met often.
        let deadline = Instant::now() + Duration::from_secs(20);
        for round in 0u32.. {
            let is_enough = round >= 5_000 && opened >= 100 && refused >= 100;
            if is_enough || Instant::now() > deadline {
                break;
            }
            let path = if round % 2 == 0 {
                "sub/file"
            } else {
                "sub/deep/../file"
            };
            match open(&tree, Path::new(path)) {
                Some(mut file) => {
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).expect("read");
                    assert_eq!(bytes, INSIDE, "never the file outside");
                    opened += 1;
                }
                None => refused += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
        (opened, refused)
    })
}

#[test]
fn swapping_a_directory_for_a_link_never_leads_out() {
    let tree_root = std::cell::OnceCell::new();
    let (opened, refused) = race(|tree, path| {
        let root = tree_root.get_or_init(|| tree.root());
        root.open_file(path).ok()
    });
    assert!(
        opened > 0 && refused > 0,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn swapping_never_leads_out_of_the_component_walk_either() {
    let tree_root = std::cell::OnceCell::new();
    let (opened, refused) = race(|tree, path| {
        let root = tree_root.get_or_init(|| tree.walk());
        root.open_file(path).ok().flatten()
    });
    assert!(
        opened > 0 && refused > 0,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn the_component_walk_gives_the_same_answers_and_follows_no_link() {
    let tree = Tree::new();
    symlink("file", tree.share("to-file")).expect("link");
    symlink("sub", tree.share("to-sub")).expect("link");
    let walk = tree.walk();
    for path in ["file", "./file", "sub/../file", "sub/deep/../file"] {
        assert!(walk.open_file(Path::new(path)).expect(path).is_some());
        assert!(walk.metadata(Path::new(path)).expect(path).is_file());
    }
    for path in [".", "sub", "sub/..", "sub/deep/.."] {
        walk.open_dir(Path::new(path)).expect(path);
        assert!(walk.metadata(Path::new(path)).expect(path).is_dir());
        assert!(walk.open_file(Path::new(path)).expect(path).is_none());
    }
    for path in [
        "..",
        "/",
        "../outside/secret",
        "sub/../../x",
        "to-file",
        "to-sub/file",
        "to-sub",
    ] {
        for error in [
            walk.open_file(Path::new(path)).map(drop).expect_err(path),
            walk.open_dir(Path::new(path)).map(drop).expect_err(path),
            walk.metadata(Path::new(path)).map(drop).expect_err(path),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices, "{path}");
        }
    }
    for path in ["none", "none/file"] {
        let error = walk.open_file(Path::new(path)).expect_err(path);
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
    }
    assert_eq!(walk.names().expect("list").count(), 4);
}

#[test]
fn only_a_plain_name_is_a_component() {
    for name in ["file", "...", ".hidden", "with space", "naïve", "C:"] {
        let component = component(name.as_bytes()).expect(name);
        assert_eq!(component.to_str(), Some(name));
    }
    assert!(component(b"\xff").is_some(), "Unix takes any bytes");
    for name in ["", ".", "..", "/", "a/b", "a/", "/a", "./a", "a/."] {
        assert_eq!(component(name.as_bytes()), None, "{name}");
    }
}
