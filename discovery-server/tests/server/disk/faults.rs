//! When and how the disk under a server fails: the program is run with `faults.c` between itself and the C library.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::harness::BINARY;

/// What fails, as in `faults.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Calls {
    Writes = 1,
    Syncs = 2,
    Sizes = 4,
    Opens = 8,
    /// Each of these, and each change of a name.
    All = 31,
    /// Second names of a file.
    Links = 32,
}

/// How it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) calls: Calls,
    /// `errno`; 0 kills the program instead, before the call.
    pub(crate) error: i32,
    /// How many calls fail.
    pub(crate) many: i32,
}

/// A disk that does as it is told.
pub(crate) struct Disk {
    plan: File,
    path: PathBuf,
}

impl Disk {
    /// One that works, with its plan in that directory.
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join("faults");
        fs::write(&path, [0; 20]).unwrap();
        let plan = File::options().read(true).write(true).open(&path).unwrap();
        Self { plan, path }
    }

    /// The program on this disk, with its first argument.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg(subcommand)
            .env("LD_PRELOAD", library())
            .env("FAULTS", &self.path);
        command
    }

    /// From now on the calls behind so many fail.
    pub(crate) fn fails(&self, fault: Fault, behind: i32) {
        let plan = [fault.calls as i32, fault.error, behind, fault.many, 0];
        self.write(plan);
    }

    /// Works again; how many calls have failed.
    pub(crate) fn works(&self) -> i32 {
        let mut failed = [0; 4];
        self.plan.read_exact_at(&mut failed, 16).unwrap();
        self.write([0; 5]);
        i32::from_ne_bytes(failed)
    }

    fn write(&self, plan: [i32; 5]) {
        // What fails comes last: the rest of the plan must stand by then.
        let bytes: Vec<u8> = plan.iter().flat_map(|it| it.to_ne_bytes()).collect();
        self.plan.write_all_at(&[0; 4], 0).unwrap();
        self.plan.write_all_at(&bytes[4..], 4).unwrap();
        self.plan.write_all_at(&bytes[..4], 0).unwrap();
    }
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faults.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/disk/faults.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        let compiled = cc.arg(&path).args([source, "-ldl"]).status();
        assert!(compiled.unwrap().success(), "cc did not compile faults.c");
        (directory, path)
    });
    path
}
